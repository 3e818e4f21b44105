"""Things on the host that an attack must neither see, change, reach nor end."""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SECRET_PREFIX = "tw-canary-secret-"
_VARIABLE = "TW_CANARY"
_THP = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_SHM_KEY = str(0x74770001)


@dataclass
class Canaries:
    """What was planted; `effects` says what became of it."""

    folder: Path
    token: str
    secret: str
    victim: subprocess.Popen[bytes]
    hits: list[str] = field(default_factory=list)
    addresses: dict[str, str | int] = field(default_factory=dict)
    _before: dict[str, str] = field(default_factory=dict)

    def arguments(self) -> dict[str, str | int]:
        """What an attacker is told: where everything is."""
        return self.addresses | {
            "public": str(self.folder / "public.txt"),
            "secret": str(self.folder / "secret.txt"),
            "folder": str(self.folder),
            "drop": str(self.folder / "drop"),
            "code": str(Path(__file__).parents[3]),
            "token": self.token,
            "victim": self.victim.pid,
        }

    def effects(self) -> list[str]:
        """Every change to the host that an attack can have caused."""
        now = self._facts()
        found = [
            f"{name}: {before!r} became {now[name]!r}"
            for name, before in self._before.items()
            if now[name] != before
        ]
        return found + [f"something connected to {name}" for name in self.hits]

    def remember(self) -> None:
        """Take the state of the host as the one to compare with."""
        self._before = self._facts()

    def _facts(self) -> dict[str, str]:
        return {
            "public file": (self.folder / "public.txt").read_text("utf-8"),
            "secret file": (self.folder / "secret.txt").read_text("utf-8"),
            "modes": str([oct(p.stat().st_mode) for p in sorted(self.folder.iterdir())]),
            "open folder": str(sorted(os.listdir(self.folder / "drop"))),
            "folders for temporary files": str(
                [name for f in ("/tmp", "/var/tmp") for name in os.listdir(f) if self.token in name]
            ),
            "victim": f"{self.victim.poll()} {_state_of(self.victim.pid)}",
            "host name": socket.gethostname(),
            "huge pages": _THP.read_text("ascii") if _THP.exists() else "",
            "shared memory": str(_SHM_KEY in _sysv_shared_memory()),
            "daemons": str(_command_lines_with(self.token)),
        }


def _state_of(pid: int) -> str:
    """Scheduling state and niceness: a stopped or slowed victim was reached."""
    words = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return f"{'stopped' if words[0] in 'Tt' else 'lives'} nice={words[16]}"


def _sysv_shared_memory() -> list[str]:
    path = Path("/proc/sysvipc/shm")
    return path.read_text("ascii").split() if path.exists() else []


def _command_lines_with(token: str) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if token.encode() in process.read_bytes():
                found.append(process.parent.name)
    return found


@contextlib.contextmanager
def planted() -> Iterator[Canaries]:
    """Canaries in files, environment, memory, on the loopback and as a process."""
    folder = Path(tempfile.mkdtemp(prefix="tw-canaries-"))
    folder.chmod(0o755)
    token = f"tw-attack-{secrets.token_hex(8)}"
    secret = SECRET_PREFIX + secrets.token_hex(16)
    for name, mode in (("public.txt", 0o644), ("secret.txt", 0o600)):
        (folder / name).write_text(secret, "utf-8")
        (folder / name).chmod(mode)
    (folder / "drop").mkdir()
    (folder / "drop").chmod(0o777)
    os.environ[_VARIABLE] = secret
    victim = subprocess.Popen(["sleep", "3600"], env={"TW_VICTIM": secret})
    canaries = Canaries(folder=folder, token=token, secret=secret, victim=victim)
    try:
        with _listeners(canaries):
            canaries.remember()
            yield canaries
    finally:
        del os.environ[_VARIABLE]
        victim.kill()
        victim.wait(5)
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _listeners(canaries: Canaries) -> Iterator[None]:
    path = str(canaries.folder / "unix.sock")
    addresses: dict[str, tuple[int, int, object]] = {
        "tcp": (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
        "udp": (socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
        "abstract": (socket.AF_UNIX, socket.SOCK_STREAM, "\0" + canaries.token),
        "unix": (socket.AF_UNIX, socket.SOCK_STREAM, path),
    }
    canaries.addresses |= {"abstract": canaries.token, "unix": path}
    with contextlib.ExitStack() as stack:
        for name, (family, kind, address) in addresses.items():
            listener = stack.enter_context(socket.socket(family, kind))
            listener.bind(address)
            if kind == socket.SOCK_STREAM:
                listener.listen(8)
            if family == socket.AF_INET:
                canaries.addresses[name] = listener.getsockname()[1]
            # Ends the wait of the thread: closing a socket alone does not.
            stack.callback(_wake, listener)
            thread = threading.Thread(target=_count, args=(listener, name, canaries), daemon=True)
            thread.start()
        (canaries.folder / "unix.sock").chmod(0o777)
        yield


def _wake(listener: socket.socket) -> None:
    with contextlib.suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)


def _count(listener: socket.socket, name: str, canaries: Canaries) -> None:
    with contextlib.suppress(OSError):
        while True:
            if listener.type == socket.SOCK_STREAM:
                listener.accept()[0].close()
            elif not listener.recv(64):
                return
            canaries.hits.append(name)
