"""The prompt profiles that a request can name: ours, and the one a user imported."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from services.contracts.base import WireModel
from services.contracts.compat import Compat
from services.contracts.errors import FailedPrecondition, InvalidArgument
from services.kit.files import write_atomically
from services.planner.prompts.base import PromptProfile
from services.planner.prompts.compact import CompactPrompts
from services.planner.prompts.published import (
    FINGERPRINTS,
    is_genuine,
    published_texts,
    texts_of,
)
from services.planner.prompts.toolbench import ToolBenchPrompts

TOOLLLAMA: Final = "toolllama"
_NEEDED: Final = frozenset({"system", "header", "finish"})
"""Without these the profile would not be the one that the checkpoint knows."""


class _Stored(WireModel):
    """What the library's file holds."""

    format: int = 1
    texts: dict[str, str]


@dataclass(frozen=True, slots=True)
class Imported:
    """What a file gave."""

    found: tuple[str, ...]
    """Genuine texts of this file."""
    missing: tuple[str, ...]
    """Texts that neither this file nor an earlier one gave; our own words stand in."""


class PromptLibrary:
    """Prompt profiles by name. Safe to use from several processes."""

    def __init__(self, folder: Path | None) -> None:
        """Use a folder for imported texts.

        Args:
            folder: Made when the first text is imported; `None` offers only our own profiles.
        """
        self._file = folder / f"{TOOLLLAMA}.json" if folder is not None else None

    def names(self) -> tuple[str, ...]:
        """Profiles that can be used now."""
        usable = self._texts().keys() >= _NEEDED
        return ("compact", "toolbench", *((TOOLLLAMA,) if usable else ()))

    def profile(self, name: str | None, *, compat: Compat) -> PromptProfile:
        """The profile of that name; without a name, the one that `compat` means.

        Raises:
            InvalidArgument: There is no such profile.
            FailedPrecondition: It was not imported, or not completely.
        """
        chosen = name or ("toolbench" if compat.toolbench_prompts else "compact")
        if chosen == "compact":
            return CompactPrompts()
        if chosen == "toolbench":
            return ToolBenchPrompts()
        if chosen != TOOLLLAMA:
            known = ", ".join(("compact", "toolbench", TOOLLLAMA))
            raise InvalidArgument(f"unknown prompt profile {chosen[:80]!r}; use one of {known}")
        texts = self._texts()
        lacking = sorted(_NEEDED - texts.keys())
        if lacking:
            raise FailedPrecondition(
                f"profile {TOOLLLAMA!r} lacks {', '.join(lacking)}; "
                "run `toolwright prompts import FILE` with a published training or answer file"
            )
        return ToolBenchPrompts(texts_of(texts), name=TOOLLLAMA)

    def import_file(self, file: Path) -> Imported:
        """Take ToolLLaMA's texts from a published file; texts of earlier imports stay.

        Raises:
            InvalidArgument: The file cannot be read, or holds no genuine text.
            FailedPrecondition: This library has no folder.
            Unavailable: The folder cannot be written.
        """
        if self._file is None:
            raise FailedPrecondition("this planner keeps no prompts; set TOOLWRIGHT_HOME")
        known = self._texts()
        try:
            with file.open("rb") as stream:
                found = published_texts(stream, known=known)
        except OSError as exc:
            raise InvalidArgument(f"{str(file)!r} cannot be read: {exc.strerror}") from exc
        except InvalidArgument as exc:
            raise InvalidArgument(f"{str(file)!r}: {exc.detail}") from exc
        texts = {**known, **found}
        stored = _Stored(texts=texts).model_dump_json(indent=2) + "\n"
        write_atomically(self._file, stored.encode())
        missing = tuple(sorted(FINGERPRINTS.keys() - texts.keys()))
        return Imported(found=tuple(sorted(found)), missing=missing)

    def _texts(self) -> Mapping[str, str]:
        """What was imported, checked again: whoever can write the file cannot pass other texts."""
        if self._file is None or not self._file.exists():
            return {}
        try:
            texts = _Stored.model_validate_json(self._file.read_bytes()).texts
        except (OSError, ValidationError) as exc:
            raise FailedPrecondition(
                f"{str(self._file)!r} is damaged; remove it and import the texts again"
            ) from exc
        foreign = sorted(
            field
            for field, text in texts.items()
            if field not in FINGERPRINTS or not is_genuine(field, text)
        )
        if foreign:
            raise FailedPrecondition(
                f"{', '.join(foreign)} in {str(self._file)!r} is not the published text (SHA-256); "
                "remove the file and import the texts again"
            )
        return texts
