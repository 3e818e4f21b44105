"""What one gateway process holds while it runs."""

from dataclasses import dataclass

from fastapi import Request

from gateway.backends import Backends
from gateway.runs import RunPool


@dataclass(frozen=True, slots=True)
class GatewayState:
    """Backends and the pool of runs."""

    backends: Backends
    pool: RunPool


def state_of(request: Request) -> GatewayState:
    """The state of the process that serves a request."""
    state: GatewayState = request.state.service
    return state
