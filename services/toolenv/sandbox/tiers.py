"""How the outer jail of each tier is launched: which command line, as which user.

`ns`: bubblewrap with every namespace, the root file system bound read-only as `/`. When the host is
root, setpriv first becomes a dedicated uid, because uid 0 survives inside a bubblewrap that root
started.
`chroot`: chroot plus a dedicated uid; for root without user namespaces, as in a default Docker
container.
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from services.toolenv.sandbox.policy import Profile, SandboxLimits
from services.toolenv.sandbox.results import SandboxUnavailable
from services.toolenv.sandbox.rootfs import PACKAGE, RootFs

Tier = Literal["ns", "chroot"]

# Programs are looked for in system folders only, so that a PATH entry cannot put itself in front of
# the jail.
_PROGRAM_FOLDERS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {
    "PATH": _PROGRAM_FOLDERS,
    # glibc reserves 64 MiB of address space per arena, and RLIMIT_AS counts reservations.
    "MALLOC_ARENA_MAX": "2",
}
_OOM_SCORE = 500  # added to what the kernel thinks of the sandbox's processes when memory is short
_UIDS = range(64001, 64065)
_MOUNT_POINTS = ("/mnt", "/srv", "/media", "/opt")  # covered in a private namespace only
_BOOT = (
    "import sys; sys.path.insert(0, '/toolwright_sandbox'); "
    f"from {PACKAGE}.zygote import main; main()"
)
_FIX_FOR_PROGRAM = {
    "bwrap": "install bubblewrap (Debian: apt-get install bubblewrap)",
    "setpriv": "install util-linux",
    "unshare": "install util-linux",
    "mount": "install mount",
    "chroot": "install coreutils",
}


@contextmanager
def reserved_uid() -> Iterator[int]:
    """A uid that no other sandbox of this machine uses while the context is open.

    The reservation is an abstract unix socket address: atomic, and released by the kernel if the
    holder dies.

    Raises:
        SandboxUnavailable: All uids of the range are taken.
    """
    for uid in _UIDS:
        lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            lock.bind(f"\0toolwright-sandbox-uid-{uid}")
        except OSError:
            lock.close()
            continue
        with lock:
            yield uid
        return
    raise SandboxUnavailable(
        f"all {len(_UIDS)} sandbox uids from {_UIDS.start} are in use; stop another sandbox"
    )


def launch_command(
    tier: Tier,
    *,
    rootfs: RootFs,
    control_descriptor: int,
    limits: SandboxLimits,
    dedicated_uid: int | None,
    profile: Profile = "lean",
) -> list[str]:
    """The command that starts a zygote, given `ENVIRONMENT` and the control descriptor.

    When memory is short, the kernel ends what it starts before the host.

    Args:
        tier: Which jail.
        rootfs: The tree that becomes `/`.
        control_descriptor: Number of the zygote's end of the control socket.
        limits: Passed on to the zygote.
        dedicated_uid: The uid to become when the host is root, else None.
        profile: What the zygote preloads.

    Raises:
        SandboxUnavailable: A program is missing, or the tier needs root and the host is not.
    """
    zygote = [
        rootfs.loader,
        "--library-path",
        "/lib",
        rootfs.python,
        "-I",
        "-S",
        "-B",
        "-X",
        "utf8",
        "-c",
        _BOOT,
    ]
    zygote += [str(control_descriptor), limits.to_json(), profile]
    choom = shutil.which("choom", path=_PROGRAM_FOLDERS)
    prefer_to_die = [choom, "-n", str(_OOM_SCORE), "--"] if choom else []
    if tier == "chroot":
        if limits.scratch_bytes:
            raise SandboxUnavailable(
                f"scratch_bytes={limits.scratch_bytes} needs tier 'ns', where a worker may mount; "
                "set it to 0 for tier 'chroot'"
            )
        if dedicated_uid is None:
            raise SandboxUnavailable(
                "tier 'chroot' needs a host that runs as root; use tier 'ns' or run as root"
            )
        user = f"{dedicated_uid}:{dedicated_uid}"
        return [
            *prefer_to_die,
            _program("chroot"),
            f"--userspec={user}",
            f"--groups={dedicated_uid}",
            str(rootfs.path),
            *zygote,
        ]
    if dedicated_uid is None:
        return [*prefer_to_die, *_bubblewrap(str(rootfs.path), limits), *zygote]
    become = [
        *prefer_to_die,
        _program("setpriv"),
        f"--reuid={dedicated_uid}",
        f"--regid={dedicated_uid}",
        "--clear-groups",
        "--",
    ]
    if _is_reachable(rootfs.path):
        return [*become, *_bubblewrap(str(rootfs.path), limits), *zygote]
    mount_point = _mount_point()
    return [*_expose(rootfs.path, mount_point), *become, *_bubblewrap(mount_point, limits), *zygote]


def _program(name: str) -> str:
    found = shutil.which(name, path=_PROGRAM_FOLDERS)
    if found is None:
        raise SandboxUnavailable(f"the program {name!r} is not installed; {_FIX_FOR_PROGRAM[name]}")
    return found


def _bubblewrap(source: str, limits: SandboxLimits) -> list[str]:
    """The jail with `source` as its read-only root.

    No --proc (same-uid processes would be visible), no --dev (nothing opens one), no --hostname
    (Podman's seccomp profile forbids it, and bubblewrap then gives up).
    """
    return [
        _program("bwrap"), "--unshare-all", "--unshare-user", "--die-with-parent", "--new-session",
        *_capabilities(limits), "--ro-bind", source, "/", "--remount-ro", "/", "--chdir", "/",
        "--clearenv", "--setenv", "MALLOC_ARENA_MAX", ENVIRONMENT["MALLOC_ARENA_MAX"], "--",
    ]  # fmt: skip


def _capabilities(limits: SandboxLimits) -> tuple[str, ...]:
    """None, but for mounting a private tmpfs, which each worker gives up before its job."""
    drop = ("--cap-drop", "ALL")
    return (*drop, "--cap-add", "CAP_SYS_ADMIN") if limits.scratch_bytes else drop


def _is_reachable(path: Path) -> bool:
    """Whether any user may traverse every folder down to `path`."""
    resolved = path.resolve()
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (resolved, *resolved.parents))


def _mount_point() -> str:
    for folder in _MOUNT_POINTS:
        if os.path.isdir(folder) and not os.path.islink(folder):
            return folder
    raise SandboxUnavailable(f"none of {', '.join(_MOUNT_POINTS)} exists to mount on; create /mnt")


def _expose(path: Path, mount_point: str) -> list[str]:
    """Show `path` at `mount_point` in a private mount namespace, while still root.

    A home under a folder like /root (0700) cannot be reached by the dedicated uid, and bubblewrap
    resolves its sources as that uid. The host's own mounts do not change.
    """
    script = 'mount --bind -- "$0" "$1" && shift && exec "$@"'
    return [
        *(_program("unshare"), "--mount", "--propagation", "private", "--"),
        *("/bin/sh", "-c", script, str(path.resolve()), mount_point),
    ]
