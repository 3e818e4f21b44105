"""Checks of `toolwright doctor` about tools: sandbox, recordings, credentials, sources.

None of them calls an API, changes a tool or shows a secret.
"""

import asyncio
import shutil
import ssl
from contextlib import closing
from pathlib import Path

from cli.finding import Finding
from services.contracts.apis import ApiRef
from services.kit.settings import SharedSettings
from services.toolenv.settings import ToolEnvSettings

_SHOWN = 5  # names in one line
_COUNTED_BYTES = 512 << 20  # counting reads the whole file; more would take seconds


def sandbox() -> Finding:
    """Open the sandbox and let its canary tools attack it."""
    return asyncio.run(_open_sandbox())


async def _open_sandbox() -> Finding:
    from infra.embedded.assets import bundled_tools
    from services.toolenv.bootstrap import open_toolenv

    bubblewrap = shutil.which("bwrap") or "no bubblewrap"
    # The sandbox alone, so that whatever else is wrong is told by its own check.
    alone = ToolEnvSettings.model_validate(
        {
            "tools_roots": (bundled_tools(),),
            "user_tools": False,
            "sources": ("custom",),
            "allowed_sources": (),
            "record_sources": (),
        }
    )
    async with open_toolenv(alone, SharedSettings()) as toolenv:
        status = toolenv.sandbox_status()
    passed = sum(probe.is_passed for probe in status.probes)
    return Finding(
        "sandbox",
        status.is_alive and passed == len(status.probes),
        f"tier {status.tier}, Landlock ABI {status.landlock_abi}, cgroup {status.cgroup_mode}, "
        f"{bubblewrap}, {passed} of {len(status.probes)} canary attacks stopped",
    )


def egress_broker() -> Finding:
    """Start the process through which tool code reaches the network."""
    return asyncio.run(_start_broker())


async def _start_broker() -> Finding:
    from services.toolenv.sandbox import BrokerOptions, SandboxUnavailable, open_sandbox

    settings = ToolEnvSettings()
    options = BrokerOptions(allow_private=settings.allow_private, ca_file=settings.ca_file)
    home = SharedSettings().toolwright_home / "sandbox"
    try:
        # The check before this one has just probed the same sandbox.
        async with open_sandbox(
            home=home, tier=settings.sandbox_tier, pool_size=1, probes=False, broker=options
        ) as opened:
            await opened.warm_egress()
    except SandboxUnavailable as exc:
        fix = "mend TOOLENV_CA_FILE if it is set, then look at the log of `toolwright up`"
        return Finding("egress broker", False, f"{exc}; {fix}")
    return Finding("egress broker", True, f"starts; private addresses: {_private(settings)}")


def recordings() -> Finding:
    """Open the file of recordings, if there is one."""
    from services.toolenv.cassettes.store import Store, default_path

    settings = ToolEnvSettings()
    path = default_path(SharedSettings().toolwright_home)
    recorded = ", ".join(settings.record_sources) or "nothing (TOOLENV_RECORD_SOURCES=live does)"
    survives = "loss of power" if settings.cassette_durability == "power" else "a crash of ours"
    rules = f"records {recorded}; what is acknowledged survives {survives}"
    if not path.exists():
        return Finding("recordings", True, f"none yet at {path}; {rules}")
    with closing(Store(path, durability=settings.cassette_durability)) as store:
        if path.stat().st_size > _COUNTED_BYTES:
            count = f"{path.stat().st_size / 2**20:.0f} MiB"
        else:
            count = f"{store.info().summary.entries} answers"
    return Finding("recordings", True, f"{count} at {path}; {rules}")


def snapshots() -> Finding:
    """Open and check the frozen recordings that are mounted."""
    from services.toolenv.cassettes.snapshot import default_folder, open_snapshot

    settings = ToolEnvSettings()
    folder = default_folder(SharedSettings().toolwright_home)
    found = []
    for reference in settings.snapshots:
        with closing(open_snapshot(reference, folder, verify=settings.verify_snapshots)) as opened:
            found.append(f"{opened.path.name} ({opened.seal.entries} answers)")
    checked = "hashes checked" if settings.verify_snapshots else "hashes not checked"
    mounted = f"{_some(found)}; {checked}" if found else "none mounted (TOOLENV_SNAPSHOTS)"
    return Finding("snapshots", True, mounted)


