"""Writes a minimal root file system, for checking the sandbox inside a container engine.

`python -m infra.docker.sandbox_image > image.tar` packs the running interpreter, its standard
library, what the sandbox imports, the few programs that it starts, their shared libraries, and the
attack table. No registry and no build is needed: `docker import - NAME < image.tar` is all.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[2]
APPLICATION = "opt/toolwright"  # where the repository's part lies in the image
_OURS = ("services/toolenv", "services/kit", "services/contracts", "tests/integration/sandbox")
# ldd is a script: the sandbox asks it for the libraries of the interpreter.
_PROGRAMS = (
    "bash", "sh", "sleep", "chroot", "setpriv", "bwrap", "unshare", "mount", "choom", "ldd", "cat",
)  # fmt: skip
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LEFT_OUT = frozenset(
    {
        *("test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3"),
        *("site-packages", "dist-packages", "__pycache__"),
    }
)
_USERS = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
_GROUPS = "root:x:0:\nnogroup:x:65534:\n"
_TIMEOUT_S = 60.0
_FOLDERS = {
    **dict.fromkeys(("var", "root", "mnt", "proc", "sys", "dev", "etc", "home"), 0o755),
    **dict.fromkeys(("usr/local", "usr/local/bin"), 0o755),
    **dict.fromkeys(("tmp", "var/tmp"), 0o1777),
}

_LIST_DISTRIBUTIONS = """
import importlib, json, pkgutil, sys
from importlib import metadata
import services.toolenv.sandbox as package
for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
    importlib.import_module(module.name)
from services.toolenv.sandbox.sites import base_dependencies
owners = metadata.packages_distributions()
imported = {owner for name in sys.modules for owner in owners.get(name.partition(".")[0], ())}
print(json.dumps(sorted(imported | {pin.name for pin in base_dependencies().distributions})))
"""


def sandbox_files() -> dict[str, Path]:
    """What the sandbox needs from outside the standard library.

    Returns:
        Path on this machine by place below a folder on `sys.path`: distributions of third parties
        with their metadata, and all modules of the packages of ours that are needed.

    Raises:
        RuntimeError: The sandbox cannot be imported here.
    """
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", _LIST_DISTRIBUTIONS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"the sandbox cannot be imported: {done.stderr[-600:]}")
    found: dict[str, Path] = {}
    for name in set(json.loads(done.stdout)) - {"toolwright"}:
        found |= _distribution_files(name)
    for package in _OURS:
        for path in (ROOT / package).rglob("*.py"):
            found[path.relative_to(ROOT).as_posix()] = path
    return found


def _distribution_files(name: str) -> dict[str, Path]:
    files = metadata.distribution(name).files or []
    places = {file.as_posix(): Path(str(file.locate())) for file in files}
    left_out = {"..", "__pycache__"}
    return {
        place: path
        for place, path in places.items()
        if not left_out & set(place.split("/")) and path.is_file()
    }


def shared_libraries(binaries: Iterable[Path]) -> set[Path]:
    """Every library that `ldd` finds for the binaries, the loader included."""
    done = subprocess.run(  # noqa: S603
        ["/usr/bin/ldd", *map(str, binaries)],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    pattern = r"(?:=> |^\s+)(/\S+) \(0x"
    found = {Path(path) for path in re.findall(pattern, done.stdout, re.MULTILINE)}
    # glibc opens it when a thread ends, so ldd does not list it.
    unwinders = {path.with_name("libgcc_s.so.1") for path in found if path.name == "libc.so.6"}
    return found | {path for path in unwinders if path.is_file()}


def _system_files() -> Iterator[Path]:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    yield Path(sys.base_prefix) / "bin" / version
    for name in _PROGRAMS:
        place = shutil.which(name, path=_SYSTEM_PATH)
        if place is not None:
            yield Path(place)
    folder = Path(sysconfig.get_path("stdlib"))
    for path in folder.rglob("*"):
        if path.is_file() and not _LEFT_OUT & set(path.relative_to(folder).parts):
            yield path


def image_files() -> dict[str, Path]:
    """Every file of the image: path on this machine by place below the image's root."""
    modules = {f"{APPLICATION}/{place}": path for place, path in sandbox_files().items()}
    system = list(_system_files())
    candidates = [*system, *modules.values()]
    binaries = [path for path in candidates if path.suffix == ".so" or path.parent.name == "bin"]
    files = {_place(path): path for path in (*system, *sorted(shared_libraries(binaries)))}
    return files | modules


def _place(path: Path) -> str:
    """Where a file goes in the image: `/lib/x` is `usr/lib/x` where /lib is a link."""
    return (path.parent.resolve() / path.name).as_posix().lstrip("/")


def write_image(stream: IO[bytes]) -> None:
    """Write the image as a tar stream."""
    files = image_files()
    with tarfile.open(fileobj=stream, mode="w|") as image:
        for name, mode in _folders(files).items():
            image.addfile(_entry(name, tarfile.DIRTYPE, mode))
        for name in ("bin", "sbin", "lib", "lib64"):
            if Path("/", name).is_symlink():
                _add_link(image, name, str(Path("/", name).readlink()))
        _add_link(image, "usr/local/bin/python3", str(next(_system_files())))
        _add_text(image, "etc/passwd", _USERS)
        _add_text(image, "etc/group", _GROUPS)
        for name, path in files.items():
            image.add(path.resolve(), name, filter=_as_root)


def _folders(files: Iterable[str]) -> dict[str, int]:
    """Modes of all folders, parents first: engines make missing parents unreadable."""
    modes = {parent.as_posix(): 0o755 for name in files for parent in Path(name).parents}
    modes |= _FOLDERS
    return {name: modes[name] for name in sorted(modes) if name != "."}


def _as_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    entry.mode &= 0o755  # no set-user-id, nothing that others may write
    return entry


def _entry(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = kind, mode
    return entry


def _add_link(image: tarfile.TarFile, name: str, target: str) -> None:
    entry = _entry(name, tarfile.SYMTYPE, 0o777)
    entry.linkname = target
    image.addfile(entry)


def _add_text(image: tarfile.TarFile, name: str, text: str) -> None:
    entry = _entry(name, tarfile.REGTYPE, 0o644)
    entry.size = len(text.encode("utf-8"))
    image.addfile(entry, io.BytesIO(text.encode("utf-8")))


if __name__ == "__main__":
    write_image(sys.stdout.buffer)
