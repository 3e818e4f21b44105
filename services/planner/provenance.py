"""What an answer file says about how it came about, so that the same number can be had twice."""

from functools import cache
from importlib.metadata import version

from pydantic import JsonValue

from services.contracts.llm import ModelInfo
from services.contracts.planner import RunEnded, SolveRequest
from services.planner.prompts.base import PromptProfile, fingerprint
from services.planner.prompts.questions import questions_fingerprint


@cache
def _version() -> str:
    return version("toolwright")


def provenance(
    request: SolveRequest,
    *,
    method: str,
    prompts: PromptProfile,
    model: ModelInfo,
    event: RunEnded,
) -> dict[str, JsonValue]:
    """The key `toolwright` of an answer file.

    Args:
        request: What was asked for.
        method: Full name of the method.
        prompts: Profile that was used.
        model: The model as it describes itself.
        event: How the run ended.
    """
    return {
        "version": _version(),
        "method": method,
        # A run that made calls ahead of time has the tree of `exact`, and the same file.
        "mode": "parallel" if request.mode == "parallel" else "exact",
        "seed": request.seed,
        "prompts": {
            "profile": prompts.name,
            "version": prompts.version,
            "sha256": fingerprint(prompts.texts),
            "questions_sha256": questions_fingerprint(),
        },
        "model": {"name": model.model, "engine": model.engine, "dialect": model.dialect},
        "compat": [name for name, value in request.compat if value],
        "end": {"kind": event.kind, "limit": event.limit, "best_effort": event.is_best_effort},
    }
