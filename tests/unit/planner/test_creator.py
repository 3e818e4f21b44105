"""CREATOR: create, decide, execute, rectify; and what it offers to the catalogue."""

import json
from collections.abc import Callable

import pytest

from services.contracts.errors import FailedPrecondition, Unavailable
from services.contracts.llm import ModelInfo
from services.contracts.planner import Limits, PlanEvent, SolveRequest, ToolFinished, ToolStarted
from services.contracts.toolenv import CallStatus, Observation, Trial
from services.planner.service import PlannerService
from tests.fakes.kept_runs import World, heard
from tests.fakes.planner_ports import (
    HELLO,
    FakeToolEnv,
    ScriptedModel,
    end_of,
    events_of,
)
from tests.fakes.planner_sums import is_conversation, observations, purposes, question, words

pytestmark = pytest.mark.anyio

TOOL = '''def fahrenheit(celsius: float) -> float:
    """Convert a temperature."""
    return celsius * 9 / 5 + 32'''
MAIN = "def main():\n    return fahrenheit(100)"
TESTS = """def test_of_freezing():
    assert fahrenheit(0) == 32


def test_where_both_are_equal():
    assert fahrenheit(-40) == -40"""


def fenced(code: str) -> str:
    return f"Here it is:\n```python\n{code}\n```\nThat is all."


def said(response: object = "", *, error: str = "") -> Observation:
    status = CallStatus.TOOL_ERROR if error else CallStatus.OK
    content = json.dumps({"error": error, "response": response})
    return Observation(status=status, content=content, source="custom", latency_s=0.0)


def sandbox(main: Callable[[str], Observation] = lambda _: said(212.0)) -> FakeToolEnv:
    """A sandbox that knows what the program gives; tests pass in it."""
    return FakeToolEnv(tried=lambda t: main(t.source) if t.function == "main" else said(None))


def request(**changes: object) -> SolveRequest:
    values = {"instruction": "What is 100 degrees Celsius in Fahrenheit?", "method": "CREATOR"}
    return SolveRequest.model_validate(
        {**values, "apis": (HELLO,), "record": True, "limits": Limits(max_depth=100), **changes}
    )


async def solved(model: ScriptedModel, world: FakeToolEnv, **changes: object) -> list[PlanEvent]:
    planner = PlannerService(model=model, toolenv=world, retriever=None)
    return await events_of(planner, request(**changes))


GOOD = [fenced(TOOL), fenced(MAIN), "212 degrees", fenced(TESTS)]


def scripted(*texts: str) -> ScriptedModel:
    return ScriptedModel([words(text) for text in texts])


async def test_the_example_computed_by_hand() -> None:
    """Section 3: Creation, Decision, Execution; nothing is to be rectified.

    100 * 9 / 5 + 32 = 212. Four model calls: the three of the answer, and the tests. One execution
    and two tests. The chain is the tool (one thought), the decision with its execution (thought,
    action, input) and Finish (action, input): 1 + 3 + 2 = 6 nodes.
    """
    world, model = sandbox(), scripted(*GOOD)
    events = await solved(model, world)
    end = end_of(events)
    assert (end.kind, end.answer) == ("answered", "212 degrees")
    assert purposes(events) == ["create", "decide", "answer", "test"]
    assert (end.llm_calls, end.tool_calls) == (4, 3)
    assert world.trials[0] == Trial(source=f"{TOOL}\n\n\n{MAIN}\n", function="main")
    (chain,) = [tried["chain"] for tried in end.record["trys"]]
    assert [node["node_type"] for node in chain] == [
        "Thought",
        *("Thought", "Action", "Action Input"),
        *("Action", "Action Input"),
    ]
    assert chain[3]["observation"] == '{"error": "", "response": 212.0}'


async def test_what_the_model_is_shown_is_a_conversation() -> None:
    model = scripted(*GOOD)
    end = end_of(await solved(model, sandbox()))
    assert all(is_conversation(request.messages) for request in model.requests)
    assert is_conversation(end.solution_path)
    assert [message.role for message in model.requests[2].messages] == [
        *("system", "user"),
        *("user", "assistant"),
        *("user", "assistant", "tool"),
        "user",
    ]


