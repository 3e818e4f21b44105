"""The jail of a local MCP server: bubblewrap with every namespace, a read-only system, no network.

The server sees the system's programs and libraries, the interpreter it was started with, the paths
its definition names, and an empty `/tmp`; no home, no environment of ours, no other process. When
we run as root it gets a uid of its own first, because uid 0 survives inside a bubblewrap that root
started. There is no weaker way to run one: without bubblewrap a server is refused.

Limits per process: private memory, processor time, open files, file size; per server: processes.
RLIMIT_DATA and not RLIMIT_AS, because JavaScript engines reserve far more than they use.
"""

import os
import shutil
import socket
import stat
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from services.toolenv.mcp_servers.definitions import TOO_BROAD, StdioTransport

_SYSTEM_FOLDERS: Final = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
_MERGED: Final = ("/bin", "/sbin", "/lib", "/lib64", "/lib32", "/libx32")
_ETC: Final = (
    "alternatives", "ca-certificates", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime",
    "mime.types", "nsswitch.conf", "pki", "ssl/certs", "ssl/openssl.cnf", "timezone",
)  # fmt: skip
_ETC_NETWORK: Final = ("gai.conf", "hosts", "protocols", "resolv.conf", "services")
_MOUNT_POINTS: Final = ("/mnt", "/srv", "/media", "/opt")
_TMP_BYTES: Final = 64 << 20
_OPEN_FILES, _PROCESSES = 512, 128
_PROBE_TIMEOUT_S = 10.0
_UIDS: Final = range(64101, 64229)  # not the sandbox's: servers live long and would use those up
_FIX: Final = (
    "install bubblewrap and util-linux (Debian: apt-get install bubblewrap util-linux) and allow "
    "user namespaces, or run the server in a container of its own and import it with --url"
)
# Shows paths that only root may reach to the server's uid, in a private mount namespace: arguments
# are the mount point, the number of paths, the paths, the command.
_STAGE: Final = """set -e
at="$1"; count="$2"; shift 2
mount -t tmpfs -o mode=755,size=1m none "$at"
i=0
while [ "$i" -lt "$count" ]; do
  if [ -d "$1" ]; then mkdir "$at/$i"; else : > "$at/$i"; fi
  mount --bind -- "$1" "$at/$i"
  i=$((i+1)); shift
done
exec "$@"
"""


class JailUnavailable(Exception):
    """No server can be jailed here, or not this one; the text names the fix."""


