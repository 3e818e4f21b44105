"""HTTP form of the `Evaluator` port."""

from fastapi import APIRouter, Request
from pydantic import TypeAdapter

from services.contracts.evaluator import Report, Sample, SampleResult
from services.evaluator.service import EvaluatorService
from services.kit.app import parse_body

router = APIRouter(tags=["evaluator"])
_SAMPLE = TypeAdapter(Sample)


@router.post("/v1/samples")
async def run_sample(request: Request) -> SampleResult:
    """Solve and judge one sample; repeating the request returns the stored result."""
    service: EvaluatorService = request.state.service
    return await service.run_sample(await parse_body(request, _SAMPLE))


@router.get("/v1/campaigns/{campaign}/report")
async def report(request: Request, campaign: str) -> Report:
    """Summarise a campaign."""
    service: EvaluatorService = request.state.service
    return await service.report(campaign)
