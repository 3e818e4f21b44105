"""The sandbox's root file system: interpreter, libraries, standard library, `tzdata`.

Built once per content hash under the sandbox's home and renamed into place, so concurrent builders
and crashes leave either nothing or a complete tree. It holds no secret, no set-uid file and nothing
writable. Host folders that tools like to probe exist as empty folders without any permission, so a
tool that asks for `/etc/passwd` gets `PermissionError` (a typed violation) and learns nothing about
the host.
"""

from __future__ import annotations

import compileall
import hashlib
import importlib.util
import os
import platform
import py_compile
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import NamedTuple

from services.toolenv.sandbox.results import SandboxUnavailable

PACKAGE = "services.toolenv.sandbox"
_INSIDE = (
    "frames",
    "policy",
    "seccomp",
    "results",
    "confine",
    "worker",
    "zygote",
)  # copied into the sandbox
_LAYOUT_VERSION = "1"  # raise when this module lays the tree out differently
_FORBIDDEN = ("etc", "root", "home", "var", "tmp", "proc", "sys", "dev", "run", "srv", "opt", "mnt")
_LEFT_OUT = (
    "test", "tests", "idlelib", "idle_test", "tkinter", "turtledemo", "ensurepip", "lib2to3",
    "pydoc_data", "site-packages", "dist-packages", "__pycache__", "config-*", "turtle.py", "*.a",
    "*.exe", "_tkinter*", "_test*", "_xx*", "xx*", "_ctypes_test*", "readline*", "_curses*",
    "_dbm*", "_gdbm*", "nis*", "ossaudiodev*", "spwd*",
)  # fmt: skip
_LDD_TIMEOUT_S = 30.0


class RootFs(NamedTuple):
    """A complete tree on the host and where things are inside it."""

    path: Path
    loader: str  # absolute inside the sandbox, e.g. "/lib/ld-linux-x86-64.so.2"
    python: str


def prepare_rootfs(home: Path) -> RootFs:
    """The root file system for the running interpreter, built under `home` when missing.

    Blocks for seconds when it has to build. Safe to call from several processes at once.

    Raises:
        SandboxUnavailable: Something to copy is missing, or `home` cannot be written.
    """
    interpreter = _interpreter()
    timezones = _tzdata()
    digest = _digest(interpreter, timezones)
    target = home / f"rootfs-{digest}"
    try:
        if not target.is_dir():
            home.mkdir(parents=True, exist_ok=True)
            _build(target, interpreter=interpreter, timezones=timezones)
    except OSError as error:
        raise SandboxUnavailable(
            f"cannot build the sandbox's root file system in {str(home)!r}: {error}; "
            "choose a writable folder on a file system with 200 MB free"
        ) from error
    return RootFs(
        path=target, loader=f"/lib/{_loader(target)}", python=f"/usr/bin/{interpreter.name}"
    )


