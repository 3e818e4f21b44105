"""Pins what a tool says about itself: a description that changes is quarantined until approved.

A tool's text is read by a model that can act. Whoever may change it later, an MCP server, an
OpenAPI host, a file on a shared disk, can have the model do other things than those the operator
looked at. So the descriptor of a tool (documents of all its APIs, schemas, endpoints and the hosts
that its code may reach; not the code) is hashed when it is first seen. A tool whose hash is another
one afterwards is not offered at
all: neither with the new text, nor with the old text in front of a changed tool.

The pins are one JSON file; the descriptors they stand for are kept beside it, to show what changed.
"""

import dataclasses
import difflib
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Final, NamedTuple

from pydantic import Field, JsonValue, TypeAdapter, ValidationError

from services.contracts.base import WireModel
from services.contracts.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable
from services.kit.files import file_lock, write_atomically
from services.toolenv.catalog import Catalogue, CatalogueEntry
from services.toolenv.documents import Refusal

_FILE, _LOCK, _DESCRIPTORS = "pins.json", ".pins.lock", "descriptors"
_MAX_DIFF_LINES: Final = 400
_MIN_DIGEST_CHARS = 8  # an approval names at least so much of the digest that was looked at


class Pin(WireModel):
    """What was seen, or approved, of one tool."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    pinned_at: float
    """Unix time, seconds."""
    is_approved: bool = False
    """Whether a person approved it; else it was pinned at first sight."""


class Quarantined(NamedTuple):
    """A tool that is not offered because its descriptor is not the pinned one."""

    tool: str
    """`category/tool`."""
    pinned_sha256: str
    """Empty when it could not be pinned."""
    found_sha256: str
    reason: str
    """For the model and the operator, with the fix."""


class Admitted(NamedTuple):
    """The part of a catalogue that may be offered."""

    catalogue: Catalogue
    quarantined: dict[tuple[str, str], Quarantined]
    """By category and tool, in standard form."""


_PINS = TypeAdapter(dict[Annotated[str, Field(max_length=1100)], Pin])


class Pins:
    """The pins of one folder; safe to use from several processes. Blocking file access."""

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.time) -> None:
        """Bind the folder; nothing is read yet.

        Args:
            folder: Holds `pins.json`, and the descriptors in `descriptors/`.
            clock: Unix time, seconds.
        """
        self._folder = folder
        self._clock = clock

    def read(self) -> dict[str, Pin]:
        """Every pin by `category/tool`.

        Raises:
            FailedPrecondition: The file cannot be used.
        """
        path = self._folder / _FILE
        try:
            return _PINS.validate_json(path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValidationError) as exc:
            raise FailedPrecondition(
                f"{str(path)!r} cannot be used ({type(exc).__name__}), so no tool's text can be "
                "trusted; restore it, or remove it to pin every tool anew as it is now"
            ) from exc

    def admit(self, catalogue: Catalogue) -> Admitted:
        """The tools whose descriptor is the pinned one; those never seen before are pinned.

        A pin that cannot be written keeps its tool out, not the others.

        Raises:
            FailedPrecondition: The pins cannot be read.
        """
        found = descriptors(catalogue.entries())
        pins = self.read()
        problem = ""
        if any(_name(key) not in pins for key in found):
            try:
                pins = self._pin_new(found)
            except Unavailable as exc:
                problem = exc.detail
        quarantined: dict[tuple[str, str], Quarantined] = {}
        for key, descriptor in found.items():
            pin = pins.get(_name(key))
            if pin is None or pin.sha256 != descriptor.sha256:
                quarantined[key] = _quarantine(_name(key), pin, descriptor.sha256, problem)
        return Admitted(_without(catalogue, quarantined), quarantined)

    def approve(self, tool: str, catalogue: Catalogue, *, sha256: str) -> Pin:
        """Pin a tool as it is now.

        Args:
            tool: `category/tool`.
            catalogue: All tools, quarantined ones included.
            sha256: The digest that was looked at, or its beginning; a tool that changed again since
                is not approved.

        Raises:
            NotFound: There is no such tool.
            InvalidArgument: It is another descriptor that is there now.
            FailedPrecondition: The pins cannot be read.
            Unavailable: They cannot be written.
        """
        descriptor = _find(tool, catalogue)
        if len(sha256) < _MIN_DIGEST_CHARS or not descriptor.sha256.startswith(sha256.lower()):
            raise InvalidArgument(
                f"{tool} is now {descriptor.sha256[:16]}, not {sha256[:16]!r}; look at it again "
                f"and approve what you saw by at least {_MIN_DIGEST_CHARS} of its digits"
            )
        pin = Pin(sha256=descriptor.sha256, pinned_at=self._clock(), is_approved=True)
        with file_lock(self._folder / _LOCK):
            self._keep(descriptor)
            self._write({**self.read(), tool: pin})
        return pin

    def forget(self, tool: str) -> None:
        """Drop the pin of a tool that is gone; when it comes again, it is seen for the first time.

        Args:
            tool: `category/tool`; nothing happens when it has no pin.

        Raises:
            FailedPrecondition: The pins cannot be read.
            Unavailable: They cannot be written.
        """
        with file_lock(self._folder / _LOCK):
            pins = self.read()
            if pins.pop(tool, None) is not None:
                self._write(pins)

    def difference(self, tool: str, catalogue: Catalogue) -> list[str]:
        """What changed between the pinned and the present descriptor, as lines of a unified diff.

        Empty when nothing did; one line that says so when the pinned text is not kept.

        Raises:
            NotFound: There is no such tool, or it has no pin.
            FailedPrecondition: The pins cannot be read.
        """
        descriptor = _find(tool, catalogue)
        pin = self.read().get(tool)
        if pin is None:
            raise NotFound(f"{tool} has no pin yet; it gets one when the catalogue is loaded")
        if pin.sha256 == descriptor.sha256:
            return []
        before = self._kept(pin.sha256)
        if before is None:
            return [f"the text of {pin.sha256[:16]} is not kept; look at all of {tool}"]
        lines = difflib.unified_diff(
            _lines(before),
            _lines(descriptor.text),
            fromfile=f"pinned {pin.sha256[:16]}",
            tofile=f"now {descriptor.sha256[:16]}",
            lineterm="",
        )
        shown = [line for line, _ in zip(lines, range(_MAX_DIFF_LINES + 1), strict=False)]
        if len(shown) > _MAX_DIFF_LINES:
            shown[_MAX_DIFF_LINES:] = [f"… more than {_MAX_DIFF_LINES} lines"]
        return shown

    def _pin_new(self, found: dict[tuple[str, str], "Descriptor"]) -> dict[str, Pin]:
        with file_lock(self._folder / _LOCK):
            pins = self.read()
            for key, descriptor in found.items():
                if _name(key) not in pins:
                    self._keep(descriptor)
                    pins[_name(key)] = Pin(sha256=descriptor.sha256, pinned_at=self._clock())
            self._write(pins)
        return pins

    def _write(self, pins: dict[str, Pin]) -> None:
        write_atomically(
            self._folder / _FILE, _PINS.dump_json(dict(sorted(pins.items())), indent=1)
        )

    def _keep(self, descriptor: "Descriptor") -> None:
        """Keep a descriptor's text; not durably, because it is for showing only."""
        path = self._folder / _DESCRIPTORS / f"{descriptor.sha256}.json"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(descriptor.text.encode())
        except OSError as exc:
            raise Unavailable(
                f"{str(path)!r} cannot be written: {exc.strerror}; free space or choose a writable "
                "TOOLWRIGHT_HOME"
            ) from exc

    def _kept(self, sha256: str) -> str | None:
        try:
            content = (self._folder / _DESCRIPTORS / f"{sha256}.json").read_bytes()
        except OSError:
            return None
        return content.decode() if hashlib.sha256(content).hexdigest() == sha256 else None


