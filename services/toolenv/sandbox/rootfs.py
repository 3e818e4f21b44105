"""The sandbox's root file system: interpreter, libraries, standard library, packages for tools.

One tree for each set of packages, built once per content hash under the sandbox's home and renamed
into place, so concurrent builders and crashes leave either nothing or a complete tree. It holds no
secret, no set-uid file and nothing writable. Host folders that tools like to probe exist as empty
folders without any permission, so a tool that asks for `/etc/passwd` gets `PermissionError` (a
typed violation) and learns nothing about the host.
"""

from __future__ import annotations

import compileall
import fcntl
import hashlib
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
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from services.toolenv.sandbox.policy import SCRATCH_MOUNT
from services.toolenv.sandbox.results import SandboxUnavailable
from services.toolenv.sandbox.sites import (
    DependencyError,
    DependencySet,
    base_dependencies,
    copy_site,
)

PACKAGE = "services.toolenv.sandbox"
_INSIDE = (
    "frames",
    "policy",
    "syscalls",
    "seccomp",
    "results",
    "confine",
    "webchannel",
    "framesocket",
    "httpxshim",
    "webshims",
    "worker",
    "zygote",
)  # copied into the sandbox
_LAYOUT_VERSION = "3"  # raise when this module lays the tree out differently
_FORBIDDEN = ("etc", "root", "home", "var", "tmp", "proc", "sys", "dev", "run", "srv", "opt", "mnt")
_LEFT_OUT = (
    "test", "tests", "idlelib", "idle_test", "tkinter", "turtledemo", "ensurepip", "lib2to3",
    "pydoc_data", "site-packages", "dist-packages", "__pycache__", "config-*", "turtle.py", "*.a",
    "*.exe", "_tkinter*", "_test*", "_xx*", "xx*", "_ctypes_test*", "readline*", "_curses*",
    "_dbm*", "_gdbm*", "nis*", "ossaudiodev*", "spwd*",
)  # fmt: skip
_LDD_TIMEOUT_S = 30.0
_UNUSED_S = 7 * 86400.0  # after which another version's tree is removed
_GRACE_S = 1.0  # between making a folder to build in and locking it
_LINKED = ("usr", "lib", "toolwright_sandbox", "w")  # shared between trees by hard links


class RootFs(NamedTuple):
    """A complete tree on the host and where things are inside it."""

    path: Path
    loader: str  # absolute inside the sandbox, e.g. "/lib/ld-linux-x86-64.so.2"
    python: str


def prepare_rootfs(home: Path, dependencies: DependencySet | None = None) -> RootFs:
    """The root file system for the running interpreter, built under `home` when missing.

    Blocks for seconds when it has to build. Safe to call from several processes at once.

    Args:
        home: Folder of the trees.
        dependencies: Packages in its `/site`; None means the base set.

    Raises:
        SandboxUnavailable: Something to copy is missing, or `home` cannot be written.
    """
    interpreter = _interpreter()
    try:
        wanted = dependencies or base_dependencies()
        target = home / f"rootfs-{_digest(interpreter, wanted)}"
        if not target.is_dir():
            home.mkdir(parents=True, exist_ok=True)
            _build(target, interpreter=interpreter, dependencies=wanted)
        _mark_as_used(target)
    except DependencyError as error:
        raise SandboxUnavailable(f"cannot provide the tools' packages: {error}") from error
    except OSError as error:
        raise SandboxUnavailable(
            f"cannot build the sandbox's root file system in {str(home)!r}: {error}; "
            "choose a writable folder on a file system with 200 MB free"
        ) from error
    return RootFs(
        path=target, loader=f"/lib/{_loader(target)}", python=f"/usr/bin/{interpreter.name}"
    )