def credentials() -> Finding:
    """Decrypt every stored credential; only the names are shown."""
    from services.toolenv.credentials import CredentialStore

    folder = SharedSettings().toolwright_home / "toolenv"
    key = ToolEnvSettings().read_credentials_key()
    store = CredentialStore(folder, key=key)
    names = []
    for info in store.names():
        api = None if info.tool is None else ApiRef.parse(f"{info.tool}/any")
        store.lookup(info.name, user=info.user, api=api)
        scope = " for ".join(part for part in (info.name, info.tool, info.user) if part)
        names.append(scope)
    kept = "of your own" if key is not None else f"in {folder}"
    if not names:
        hint = "`toolwright credentials set NAME` stores one"
        return Finding("credentials", True, f"none stored; {hint}")
    return Finding("credentials", True, f"set: {_some(names)}; key {kept}")


def user_tools() -> Finding:
    """Read the tools that were added, and say which are not offered."""
    from services.toolenv.catalog import load_catalogue
    from services.toolenv.pins import Pins, descriptors

    settings, home = ToolEnvSettings(), SharedSettings().toolwright_home
    root = settings.user_root or home / "tools"
    if not root.is_dir():
        return Finding("tools added", True, f"none yet in {root}; `toolwright tools add` adds one")
    catalogue = load_catalogue((root,))
    if catalogue.refusals:
        more = len(catalogue.refusals) - 1
        rest = f" (and {more} more: `toolwright tools validate {root}`)" if more else ""
        return Finding("tools added", False, f"{catalogue.refusals[0]}{rest}")
    pins = Pins(home / "toolenv").read() if settings.pin_tools else {}
    now = descriptors(catalogue.entries())
    held = [
        "/".join(key)
        for key, descriptor in now.items()
        if (pin := pins.get("/".join(key))) is not None and pin.sha256 != descriptor.sha256
    ]
    detail = f"{len(now)} tools with {len(catalogue)} APIs in {root}"
    if held:
        detail += f"; held back: {_some(held)}; `toolwright tools quarantine` shows why"
    return Finding("tools added", True, detail)


def mcp_jail() -> Finding:
    """Whether local MCP servers can be confined; a failure only where one is installed."""
    from services.toolenv.mcp_servers import Definitions, StdioTransport
    from services.toolenv.mcp_servers.jail import JailUnavailable, check_jail

    root = ToolEnvSettings().user_root or SharedSettings().toolwright_home / "tools"
    local = [
        name
        for name, server in Definitions(root).read().items()
        if isinstance(server.reach, StdioTransport)
    ]
    try:
        check_jail()
    except JailUnavailable as exc:
        return Finding("MCP servers", not local, f"local ones ({len(local)}) cannot run: {exc}")
    return Finding("MCP servers", True, f"local ones can be jailed; installed: {_some(local)}")


def live_calls() -> Finding:
    """The rules of calls to the outside, and the certificates that they trust."""
    settings = ToolEnvSettings()
    if settings.ca_file is not None:
        problem = _problem_of(settings.ca_file)
        if problem:
            path = str(settings.ca_file)
            fix = "name a PEM file of certificates, or unset it"
            return Finding("live calls", False, f"TOOLENV_CA_FILE {path!r}: {problem}; {fix}")
    if not {"live", "custom"} & settings.opened_sources:
        return Finding("live calls", True, "switched off: TOOLENV_SOURCES names neither source")
    on_request = ", ".join(source for source in settings.allowed_sources) or "none"
    return Finding(
        "live calls",
        True,
        f"asked in order: {', '.join(settings.sources)}; further ones a call may name: "
        f"{on_request}; per host {settings.live_concurrency} at once, "
        f"{settings.live_rate_per_s:g} per s, {settings.live_timeout_s:g} s each; private "
        f"addresses: {_private(settings)}",
    )


def _problem_of(ca_file: Path) -> str:
    try:
        ssl.create_default_context(cafile=str(ca_file))
    except OSError as exc:  # also a file without certificates
        return str(exc)
    return ""


def _private(settings: ToolEnvSettings) -> str:
    return _some(sorted(settings.allow_private))


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:_SHOWN]) or "none"
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