async def test_an_error_is_fed_back_and_the_corrected_program_runs() -> None:
    wrong = TOOL.replace("* 9 / 5", "* 9 / 0")

    def run(source: str) -> Observation:
        return said(error="ZeroDivisionError: division") if "/ 0" in source else said(212.0)

    world = sandbox(run)
    model = scripted(fenced(wrong), fenced(MAIN), fenced(f"{TOOL}\n\n{MAIN}"), *GOOD[2:])
    events = await solved(model, world)
    assert purposes(events) == ["create", "decide", "rectify", "answer", "test"]
    assert "ZeroDivisionError" in (model.requests[2].messages[-2].content or "")
    assert [trial.source for trial in world.trials[:2]] == [
        f"{wrong}\n\n\n{MAIN}\n",
        f"{TOOL}\n\n\n{MAIN}\n",
    ]
    assert end_of(events).proposal.source == f"{TOOL}\n"


async def test_a_correction_of_one_part_leaves_the_other() -> None:
    world = sandbox(lambda source: said(1) if "fahrenheit(1)" in source else said(error="no"))
    corrected = "import math\ndef main():\n    return fahrenheit(1)"
    await solved(scripted(GOOD[0], GOOD[1], fenced(corrected), "x", ""), world)
    assert world.trials[1].source == (
        f"{TOOL}\n\n\nimport math\n\n\ndef main():\n    return fahrenheit(1)\n"
    )


async def test_after_three_corrections_the_run_gives_up() -> None:
    world = sandbox(lambda _: said(error="ValueError: no"))
    events = await solved(scripted(GOOD[0], *[GOOD[1]] * 4), world)
    end = end_of(events)
    assert purposes(events) == ["create", "decide", *["rectify"] * 3]
    assert (end.kind, len(world.trials), end.proposal) == ("gave_up", 4, None)


async def test_equal_errors_of_different_programs_are_no_loop() -> None:
    world = sandbox(lambda _: said(error="ValueError: no"))
    end = end_of(await solved(scripted(GOOD[0], *[GOOD[1]] * 4), world))
    (chain,) = [tried["chain"] for tried in end.record["trys"]]
    assert [node["pruned"] for node in chain[:-1]] == [False] * (len(chain) - 1)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("I would compute it.", "holds no Python code"),
        (fenced("def main(:\n    return 1"), "no Python: invalid syntax, line 1"),
        (fenced("result = 212"), "there is no function main()"),
        (fenced("def main():\n    print(212)"), "main() returns nothing"),
        (fenced("# " + "x" * 20_000), "more than 20000"),
        (fenced("x = " + "(" * 5_000), "no Python"),
        (fenced("x = " + "-" * 15_000 + "1"), "no Python"),
        ("```python\n\x00\n```", "no Python"),
    ],
)
async def test_unreadable_code_is_an_error_that_costs_no_execution(text: str, reason: str) -> None:
    world = sandbox()
    events = await solved(scripted(GOOD[0], text, *GOOD[1:]), world)
    (status, why), *_ = observations(events)
    assert status is CallStatus.INVALID_ARGUMENTS
    assert reason in json.loads(why)["error"]
    assert [trial.function for trial in world.trials].count("main") == 1
    assert end_of(events).kind == "answered"


async def test_a_run_without_a_tool_is_told_so() -> None:
    events = await solved(scripted("?", *[GOOD[1]] * 4), sandbox())
    assert "no tool function was written" in observations(events)[0][1]
    assert end_of(events).kind == "gave_up"


async def test_the_models_code_never_runs_in_this_process(tmp_path) -> None:
    mark = tmp_path / "ran"
    harm = f"open({str(mark)!r}, 'w').write('x')"
    tool = f"{harm}\n{TOOL}\nVALUE = {harm}\nclass Sub:\n    {harm}\n"
    main = f"def main(x={harm}):\n    {harm}\n    return 1"
    tests = f"def test_it(x={harm}):\n    {harm}\n    assert fahrenheit(0) == 32"
    end = end_of(await solved(scripted(*map(fenced, (tool, main)), "1", fenced(tests)), sandbox()))
    assert end.proposal is not None
    assert not mark.exists()


async def test_the_tool_is_offered_with_the_tests_that_pass() -> None:
    tests = TESTS + "\n\ndef test_wrong():\n    assert fahrenheit(1) == 0"
    results = {"main": said(212.0), "test_wrong": said(error="AssertionError: ")}
    world = FakeToolEnv(tried=lambda trial: results.get(trial.function, said(None)))
    model = scripted(*GOOD[:3], fenced(f"import math\n{tests}\n\nprint(main())"))
    offered = end_of(await solved(model, world)).proposal
    assert offered.name == "fahrenheit"
    assert offered.source == f"{TOOL}\n"
    assert offered.tests == f"import math\n\n\n{TESTS}\n"
    assert (offered.failed_tests, offered.instruction) == (1, request().instruction)
    assert world.trials[1].source.startswith(f"{TOOL}\n\n\nimport math\n\ndef test_of_freezing")