class Descriptor(NamedTuple):
    """What one tool says about itself, as canonical JSON."""

    text: str
    sha256: str


def descriptors(entries: Iterable[CatalogueEntry]) -> dict[tuple[str, str], Descriptor]:
    """The descriptor of every tool, by category and tool in standard form.

    It holds the documents, the endpoints and the further hosts of the tool's APIs in order of their
    names. White space and order of keys in the file do not count.
    """
    tools: dict[tuple[str, str], list[CatalogueEntry]] = {}
    for entry in entries:
        ref = entry.document.ref
        tools.setdefault((ref.category, ref.tool), []).append(entry)
    return {key: _descriptor(apis) for key, apis in tools.items()}


def _descriptor(apis: Sequence[CatalogueEntry]) -> Descriptor:
    # What is empty is left out where the format had no room for it once, so that older pins stand.
    said: list[JsonValue] = [
        {
            "document": _document(entry),
            "endpoint": None
            if entry.endpoint is None
            else {"kind": type(entry.endpoint).__name__, **dataclasses.asdict(entry.endpoint)},
            **({"hosts": list(entry.hosts)} if entry.hosts else {}),
        }
        for entry in sorted(apis, key=lambda entry: entry.document.ref.api)
    ]
    text = json.dumps(said, sort_keys=True, separators=(",", ":"))
    return Descriptor(text, hashlib.sha256(text.encode()).hexdigest())


def _document(entry: CatalogueEntry) -> JsonValue:
    unset = {"inverse"} if entry.document.inverse is None else None
    document: JsonValue = entry.document.model_dump(mode="json", exclude=unset)
    return document


def _find(tool: str, catalogue: Catalogue) -> Descriptor:
    category, _, name = tool.partition("/")
    entries = [entry for entry in catalogue.entries() if entry.document.ref.category == category]
    found = descriptors(entries).get((category, name))
    if found is None:
        raise NotFound(f"there is no tool {tool!r}; name it as category/tool, as in `tools list`")
    return found


def _quarantine(tool: str, pin: Pin | None, found: str, problem: str) -> Quarantined:
    if pin is None:
        return Quarantined(tool, "", found, f"{tool} is not offered: {problem}")
    reason = (
        f"{tool} is quarantined: what it says about itself changed from {pin.sha256[:16]} to "
        f"{found[:16]}; an operator may look with `toolwright tools quarantine {tool}` and then "
        f"`toolwright tools approve {tool}`"
    )
    return Quarantined(tool, pin.sha256, found, reason)


def _without(catalogue: Catalogue, quarantined: dict[tuple[str, str], Quarantined]) -> Catalogue:
    if not quarantined:
        return catalogue
    entries = [
        entry
        for entry in catalogue.entries()
        if (entry.document.ref.category, entry.document.ref.tool) not in quarantined
    ]
    refusals = [
        Refusal(f"{item.tool}.json", "file", item.reason, "approve or remove it")
        for item in quarantined.values()
    ]
    return Catalogue(entries, (*catalogue.refusals, *refusals))


def _name(key: tuple[str, str]) -> str:
    return "/".join(key)


def _lines(text: str) -> list[str]:
    return json.dumps(json.loads(text), indent=1, sort_keys=True).splitlines()
