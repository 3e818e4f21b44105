"""Writes an imported tool into a tools root, or removes it: as a whole or not at all."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from services.contracts.errors import FailedPrecondition, NotFound, Unavailable
from services.contracts.toolbench.names import standardize
from services.kit.files import file_lock
from services.toolenv.catalog import REQUIREMENTS_FILE, TESTS_FILE
from services.toolenv.documents import Refusal
from services.toolenv.importers.imported import ImportedTool, ToolRefused, category_name

_LOCK = ".lock"
_STAGE_PREFIX = ".importing-"  # folders that begin with a dot are no categories


def install(
    root: Path,
    tool: ImportedTool,
    *,
    check: Callable[[Path], list[Refusal]],
    replace: bool = False,
) -> Path:
    """Write a tool's files below `root`, which is made when missing.

    The code is put in place before its document, so nobody sees a document without its code. A
    failure or a crash leaves what was there, or code that no document names.

    Args:
        root: The tools root.
        tool: What to write.
        check: Given the staged document, what is wrong with the tool (`validate.validate_tool`).
        replace: Whether a tool of the same name may be overwritten.

    Returns:
        The document's path.

    Raises:
        ToolRefused: The check failed.
        FailedPrecondition: There is such a tool and `replace` is false.
        Unavailable: The folder cannot be written, or another import holds it.
    """
    with _writing(root), _stage(root) as stage:
        document = _write(stage, tool)
        refusals = check(document)
        if refusals:
            raise ToolRefused(refusals)
        target = root / tool.category / document.name
        if target.exists() and not replace:
            raise FailedPrecondition(
                f"{tool.category}/{tool.tool} exists already; remove it, use --replace, or choose "
                "another --name"
            )
        target.parent.mkdir(exist_ok=True)
        _swap(document.parent / tool.tool, target.parent / tool.tool, aside=stage / "old")
        os.replace(document, target)
    return target


def remove(root: Path, category: str, tool: str) -> None:
    """Remove a tool's files below `root`.

    Raises:
        NotFound: There is no such tool there.
        Unavailable: The folder cannot be written, or an import holds it.
    """
    if standardize(tool) != tool or category_name(category) != category:
        raise NotFound(f"{category[:100]}/{tool[:100]} is no tool's standard name")
    document = root / category / f"{tool}.json"
    if not document.is_file():
        raise NotFound(
            f"there is no {category}/{tool} in {str(root)!r}; only tools that were added can be "
            "removed"
        )
    with _writing(root), _stage(root) as stage:
        os.replace(document, stage / document.name)
        folder = root / category / tool
        if folder.is_dir() and not folder.is_symlink():
            os.replace(folder, stage / "old")


@contextmanager
def _writing(root: Path) -> Iterator[None]:
    try:
        with file_lock(root / _LOCK):
            yield
    except OSError as exc:
        raise Unavailable(
            f"{str(root)!r} cannot be written: {exc.strerror}; free space or choose a writable "
            "TOOLWRIGHT_HOME"
        ) from exc


@contextmanager
def _stage(root: Path) -> Iterator[Path]:
    stage = Path(tempfile.mkdtemp(dir=root, prefix=_STAGE_PREFIX))
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _write(stage: Path, tool: ImportedTool) -> Path:
    category = stage / tool.category
    category.mkdir()
    document = category / f"{tool.tool}.json"
    text = json.dumps(tool.document, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    _write_file(document, text)
    if tool.code is not None:
        (category / tool.tool).mkdir()
        _write_file(category / tool.tool / "api.py", tool.code)
        if tool.requirements is not None:
            _write_file(category / tool.tool / REQUIREMENTS_FILE, tool.requirements)
        if tool.tests is not None:
            _write_file(category / tool.tool / TESTS_FILE, tool.tests)
    return document


def _write_file(path: Path, text: str) -> None:
    with path.open("wb") as stream:
        stream.write(text.encode("utf-8"))
        stream.flush()
        os.fsync(stream.fileno())


def _swap(new: Path, target: Path, *, aside: Path) -> None:
    """Put a tool's folder in place; none when the tool has no code."""
    if target.is_dir() and not target.is_symlink():
        os.replace(target, aside)
    elif os.path.lexists(target):
        target.unlink()
    if new.is_dir():
        os.replace(new, target)
