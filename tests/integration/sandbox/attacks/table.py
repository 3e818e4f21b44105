"""Every attack of the acceptance list, by name."""

from tests.integration.sandbox.attacks import (
    files,
    network,
    privileges,
    processes,
    protocol,
    resources,
    state,
    system_calls,
)
from tests.integration.sandbox.attacks.attack import Attack

ATTACKS: tuple[Attack, ...] = (
    *files.ATTACKS,
    *processes.ATTACKS,
    *network.ATTACKS,
    *resources.ATTACKS,
    *privileges.ATTACKS,
    *system_calls.ATTACKS,
    *state.ATTACKS,
    *protocol.ATTACKS,
)
