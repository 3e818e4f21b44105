"""What an answer file says about how it came about."""

import pytest

from services.contracts.compat import TOOLBENCH
from services.contracts.planner import SolveRequest
from services.planner.prompts.base import fingerprint
from services.planner.prompts.compact import CompactPrompts
from services.planner.prompts.questions import questions_fingerprint
from services.planner.service import PlannerService
from tests.fakes.planner_ports import HELLO, FakeToolEnv, ScriptedModel, answer, end_of, events_of

pytestmark = pytest.mark.anyio


async def provenance_of(**changes: object) -> dict:
    planner = PlannerService(
        model=ScriptedModel([answer("hi")]), toolenv=FakeToolEnv(), retriever=None
    )
    request = SolveRequest.model_validate(
        {"instruction": "say hello", "apis": [HELLO], "record": True, **changes}
    )
    record = end_of(await events_of(planner, request)).record
    assert record is not None
    assert list(record)[-1] == "toolwright"
    return record["toolwright"]


async def test_an_answer_file_names_what_decided_it() -> None:
    found = await provenance_of(method="react", seed=7)
    assert (found["method"], found["seed"], found["mode"]) == ("CoT@1", 7, "exact")
    assert found["prompts"]["profile"] == "compact"
    assert found["prompts"]["sha256"] == fingerprint(CompactPrompts().texts)
    assert found["end"] == {"kind": "answered", "limit": None, "best_effort": False}


async def test_quirks_and_prompts_of_the_reference_are_named() -> None:
    found = await provenance_of(compat=TOOLBENCH.model_dump())
    assert "match_function_suffix" in found["compat"]
    assert found["prompts"]["profile"] == "toolbench"


async def test_a_run_ahead_of_itself_leaves_the_same_file_as_an_exact_one() -> None:
    assert await provenance_of(mode="speculative") == await provenance_of(mode="exact")
    assert (await provenance_of(mode="parallel"))["mode"] == "parallel"


def test_a_changed_question_changes_the_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    before = questions_fingerprint()
    questions_fingerprint.cache_clear()
    monkeypatch.setattr("services.planner.prompts.reflection.REFLECT", "something else")
    changed = questions_fingerprint()
    questions_fingerprint.cache_clear()
    assert changed != before
