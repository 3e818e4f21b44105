"""Corrections of what documents say about side effects, in `effects.json` of the users' folder.

A crawled document knows only an HTTP method, and a server may claim what is not so. The person who
runs Toolwright has the last word, without changing the document: a changed document is another
tool, see `services.toolenv.pins`. A correction names one API or a whole tool; the API's own wins.
"""

import difflib
import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, TypeAdapter, ValidationError

from services.contracts.apis import SideEffect
from services.contracts.errors import FailedPrecondition, InvalidArgument, NotFound
from services.kit.files import file_lock, write_atomically
from services.toolenv.catalog import Catalogue, CatalogueEntry
from services.toolenv.documents import Refusal

EFFECTS_FILE: Final = "effects.json"
_LOCK: Final = ".effects.lock"
_ADDRESS: Final = re.compile(r"[^/]+/[^/]+(/[^/]+)?")
_MAX_COMPARED: Final = 2_000  # addresses; likeness takes time
_MAX_COMPARED_CHARS: Final = 200
_EFFECTS = TypeAdapter(dict[Annotated[str, Field(max_length=1600)], SideEffect])


class EffectBook:
    """The corrections of one folder. Blocking file access."""

    def __init__(self, folder: Path) -> None:
        """Bind the folder; nothing is read yet."""
        self.path = folder / EFFECTS_FILE

    def read(self) -> dict[str, SideEffect]:
        """Every correction by `category/tool` or `category/tool/api`.

        Raises:
            FailedPrecondition: The file cannot be used.
        """
        try:
            return _EFFECTS.validate_json(self.path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValidationError) as exc:
            raise FailedPrecondition(
                f"{str(self.path)!r} cannot be used ({type(exc).__name__}): write an object of "
                f'"category/tool/api" or "category/tool" with {", ".join(SideEffect)}, or remove it'
            ) from exc

    def correct(
        self, address: str, effect: SideEffect | None, *, known: Catalogue | None = None
    ) -> None:
        """Correct an API or a tool; `None` lets the document speak for itself again.

        Args:
            address: Of the API or the tool.
            effect: What a call does.
            known: Must have what is corrected; what is taken back may be gone.

        Raises:
            InvalidArgument: It is no address.
            NotFound: `known` lacks it.
            FailedPrecondition: The file cannot be used.
            Unavailable: It cannot be written.
        """
        if not _ADDRESS.fullmatch(address):
            raise InvalidArgument(f"{address!r} is neither category/tool nor category/tool/api")
        if known is not None and effect is not None:
            _require_known(address, known)
        with file_lock(self.path.parent / _LOCK):
            corrections = self.read()
            corrections.pop(address, None)
            if effect is not None:
                corrections[address] = effect
            ordered = dict(sorted(corrections.items()))
            write_atomically(self.path, _EFFECTS.dump_json(ordered, indent=1) + b"\n")

    def applied(self, catalogue: Catalogue) -> Catalogue:
        """The catalogue with the corrections; one that fits nothing is among its refusals.

        Raises:
            FailedPrecondition: The file cannot be used.
        """
        corrections = self.read()
        if not corrections:
            return catalogue
        unused = set(corrections)
        entries: list[CatalogueEntry] = []
        for entry in catalogue.entries():
            addresses = _addresses(entry)
            unused.difference_update(addresses)
            effect = next((corrections[a] for a in addresses if a in corrections), None)
            entries.append(_corrected(entry, effect))
        refusals = [
            Refusal(EFFECTS_FILE, address, "there is no such API or tool", "correct or remove it")
            for address in sorted(unused)
        ]
        return Catalogue(entries, (*catalogue.refusals, *refusals))


def _require_known(address: str, catalogue: Catalogue) -> None:
    addresses = dict.fromkeys(each for entry in catalogue.entries() for each in _addresses(entry))
    if address in addresses:
        return
    category = address.partition("/")[0]
    siblings = [each for each in addresses if each.partition("/")[0] == category]
    pool = (siblings or list(addresses))[:_MAX_COMPARED]
    near = difflib.get_close_matches(address[:_MAX_COMPARED_CHARS], pool, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "`toolwright tools list` shows all"
    raise NotFound(f"there is no API or tool {address[:_MAX_COMPARED_CHARS]!r}; {hint}")


def _addresses(entry: CatalogueEntry) -> tuple[str, str]:
    """The API's own address, then its tool's."""
    ref = entry.document.ref
    return str(ref), f"{ref.category}/{ref.tool}"


def _corrected(entry: CatalogueEntry, effect: SideEffect | None) -> CatalogueEntry:
    if effect is None:
        return entry
    document = entry.document.model_copy(update={"declared_effect": effect})
    return replace(entry, document=document)