@contextmanager
def held(rootfs: RootFs) -> Iterator[None]:
    """Keep others from removing the tree while the context is open; ends with the process."""
    try:
        with _locked(rootfs.path):
            yield
    except BlockingIOError as error:
        raise SandboxUnavailable(
            f"{str(rootfs.path)!r} is being removed as unused; start again"
        ) from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Share the lock of a folder, which the kernel releases when the process ends."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def remove_unused(home: Path, *, unused_s: float = _UNUSED_S) -> list[str]:
    """Remove trees that nobody holds and nobody prepared for `unused_s` seconds; returns names.

    What a killed builder left goes too. A tree that cannot be removed stays.
    """
    removed = []
    grace_s = min(unused_s, _GRACE_S)
    ages_s = {"rootfs-*": unused_s, ".building-*": grace_s, ".removing-*": grace_s}
    for pattern, age_s in ages_s.items():
        for folder in home.glob(pattern):
            if _remove_if_unused(folder, age_s):
                removed.append(folder.name)
    return removed


def _remove_if_unused(folder: Path, unused_s: float) -> bool:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        state = os.fstat(descriptor)
        if time.time() - max(state.st_atime, state.st_mtime) < unused_s:
            return False
        doomed = folder.with_name(f".removing-{os.getpid()}-{folder.name.lstrip('.')}")
        folder.rename(doomed)  # first out of everybody's way, then slowly
        for name in _FORBIDDEN:  # an ordinary user can remove them, but not look inside
            with suppress(OSError):
                (doomed / name).rmdir()
        shutil.rmtree(doomed)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)


def _mark_as_used(target: Path) -> None:
    """Set the access time, which tells `remove_unused` when somebody last wanted the tree."""
    modified_ns = target.stat().st_mtime_ns
    os.utime(target, ns=(time.time_ns(), modified_ns))


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


def _digest(interpreter: Path, dependencies: DependencySet) -> str:
    state = interpreter.stat()
    parts = [_LAYOUT_VERSION, sys.version, platform.machine(), str(interpreter)]
    parts += [str(state.st_size), str(state.st_mtime_ns)]
    parts += [str(pin) for pin in dependencies.distributions]
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


def _build(target: Path, *, interpreter: Path, dependencies: DependencySet) -> None:
    base = base_dependencies()
    shared = None
    if dependencies != base:
        shared = prepare_rootfs(target.parent, base).path
    with ExitStack() as stack:
        scratch = stack.enter_context(
            tempfile.TemporaryDirectory(prefix=".building-", dir=target.parent)
        )
        stack.enter_context(_locked(Path(scratch)))
        root = Path(scratch) / "root"
        root.mkdir()
        if shared is None:
            _lay_out(root, interpreter)
        else:
            _link(shared, root)
        extensions = copy_site(root / "site", dependencies)
        _copy_libraries(root, extensions)
        _compile(root / "site", root)
        _set_modes(root, executables={"bin", "lib"})
        for name in _FORBIDDEN:
            (root / name).mkdir(mode=0)
        try:
            root.rename(target)
        except OSError:
            if not target.is_dir():  # else another process was faster, with the same content
                raise


def _lay_out(root: Path, interpreter: Path) -> None:
    """Everything but the packages."""
    (root / "usr/bin").mkdir(parents=True)
    (root / "lib").mkdir()
    shutil.copyfile(interpreter, root / "usr/bin" / interpreter.name)
    _copy_libraries(root, [interpreter, *_extensions()])
    shutil.copytree(
        _standard_library(),
        root / _library_folder(),
        ignore=shutil.ignore_patterns(*_LEFT_OUT),
        copy_function=shutil.copyfile,
    )
    _copy_extensions(root)
    _copy_own_modules(root / "toolwright_sandbox")
    (root / SCRATCH_MOUNT[1:]).mkdir(parents=True)
    _compile(root, root)


def _link(shared: Path, root: Path) -> None:
    """Take everything but the packages from another tree, as hard links: no space, no time."""
    for name in _LINKED:
        shutil.copytree(shared / name, root / name, copy_function=os.link)


def _copy_libraries(root: Path, binaries: list[Path]) -> None:
    if not binaries:
        return
    for library in _libraries(binaries):
        copy = root / "lib" / library.name
        if not copy.exists():
            shutil.copyfile(library, copy)


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


def _compile(folder: Path, root: Path) -> None:
    """Byte-compile everything, because the users of the tree cannot write it."""
    compileall.compile_dir(
        folder,
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