@dataclass(frozen=True, slots=True)
class JailedCommand:
    """What to execute, and its whole environment."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]


@contextmanager
def jailed(
    server: StdioTransport, *, secrets: Mapping[str, SecretStr], hidden: Iterable[Path] = ()
) -> Iterator[JailedCommand]:
    """The command that runs a server in its jail; its uid is reserved while the context is open.

    Args:
        server: The definition.
        secrets: Values of the environment variables that it names.
        hidden: Folders that no server may be shown as a whole.

    Raises:
        JailUnavailable: There is no jail here, or a path cannot be shown.
    """
    has_proc = _probe()
    program = resolve_program(server.command)
    sources = {path: path for path in (*program_paths(program), *map(Path, server.read_paths))}
    for path in sources:
        _check_source(path, hidden)
    with _reserved_uid() as uid:
        limits = [
            _program("prlimit"), f"--data={server.memory_mb << 20}", f"--cpu={server.cpu_s}",
            f"--nofile={_OPEN_FILES}", f"--nproc={_PROCESSES}", f"--fsize={_TMP_BYTES}",
            "--core=0", "--",
        ]  # fmt: skip
        command = [*limits, str(program), *server.args]
        environment = {
            "PATH": f"{program.parent}:{_SYSTEM_FOLDERS}",
            "HOME": "/tmp",  # noqa: S108 - the jail's own
            "TMPDIR": "/tmp",  # noqa: S108
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        } | {name: value.get_secret_value() for name, value in secrets.items()}
        argv = _launch(sources, command, uid=uid, network=server.network, has_proc=has_proc)
        yield JailedCommand(tuple(argv), environment)


@contextmanager
def _reserved_uid() -> Iterator[int | None]:
    """A uid that no other server has while the context is open; `None` when we are not root.

    The reservation is an abstract unix socket address: atomic, and released by the kernel if we
    die.
    """
    if os.geteuid() != 0:
        yield None
        return
    for uid in _UIDS:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as lock:
            try:
                lock.bind(f"\0toolwright-mcp-uid-{uid}")
            except OSError:
                continue
            yield uid
            return
    raise JailUnavailable(f"all {len(_UIDS)} uids from {_UIDS.start} are in use; stop a server")


def check_jail() -> None:
    """Return when servers can be jailed here; blocks for a moment the first time.

    Raises:
        JailUnavailable: They cannot; the text names the fix.
    """
    _probe()


def resolve_program(command: str) -> Path:
    """The absolute path of a server's program.

    Raises:
        JailUnavailable: There is no such program.
    """
    found = command if os.path.isabs(command) else shutil.which(command, path=_SYSTEM_FOLDERS)
    if found is None or not os.path.isfile(found):
        raise JailUnavailable(
            f"there is no program {command!r}; install it, or name it by its absolute path"
        )
    return Path(os.path.normpath(found))


def program_paths(program: Path) -> tuple[Path, ...]:
    """What a program outside the system's folders needs to start.

    Its virtual environment and the installation that was made from; else its own installation; else
    itself.
    """
    real = Path(os.path.realpath(program))
    paths: list[Path] = []
    environment = program.parent.parent
    if (environment / "pyvenv.cfg").is_file():
        paths.append(environment)
    if not _is_system(program) and environment not in paths:
        paths.append(program)
    if not _is_system(real):
        prefix = real.parent.parent
        is_installation = real.parent.name == "bin" and (prefix / "lib").is_dir()
        paths.append(prefix if is_installation and str(prefix) not in TOO_BROAD else real)
    return tuple(dict.fromkeys(paths))


def _is_system(path: Path) -> bool:
    return any(path.is_relative_to(folder) for folder in ("/usr", *_MERGED))


def _check_source(path: Path, hidden: Iterable[Path]) -> None:
    real = Path(os.path.realpath(path))
    if not real.exists():
        raise JailUnavailable(f"{str(path)!r} does not exist; correct the server's read paths")
    if str(real) in TOO_BROAD or real.parent == Path("/home") or real == Path.home():
        raise JailUnavailable(f"{str(path)!r} holds other things too; name the folder it needs")
    for folder in hidden:
        if folder.resolve().is_relative_to(real):
            raise JailUnavailable(
                f"{str(path)!r} holds Toolwright's own files and credentials; "
                "keep the server's files elsewhere"
            )


def _launch(
    sources: Mapping[Path, Path],
    command: list[str],
    *,
    uid: int | None,
    network: bool,
    has_proc: bool,
) -> list[str]:
    if uid is None:
        return [*_bubblewrap(sources, network=network, has_proc=has_proc), *command]
    become = [_program("setpriv"), f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--"]
    hidden = [path for path in sources if not _is_reachable(path)]
    if not hidden:
        return [*become, *_bubblewrap(sources, network=network, has_proc=has_proc), *command]
    at = next((path for path in _MOUNT_POINTS if os.path.isdir(path)), None)
    if at is None:
        raise JailUnavailable(f"none of {', '.join(_MOUNT_POINTS)} exists; create /mnt")
    staged = {**sources, **{path: Path(at, str(i)) for i, path in enumerate(hidden)}}
    return [
        *(_program("unshare"), "--mount", "--propagation", "private", "--"),
        *("/bin/sh", "-c", _STAGE, "sh", at, str(len(hidden))),
        *(os.path.realpath(path) for path in hidden),
        *become,
        *_bubblewrap(staged, network=network, has_proc=has_proc),
        *command,
    ]


def _bubblewrap(sources: Mapping[Path, Path], *, network: bool, has_proc: bool) -> list[str]:
    """The jail; `sources` maps a path inside to where it is found outside."""
    arguments = [
        _program("bwrap"), "--unshare-all", "--unshare-user", "--disable-userns",
        "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--ro-bind", "/usr", "/usr",
    ]  # fmt: skip
    if network:
        arguments += ["--share-net"]
    for folder in _MERGED:
        if os.path.islink(folder):
            arguments += ["--symlink", os.readlink(folder), folder]
        elif os.path.isdir(folder):
            arguments += ["--ro-bind", folder, folder]
    for name in (*_ETC, *(_ETC_NETWORK if network else ())):
        arguments += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    if has_proc:
        arguments += ["--proc", "/proc"]
    arguments += ["--dev", "/dev", "--perms", "0700", "--size", str(_TMP_BYTES)]
    arguments += ["--tmpfs", "/tmp"]  # noqa: S108 - inside
    # A folder before what lies in it, or it would cover that.
    for inside in sorted(sources, key=lambda path: len(path.parts)):
        arguments += ["--ro-bind", str(sources[inside]), str(inside)]
    return [*arguments, "--remount-ro", "/", "--chdir", "/tmp", "--"]  # noqa: S108


def _is_reachable(path: Path) -> bool:
    """Whether any user may traverse every folder down to `path`."""
    resolved = path.resolve()
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in resolved.parents)


def _program(name: str) -> str:
    found = shutil.which(name, path=_SYSTEM_FOLDERS)
    if found is None:
        raise JailUnavailable(f"the program {name!r} is not installed; {_FIX}")
    return found


@cache
def _probe() -> bool:
    """Whether the jail may have a /proc of its own; remembered when there is a jail at all.

    Raises:
        JailUnavailable: Not even a jail without /proc can be built.
    """
    problem = ""
    for has_proc in (True, False):
        with _reserved_uid() as uid:
            argv = _launch({}, ["/bin/true"], uid=uid, network=False, has_proc=has_proc)
            try:
                done = subprocess.run(  # noqa: S603 - our own programs, from the system's folders
                    argv, capture_output=True, timeout=_PROBE_TIMEOUT_S, check=False, env={}
                )
            except (OSError, subprocess.TimeoutExpired) as exc:
                problem = str(exc)
                continue
        if done.returncode == 0:
            return has_proc
        problem = done.stderr.decode(errors="replace").strip()[:500]
    raise JailUnavailable(f"no MCP server can be jailed here: {problem}; {_FIX}")