@pytest.mark.parametrize(
    "tests",
    [
        "",
        "no code",
        fenced("def test_nothing():\n    assert True"),
        fenced("def test_no_claim():\n    fahrenheit(0)"),
        fenced("def check():\n    assert fahrenheit(0) == 32"),
        fenced("def test_größe():\n    assert fahrenheit(0) == 32"),
        fenced(f"def test_{'x' * 100}():\n    assert fahrenheit(0) == 32"),
    ],
)
async def test_without_a_test_of_the_tool_nothing_is_offered(tests: str) -> None:
    end = end_of(await solved(scripted(*GOOD[:3], tests), sandbox()))
    assert (end.kind, end.tool_calls, end.proposal) == ("answered", 1, None)


async def test_a_tool_whose_tests_fail_is_not_offered() -> None:
    failing = FakeToolEnv(
        tried=lambda t: said(1) if t.function == "main" else said(error="AssertionError: ")
    )
    assert end_of(await solved(scripted(*GOOD), failing)).proposal is None


async def test_tests_are_told_as_actions_of_the_execution() -> None:
    events = await solved(scripted(*GOOD), sandbox())
    begun = [event for event in events if isinstance(event, ToolStarted)]
    assert [event.arguments for event in begun if event.function == "execute_code"] == [
        '{"attempt": 1}',
        '{"test": "test_of_freezing"}',
        '{"test": "test_where_both_are_equal"}',
    ]
    assert sum(isinstance(event, ToolFinished) for event in events) == len(begun)


async def test_a_model_that_gives_no_answer_gives_up() -> None:
    end = end_of(await solved(scripted(*GOOD[:2], ""), sandbox()))
    assert (end.kind, end.tool_calls, end.proposal) == ("gave_up", 1, None)


async def test_without_a_sandbox_the_run_fails_and_says_so() -> None:
    world = FakeToolEnv(error=FailedPrecondition("this tool environment runs no code"))
    end = end_of(await solved(scripted(*GOOD), world))
    assert (end.kind, end.reason) == ("failed", "this tool environment runs no code")


async def test_a_sandbox_that_dies_after_the_answer_takes_only_the_offer_away() -> None:
    def tried(trial: Trial) -> Observation:
        if trial.function != "main":
            raise Unavailable("the sandbox is gone")
        return said(212.0)

    end = end_of(await solved(scripted(*GOOD), FakeToolEnv(tried=tried)))
    assert (end.kind, end.proposal) == ("answered", None)


@pytest.mark.parametrize(
    ("limits", "kind", "calls"),
    [
        ({"max_llm_calls": 1}, "exhausted", (1, 0)),
        ({"max_llm_calls": 2}, "exhausted", (2, 1)),
        ({"max_llm_calls": 3}, "answered", (3, 1)),
        ({"max_tool_calls": 0}, "exhausted", (2, 0)),
        ({"max_tool_calls": 1}, "answered", (4, 1)),
    ],
)
async def test_a_budget_ends_it_anywhere(
    limits: dict[str, int], kind: str, calls: tuple[int, int]
) -> None:
    end = end_of(await solved(scripted(*GOOD), sandbox(), limits=Limits(max_depth=100, **limits)))
    assert (end.kind, (end.llm_calls, end.tool_calls)) == (kind, calls)
    assert end.proposal is None


async def test_a_model_that_only_proposes_calls_is_refused() -> None:
    model = ScriptedModel([], info=ModelInfo(model="small", follows_instructions=False))
    assert "'small' only proposes calls" in (end_of(await solved(model, sandbox())).reason or "")


async def test_the_question_shows_no_tool_output_and_asks_for_long_code() -> None:
    model = scripted(*GOOD)
    await solved(model, sandbox())
    assert all("212.0" not in question(request) for request in model.requests)
    assert [request.max_tokens for request in model.requests] == [2048, 2048, 512, 2048]


@pytest.mark.parametrize("mode", ["exact", "parallel"])
async def test_a_replay_executes_nothing(tmp_path, mode: str) -> None:
    world = World(tmp_path, toolenv=sandbox())
    world.model = scripted(*GOOD)
    told = await heard(world.planner().solve(request(run_id="r", mode=mode)))
    assert end_of(told).kind == "answered"
    trials = len(world.toolenv.trials)
    replayed = await heard(world.planner().replay("r"))
    assert replayed == told
    assert (len(world.toolenv.trials), len(world.model.requests)) == (trials, 4)
    assert end_of(replayed).proposal == end_of(told).proposal is not None
