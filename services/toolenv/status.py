"""What an operator may ask about the sandbox."""

from services.contracts.base import ForeignModel


class ProbeStatus(ForeignModel):
    """One canary attack that ran when the sandbox was opened."""

    name: str
    is_passed: bool
    detail: str


class SandboxStatus(ForeignModel):
    """State of the sandbox now."""

    tier: str
    """`ns` (namespaces, bubblewrap) or `chroot`."""
    is_alive: bool
    """Whether a call would start at once."""
    landlock_abi: int
    """Landlock version of the kernel, 0 when it has none."""
    cgroup_mode: str = "none"
    """`v1`, `v2`, or `none` where the host may not make a cgroup."""
    groups: tuple[str, ...] = ()
    """Running groups of zygotes, as `site/profile`."""
    probes: tuple[ProbeStatus, ...]