def _interpreter() -> Path:
    """The base interpreter's binary, also when running in a virtual environment."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    candidates = [Path(sys.base_prefix) / "bin" / name, Path(os.path.realpath(sys.executable))]
    for candidate in candidates:
        if candidate.is_file():
            return candidate.resolve()
    raise SandboxUnavailable(
        f"no interpreter at {str(candidates[0])!r}; install python with its base prefix intact"
    )


def _standard_library() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def _extensions() -> list[Path]:
    folder = (
        Path(sysconfig.get_path("platstdlib", vars={"platbase": sys.base_exec_prefix}))
        / "lib-dynload"
    )
    ignored = shutil.ignore_patterns(*_LEFT_OUT)
    names = [path.name for path in folder.glob("*.so")]
    left_out = ignored(str(folder), names)
    return [folder / name for name in sorted(names) if name not in left_out]


def _tzdata() -> Path:
    spec = importlib.util.find_spec("tzdata")
    if spec is None or spec.origin is None:
        raise SandboxUnavailable("the package 'tzdata' is not installed; run: pip install tzdata")
    return Path(spec.origin).parent


def _digest(interpreter: Path, timezones: Path) -> str:
    state = interpreter.stat()
    parts = [_LAYOUT_VERSION, sys.version, platform.machine(), str(interpreter), str(timezones)]
    parts += [
        str(state.st_size),
        str(state.st_mtime_ns),
        (timezones / "__init__.py").read_text("utf-8"),
    ]
    parts += [(Path(__file__).parent / f"{name}.py").read_text("utf-8") for name in _INSIDE]
    return hashlib.sha256("\0".join(parts).encode("utf-8")).hexdigest()[:16]


def _libraries(binaries: list[Path]) -> list[Path]:
    """Shared libraries that the binaries need, the loader included, as `ldd` resolves them."""
    command = ["ldd", *map(str, binaries)]
    try:
        text = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, timeout=_LDD_TIMEOUT_S, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SandboxUnavailable(
            f"cannot list shared libraries: {error}; install 'ldd' (Debian: libc-bin)"
        ) from error
    found = {
        Path(path).name: Path(path)
        for path in re.findall(r"(?:=> |^\s+)(/\S+) \(0x", text, re.MULTILINE)
    }
    libc = found.get("libc.so.6")
    if libc is None:
        raise SandboxUnavailable(
            "'ldd' lists no libc.so.6 for the interpreter; the sandbox needs a glibc system"
        )
    unwinder = libc.with_name(
        "libgcc_s.so.1"
    )  # opened by glibc when a thread exits, so ldd does not list it
    if unwinder.is_file():
        found.setdefault(unwinder.name, unwinder)
    return [found[name] for name in sorted(found)]


def _loader(root: Path) -> str:
    for library in (root / "lib").glob("ld-*"):
        return library.name
    raise SandboxUnavailable(
        "'ldd' listed no dynamic loader for the interpreter; the sandbox needs a glibc system"
    )


def _build(target: Path, *, interpreter: Path, timezones: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=".building-", dir=target.parent) as scratch:
        root = Path(scratch) / "root"
        (root / "usr/bin").mkdir(parents=True)
        (root / "lib").mkdir()
        shutil.copyfile(interpreter, root / "usr/bin" / interpreter.name)
        for library in _libraries([interpreter, *_extensions()]):
            shutil.copyfile(library, root / "lib" / library.name)
        ignore = shutil.ignore_patterns(*_LEFT_OUT)
        shutil.copytree(
            _standard_library(),
            root / _library_folder(),
            ignore=ignore,
            copy_function=shutil.copyfile,
        )
        _copy_extensions(root)
        shutil.copytree(
            timezones, root / "site/tzdata", ignore=ignore, copy_function=shutil.copyfile
        )
        _copy_own_modules(root / "toolwright_sandbox")
        _compile(root)
        _set_modes(root, executables={"bin", "lib"})
        for name in _FORBIDDEN:
            (root / name).mkdir(mode=0)
        try:
            root.rename(target)
        except OSError:
            if not target.is_dir():  # else another process was faster, with the same content
                raise


def _library_folder() -> str:
    return f"usr/lib/python{sys.version_info.major}.{sys.version_info.minor}"


def _copy_extensions(root: Path) -> None:
    """Compiled modules go where an interpreter in /usr/bin looks for them."""
    folder = root / "usr" / sys.platlibdir / Path(_library_folder()).name / "lib-dynload"
    folder.mkdir(parents=True, exist_ok=True)
    for extension in _extensions():
        shutil.copyfile(extension, folder / extension.name)


def _copy_own_modules(folder: Path) -> None:
    package = folder.joinpath(*PACKAGE.split("."))
    package.mkdir(parents=True)
    for parent in (package, *list(package.parents)[: len(PACKAGE.split(".")) - 1]):
        (parent / "__init__.py").write_text("", "utf-8")
    for name in _INSIDE:
        shutil.copyfile(Path(__file__).parent / f"{name}.py", package / f"{name}.py")


def _compile(root: Path) -> None:
    """Byte-compile everything, because the users of the tree cannot write it."""
    compileall.compile_dir(
        root,
        maxlevels=20,
        quiet=2,
        stripdir=str(root),
        prependdir="/",
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


def _set_modes(root: Path, *, executables: set[str]) -> None:
    root.chmod(0o755)
    for folder, subfolders, files in os.walk(root):
        for name in subfolders:
            os.chmod(os.path.join(folder, name), 0o755)  # noqa: S103  # the sandbox must read it
        mode = 0o755 if os.path.basename(folder) in executables else 0o644
        for name in files:
            path = os.path.join(folder, name)
            if not stat.S_ISLNK(os.lstat(path).st_mode):
                os.chmod(path, mode)
