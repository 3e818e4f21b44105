"""Python packages for tools: pinned sets of distributions, copied from the running environment.

Nothing is ever downloaded. A tool names what it needs as `name==version` lines; a line is accepted
when exactly that version is installed next to the service, and what the distribution requires
itself comes along. Every sandbox holds the base set.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

BASE = ("requests", "httpx", "tzdata")
MANIFEST = "toolwright-site.json"  # in the site folder: what was copied, with versions
_MAX_LINES = 32
_MAX_DISTRIBUTIONS = 64
_LINE = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*==\s*([A-Za-z0-9.+!_-]+)")
_LEFT_OUT_SUFFIXES = (".pyc", ".pyo", ".pth", ".a", ".exe")
_LEFT_OUT_PARTS = frozenset({"__pycache__", "..", "tests", "test"})
_LEFT_OUT_NAMES = frozenset({"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"})


class DependencyError(ValueError):
    """A dependency set that cannot be provided; the text names the line, the pin and the fix."""


class Pin(NamedTuple):
    """One distribution in exactly one version."""

    name: str
    version: str

    def __str__(self) -> str:
        """The form of a requirements file."""
        return f"{self.name}=={self.version}"


class DependencySet(NamedTuple):
    """What a sandbox's site holds: the base set and what a tool asked for, with all they need.

    `name` is "base" or a digest of the pins; equal pins have equal names.
    """

    name: str
    distributions: tuple[Pin, ...]


def base_dependencies() -> DependencySet:
    """The set every sandbox has.

    Raises:
        DependencyError: A distribution of it is not installed.
    """
    return DependencySet("base", _closure(BASE))


@lru_cache(maxsize=256)
def resolve_dependencies(lines: tuple[str, ...]) -> DependencySet:
    """The set for the lines of a tool's `requirements.txt`; blank lines and comments are skipped.

    Raises:
        DependencyError: A line is not `name==version`, or that version is not installed here.
    """
    numbered = [(number, line.split("#", 1)[0].strip()) for number, line in enumerate(lines, 1)]
    wanted = [_pin(number, line) for number, line in numbered if line]
    if len(wanted) > _MAX_LINES:
        raise DependencyError(
            f"{len(wanted)} requirements exceed the limit of {_MAX_LINES}; "
            "list only what the tool imports"
        )
    base = base_dependencies()
    pins = _closure((*BASE, *(pin.name for pin in wanted)))
    if pins == base.distributions:
        return base
    digest = hashlib.sha256("\n".join(map(str, pins)).encode()).hexdigest()
    return DependencySet(digest[:12], pins)


def copy_site(target: Path, dependencies: DependencySet) -> list[Path]:
    """Copy the distributions' files, without scripts and tests, and write the manifest.

    Returns:
        The compiled extensions among the copies' sources.

    Raises:
        DependencyError: A distribution keeps no list of its files.
        OSError: A file cannot be copied.
    """
    extensions = []
    for pin in dependencies.distributions:
        for relative, source in _files(pin):
            copy = target / relative
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
            if ".so" in source.suffixes:
                extensions.append(source)
    pins = {pin.name: pin.version for pin in dependencies.distributions}
    text = json.dumps({"name": dependencies.name, "distributions": pins}, indent=1)
    (target / MANIFEST).write_text(text, "utf-8")
    return extensions


def _pin(number: int, line: str) -> Pin:
    match = _LINE.fullmatch(line)
    where = f"requirements.txt line {number} ({line[:80]!r})"
    if match is None:
        raise DependencyError(f"{where} is not 'name==version'; write one exact version a line")
    pin = Pin(canonicalize_name(match[1]), match[2])
    try:
        available = metadata.version(pin.name)
    except metadata.PackageNotFoundError as error:
        raise DependencyError(
            f"{where}: {pin.name!r} is not among the packages of this service; "
            f"install it next to the service (pip install '{pin}') or remove the line"
        ) from error
    if available != pin.version:
        raise DependencyError(
            f"{where}: version {pin.version!r} is not available, {available!r} is; "
            f"write {pin.name}=={available}"
        )
    return pin


def _closure(names: tuple[str, ...]) -> tuple[Pin, ...]:
    """The named distributions and everything they require here, sorted."""
    found: dict[str, str] = {}
    queue: list[str] = [canonicalize_name(name) for name in names]
    while queue:
        name = queue.pop()
        if name in found:
            continue
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError as error:
            raise DependencyError(
                f"the package {name!r}, which tools need, is not installed; pip install {name}"
            ) from error
        found[name] = distribution.version
        queue += _required(distribution)
        if len(found) > _MAX_DISTRIBUTIONS:
            raise DependencyError(
                f"the set needs more than {_MAX_DISTRIBUTIONS} distributions; split the tool"
            )
    return tuple(Pin(name, found[name]) for name in sorted(found))


def _required(distribution: metadata.Distribution) -> list[str]:
    required: list[str] = []
    for text in distribution.requires or ():
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        marker: Marker | None = requirement.marker
        if marker is None or marker.evaluate({"extra": ""}):
            required.append(canonicalize_name(requirement.name))
    return required


def _files(pin: Pin) -> list[tuple[Path, Path]]:
    """Pairs of path inside the site and path on the host."""
    distribution = metadata.distribution(pin.name)
    if distribution.files is None:
        raise DependencyError(
            f"{pin} keeps no list of its files; install it from a wheel, not in editable mode"
        )
    pairs = []
    for entry in distribution.files:
        relative = Path(str(entry))
        is_left_out = (
            relative.is_absolute()
            or _LEFT_OUT_PARTS & set(relative.parts)
            or relative.suffix in _LEFT_OUT_SUFFIXES
            or relative.name in _LEFT_OUT_NAMES
        )
        source = Path(str(distribution.locate_file(entry)))
        if not is_left_out and source.is_file():
            pairs.append((relative, source))
    return pairs
