"""Runs tool code that nobody trusts; see `open_sandbox`."""

from services.toolenv.sandbox.brokerlink import BrokerOptions
from services.toolenv.sandbox.frames import JsonValue
from services.toolenv.sandbox.host import Sandbox, open_sandbox
from services.toolenv.sandbox.policy import SandboxLimits
from services.toolenv.sandbox.probes import ProbeResult
from services.toolenv.sandbox.results import SandboxOutcome, SandboxResult, SandboxUnavailable

__all__ = [
    "BrokerOptions",
    "JsonValue",
    "ProbeResult",
    "Sandbox",
    "SandboxLimits",
    "SandboxOutcome",
    "SandboxResult",
    "SandboxUnavailable",
    "open_sandbox",
]
