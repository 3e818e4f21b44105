"""The catalogue of callable APIs, read from ToolBench tool trees (interop 1.1 and 1.4).

A tree is `<root>/<Category>/<tool>.json` with the tool's optional code in `<tool>/api.py` and the
packages that needs in `<tool>/requirements.txt`. It is read once, documents and code together, so a
call never runs code newer than its document.
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from services.contracts.apis import MAX_NAME_CHARS, ApiDocument, ApiRef
from services.contracts.errors import FailedPrecondition
from services.contracts.toolbench.names import api_identifier, standardize, standardize_category
from services.toolenv.documents import Refusal, parse_document
from services.toolenv.endpoints import Endpoint

MAX_DOCUMENT_BYTES = 4 << 20
MAX_CODE_BYTES = 256 << 10
"""Longest `api.py`; published ones stay below 100 KB."""
_MAX_FOUND = 32_768
_MAX_FOUND_CHARS = 256


REQUIREMENTS_FILE = "requirements.txt"
TESTS_FILE = "tests.py"
"""Kept beside `api.py` for `toolwright tools test`; nothing else reads it."""
MAX_REQUIREMENTS_BYTES = 8 << 10
MAX_REQUIREMENTS = 32
"""Packages of one tool; each set of packages costs a folder and a zygote."""
_REQUIREMENT = re.compile(
    r"([A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?)==([0-9A-Za-z][0-9A-Za-z.!+_-]{0,63})"
)


def parse_requirements(content: bytes) -> tuple[str, ...]:
    """The pinned packages of a `requirements.txt`, names in the form of PEP 503, sorted.

    Raises:
        ValueError: A line is neither empty, nor a comment, nor `name==version`; or there are too
            many. Options, URLs, ranges and markers are refused: a pin means one thing everywhere.
    """
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as exc:
        raise ValueError(f"byte {exc.start} is not UTF-8") from exc
    found: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        text = line.split("#", 1)[0].strip()
        if not text:
            continue
        match = _REQUIREMENT.fullmatch(text)
        if match is None:
            raise ValueError(f"line {number}, {text[:100]!r}, is not name==version")
        name = re.sub(r"[-_.]+", "-", match[1]).lower()
        if found.setdefault(name, match[2]) != match[2]:
            raise ValueError(f"line {number} pins {name!r} to a second version")
    if len(found) > MAX_REQUIREMENTS:
        raise ValueError(f"{len(found)} packages exceed the limit of {MAX_REQUIREMENTS}")
    return tuple(f"{name}=={found[name]}" for name in sorted(found))


@dataclass(frozen=True, slots=True)
class ToolCode:
    """The code of one tool, as read when the catalogue was loaded."""

    path: Path
    source: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """One callable API: its document, and what there is to execute it with."""

    document: ApiDocument
    code: ToolCode | None = None
    endpoint: Endpoint | None = None
    """Where it lives outside, for the `live` executor."""
    dependencies: tuple[str, ...] = ()
    """Packages that the code needs, as `name==version`, sorted."""
    hosts: tuple[str, ...] = ()
    """Hosts that the code may reach beside that of the endpoint; `*.` stands for all below."""


class Catalogue:
    """APIs by address, and what was refused. Immutable; safe to share."""

    def __init__(
        self, entries: Iterable[CatalogueEntry] = (), refusals: Iterable[Refusal] = ()
    ) -> None:
        ordered = sorted(entries, key=lambda entry: str(entry.document.ref))
        self._entries = {entry.document.ref: entry for entry in ordered}
        self._categories = {
            name: entry.document.ref.category
            for entry in ordered
            for name in (entry.document.ref.category, entry.document.category_name)
        }
        self.refusals = tuple(refusals)
        # Spellings that were resolved before: standardising names takes longer than a replay's
        # look-up. Bounded, because callers choose the spellings.
        self._found: dict[tuple[str, str, str], CatalogueEntry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, ref: ApiRef) -> CatalogueEntry | None:
        """The API at an address, `None` when there is none."""
        return self._entries.get(ref)

    def find(self, *, category_name: str, tool_name: str, api_name: str) -> CatalogueEntry | None:
        """The API that a query file names, raw or standard, as the reference resolves it [1.4]."""
        names = (category_name, tool_name, api_name)
        entry = self._found.get(names)
        if entry is None:
            entry = self._resolve(category_name, tool_name, api_name)
            is_short = sum(map(len, names)) <= _MAX_FOUND_CHARS
            if entry is not None and is_short and len(self._found) < _MAX_FOUND:
                self._found[names] = entry
        return entry

    def _resolve(self, category_name: str, tool_name: str, api_name: str) -> CatalogueEntry | None:
        tool, api = standardize(tool_name), api_identifier(api_name)
        if not (tool and api and len(tool) <= MAX_NAME_CHARS and len(api) <= MAX_NAME_CHARS):
            return None
        for name in (category_name, standardize_category(category_name)):
            category = self._categories.get(name)
            if category is not None:
                return self._entries.get(ApiRef(category=category, tool=tool, api=api))
        return None

    def refs_of_category(self, category: str) -> list[ApiRef]:
        """Addresses of one category, in order; empty when there is none."""
        return [ref for ref in self._entries if ref.category == category]

    def entries(self) -> list[CatalogueEntry]:
        """Every API, ordered by address."""
        return list(self._entries.values())

    def documents(self) -> list[ApiDocument]:
        """Every document, ordered by address."""
        return [entry.document for entry in self._entries.values()]


def load_catalogue(roots: Sequence[Path]) -> Catalogue:
    """Read every tool document below `roots`; blocking file access.

    A file that cannot be used is named in `Catalogue.refusals` and does not stop the others. An
    address that occurs twice belongs to the first root, then to the first file by name.

    Raises:
        FailedPrecondition: A root is not a readable folder.
    """
    loader = _Loader()
    for root in roots:
        loader.load_root(root)
    return Catalogue(loader.entries, loader.refusals)


class _Loader:
    def __init__(self) -> None:
        self.entries: list[CatalogueEntry] = []
        self.refusals: list[Refusal] = []
        self._files: dict[tuple[str, str], str] = {}

    def load_root(self, root: Path) -> None:
        try:
            real_root = os.path.realpath(root)
            categories = sorted(_folders(real_root))
        except OSError as exc:
            raise FailedPrecondition(
                f"tools root {str(root)!r} cannot be read ({exc.strerror}); "
                "set TOOLENV_TOOLS_ROOTS to folders laid out as <Category>/<tool>.json"
            ) from exc
        for category in categories:
            try:
                names = sorted(os.listdir(os.path.join(real_root, category)))
            except OSError as exc:
                shown = category.encode("unicode_escape").decode()
                self._refuse(shown, f"it cannot be read: {exc.strerror}", "check its access")
                continue
            for name in names:
                if name.endswith(".json"):
                    self._load_tool(real_root, category, name)

    def _load_tool(self, root: str, category: str, name: str) -> None:
        file = f"{category}/{name}"
        if not file.isprintable():
            # Neither JSON (half characters) nor a terminal (control characters) takes it as it is.
            shown = file.encode("unicode_escape").decode()
            self._refuse(shown, "its name holds characters that cannot be shown", "rename it")
            return
        tool = name.split(".", 1)[0]
        if not tool or standardize(tool) != tool:
            self._refuse(
                file,
                f"{tool!r} is not a standard tool name, so no query can reach it",
                f"rename the file to {standardize(tool) or 'tool'}.json",
            )
            return
        ref_category = standardize_category(category)
        owner = self._files.setdefault((ref_category, tool), f"{root}/{file}")
        if owner != f"{root}/{file}":
            self._refuse(file, f"{ref_category}/{tool} is already loaded from {owner}", "rename it")
            return
        content = self._read(root, file, limit_bytes=MAX_DOCUMENT_BYTES)
        if content is None:
            return
        parsed = parse_document(
            content, file=file, category_name=category, ref_category=ref_category, tool=tool
        )
        self.refusals += parsed.refusals
        if parsed.apis:
            code = self._load_code(root, f"{category}/{tool}/api.py")
            dependencies = self._load_dependencies(root, f"{category}/{tool}/{REQUIREMENTS_FILE}")
            if dependencies is None:  # the code would fail in the middle of a call
                code, dependencies = None, ()
            hosts = parsed.origin.hosts if parsed.origin is not None else ()
            self.entries += [
                CatalogueEntry(api, code, parsed.endpoints.get(api.ref), dependencies, hosts)
                for api in parsed.apis
            ]

    def _load_dependencies(self, root: str, file: str) -> tuple[str, ...] | None:
        """What the code needs; a refusal and `None` when the file is not of the form."""
        if not os.path.lexists(os.path.join(root, file)):
            return ()
        content = self._read(root, file, limit_bytes=MAX_REQUIREMENTS_BYTES)
        if content is None:
            return None
        try:
            return parse_requirements(content)
        except ValueError as exc:
            fix = "write lines of the form name==version"
            self.refusals.append(Refusal(file, "file", str(exc), fix))
            return None

    def _load_code(self, root: str, file: str) -> ToolCode | None:
        if not os.path.lexists(os.path.join(root, file)):
            return None
        content = self._read(root, file, limit_bytes=MAX_CODE_BYTES)
        if content is None:
            return None
        try:
            return ToolCode(Path(root, file), content.decode("utf-8-sig"))
        except UnicodeDecodeError as exc:
            self._refuse(file, f"byte {exc.start} is not UTF-8", "save it as UTF-8")
            return None

    def _read(self, root: str, file: str, *, limit_bytes: int) -> bytes | None:
        """The bytes of a regular file below `root`; a refusal and `None` otherwise."""
        path = os.path.join(root, file)
        if not os.path.realpath(path).startswith(root + os.sep):
            self._refuse(file, "it is a link that leads out of the tools root", "copy the file")
            return None
        if not os.path.isfile(path):  # opening a pipe would wait for a writer for ever
            self._refuse(file, "it is not a regular file", "replace it by a file")
            return None
        try:
            with open(path, "rb") as stream:
                content = stream.read(limit_bytes + 1)
        except OSError as exc:
            self._refuse(file, f"it cannot be read: {exc.strerror}", "check its access rights")
            return None
        if len(content) > limit_bytes:
            self._refuse(file, f"it exceeds the limit of {limit_bytes} bytes", "split the tool")
            return None
        return content

    def _refuse(self, file: str, reason: str, fix: str) -> None:
        self.refusals.append(Refusal(file, "file", reason, fix))


def _folders(root: str) -> Iterator[str]:
    with os.scandir(root) as found:
        for entry in found:
            if entry.is_dir() and not entry.name.startswith((".", "_")):
                yield entry.name
