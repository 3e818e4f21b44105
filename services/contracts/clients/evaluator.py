"""`Evaluator` over HTTP."""

import httpx
from pydantic import TypeAdapter

from services.contracts.clients.http import call
from services.contracts.evaluator import Report, Sample, SampleResult

_SAMPLE_TIMEOUT_S = 3600.0
_REPORT_TIMEOUT_S = 60.0
_RESULT = TypeAdapter(SampleResult)
_REPORT = TypeAdapter(Report)


class HttpEvaluator:
    """See `Evaluator`; the caller owns and closes the client."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def run_sample(self, sample: Sample) -> SampleResult:
        """See `Evaluator.run_sample`."""
        return await call(
            self._http, "POST", "/v1/samples", _RESULT, body=sample, timeout_s=_SAMPLE_TIMEOUT_S
        )

    async def report(self, campaign: str) -> Report:
        """See `Evaluator.report`."""
        path = f"/v1/campaigns/{campaign}/report"
        return await call(self._http, "GET", path, _REPORT, timeout_s=_REPORT_TIMEOUT_S)
