"""A sandbox without walls for trusted test code, and catalogue entries to run in it."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.contracts.apis import ApiDocument, ApiParameter, ApiRef
from services.toolenv.catalog import CatalogueEntry, ToolCode
from services.toolenv.egress.policy import EgressPolicy
from services.toolenv.sandbox import SandboxOutcome, SandboxResult


def make_entry(
    ref: str = "Customized/echo_tool/echo_text",
    *,
    source: str | None = "def echo_text(text, times=1):\n    return text * times\n",
) -> CatalogueEntry:
    address = ApiRef.parse(ref)
    document = ApiDocument(
        ref=address,
        category_name=address.category,
        tool_name="Echo Tool",
        api_name="Echo Text",
        required_parameters=(ApiParameter(name="Text"),),
        optional_parameters=(ApiParameter(name="times", type="NUMBER"),),
    )
    code = None if source is None else ToolCode(Path("api.py"), source)
    return CatalogueEntry(document, code)


class FakeSandbox:
    """Runs trusted test code in this process and keeps the calls; `force` replaces the outcome."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any], float]] = []
        self.force: SandboxResult | None = None
        self.hang = False

    async def call(
        self,
        *,
        source: str,
        function: str,
        arguments: Mapping[str, Any],
        deadline_s: float,
        egress: EgressPolicy | None = None,
        dependencies: tuple[str, ...] = (),
    ) -> SandboxResult:
        self.calls.append((function, dict(arguments), deadline_s))
        if self.hang:
            await asyncio.sleep(3600)
        return self.force or self._run(source, function, arguments)

    def _run(self, source: str, function: str, arguments: Mapping[str, Any]) -> SandboxResult:
        module: dict[str, Any] = {}
        exec(source, module)
        try:
            value = module[function](**arguments)
        except Exception as exc:  # noqa: BLE001  # test code may raise anything
            return ended(SandboxOutcome.TOOL_ERROR, error=f"{type(exc).__name__}: {exc}")
        return ended(SandboxOutcome.OK, value=value)


def ended(
    outcome: SandboxOutcome, *, value: Any = None, error: str = "", stdout: str = ""
) -> SandboxResult:
    return SandboxResult(
        outcome=outcome, value=value, error=error, stdout=stdout, latency_s=0.25, cpu_s=None
    )
