"""Runs code that is no tool yet, so that its author can try it: in the sandbox, without network."""

from services.contracts.context import remaining_s
from services.contracts.toolenv import Observation, Trial
from services.toolenv.executors.custom import SandboxCall, ToolSandbox, observed, run_call


class TrialRunner:
    """Tries code. Safe to use concurrently; the sandbox belongs to the caller."""

    def __init__(self, sandbox: ToolSandbox, *, call_timeout_s: float = 30.0) -> None:
        """Use a sandbox.

        Args:
            sandbox: Where the code runs.
            call_timeout_s: Longest trial, seconds; the request's deadline may shorten it.
        """
        self._sandbox = sandbox
        self._call_timeout_s = call_timeout_s

    async def run(self, trial: Trial) -> Observation:
        """See `ToolEnv.try_code`."""
        limit_s = remaining_s(at_most_s=self._call_timeout_s)
        call = SandboxCall(trial.source, trial.function, trial.arguments)
        result = await run_call(self._sandbox, call, limit_s=limit_s)
        accepted = "the function's signature says what it takes"
        return observed(result, accepted=accepted, limit_s=limit_s, keep=None)
