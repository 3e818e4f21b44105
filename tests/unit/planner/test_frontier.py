"""What all tree searches share: ends, limits, order, and who may use them."""

import asyncio
import json

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.contracts.apis import SideEffect
from services.contracts.compat import NONE, TOOLBENCH, Compat
from services.contracts.errors import InvalidArgument, Unavailable
from services.contracts.llm import ChatRequest, Completion, Message, ModelInfo
from services.contracts.planner import (
    Deliberated,
    ExpansionFinished,
    ExpansionStarted,
    Limits,
)
from services.contracts.toolbench.answer_file import is_answer_file
from services.planner.search.frontier import first_action
from services.planner.tree import NodeFactory, NodeType
from tests.fakes.judged_tree import (
    JudgedTree,
    labels_in,
    outline,
    path_of,
    scores,
    solve,
    step,
    tree_of,
)
from tests.fakes.planner_ports import (
    HELLO,
    OTHER,
    FakeToolEnv,
    ScriptedModel,
    answer,
    document,
    end_of,
    give_up,
    number,
    reply,
)

pytestmark = pytest.mark.anyio

METHODS = ["DFS_w2", "BFS_w2", "BestFirst_w2", "LATS_w2", "UCT_vote"]
each_method = pytest.mark.parametrize("method", METHODS)


def varied(request: ChatRequest) -> Message:
    """A step that differs from its siblings and ancestors."""
    return step(f"{len(path_of(request))}{request.seed}{len(request.messages)}")


@each_method
async def test_when_every_branch_gives_up_the_run_gave_up(method: str) -> None:
    end = end_of(await solve(JudgedTree(lambda _: give_up("no")), method))
    assert (end.kind, end.answer) == ("gave_up", None)
    assert end.record["answer_generation"]["finish_type"] == "give_up"


@each_method
async def test_the_depth_limit_prunes_and_ends_the_search(method: str) -> None:
    model = JudgedTree(varied, lambda _: "Score: 5. 1. Choice: 1 a")
    end = end_of(await solve(model, method, limits=Limits(max_depth=3)))
    assert (end.kind, end.limit) == ("exhausted", "max_depth")
    assert all(pruned for _, pruned, _ in outline(tree_of(end)).values())


@each_method
async def test_a_budget_may_end_in_the_midst_of_a_vote(method: str) -> None:
    # One call more than the first round's steps; UCT_vote has three children, the others two.
    steps = 3 if method == "UCT_vote" else 2
    # A level of two needs no scores in BFS; its second level has four.
    steps = 6 if method == "BFS_w2" else steps
    model = JudgedTree(varied, lambda _: "Score: 5. Choice: 1 a")
    end = end_of(await solve(model, method, limits=Limits(max_llm_calls=steps + 1)))
    assert (end.kind, end.limit, end.llm_calls) == ("exhausted", "max_llm_calls", steps + 1)
    assert end.record["win"] is False


async def test_a_sibling_refused_by_a_budget_does_not_throw_away_what_is_paid_for() -> None:
    model = JudgedTree({(): [step("first"), step("second")]}, delay_s=0.01)
    limits = Limits(max_llm_calls=1)
    end = end_of(await solve(model, "BFS_w2", limits=limits, mode="parallel"))
    assert (end.kind, end.limit, end.llm_calls) == ("exhausted", "max_llm_calls", 1)
    assert list(outline(tree_of(end))) == ["first"]


async def test_any_other_failure_ends_the_siblings_at_once() -> None:
    entered = anyio.Event()

    class Failing(ScriptedModel):
        async def complete(self, request: ChatRequest) -> Completion:
            self.requests.append(request)
            if len(self.requests) == 1:
                entered.set()
                await anyio.sleep_forever()
            await entered.wait()
            raise Unavailable("the model is gone")

    with anyio.fail_after(5):
        end = end_of(await solve(Failing([]), "BFS_w2", mode="parallel"))
    assert (end.kind, end.problem.detail) == ("failed", "the model is gone")


@pytest.mark.parametrize("mode", ["exact", "parallel"])
@pytest.mark.parametrize("method", ["BFS_w2", "LATS_w2", "UCT_vote"])
async def test_answers_found_before_the_budget_ended_count(method: str, mode: str) -> None:
    # The budget ends with the steps: their answers are never compared or scored.
    steps = 3 if method == "UCT_vote" else 2
    model = JudgedTree({(): [answer("x", "A"), answer("y", "B"), answer("z", "C")]})
    end = end_of(await solve(model, method, limits=Limits(max_llm_calls=steps), mode=mode))
    assert (end.kind, end.answer, end.llm_calls) == ("answered", "x", steps)
    assert json.loads(end.final_arguments)["final_answer"] == "x"


@each_method
async def test_a_model_that_only_proposes_calls_is_refused(method: str) -> None:
    model = JudgedTree(varied, info=ModelInfo(model="mini", follows_instructions=False))
    end = end_of(await solve(model, method))
    assert (end.kind, end.llm_calls) == ("failed", 0)
    assert end.problem.code == "failed_precondition"
    assert method in end.reason


@each_method
async def test_a_conversation_that_overflows_the_model_ends_its_branch(method: str) -> None:
    def reply(request: ChatRequest) -> Message:
        if len(path_of(request)) == 1:
            raise InvalidArgument("the prompt has 9000 tokens, the limit is 8192")
        return varied(request)

    model = JudgedTree(reply, lambda _: "Score: 5. Choice: 1 a")
    end = end_of(await solve(model, method))
    assert (end.kind, end.limit) == ("exhausted", "max_depth")


@each_method
async def test_verdicts_that_cannot_be_read_never_end_a_run(method: str) -> None:
    def reply(request: ChatRequest) -> Message:
        depth = len(path_of(request))
        return answer("x", f"{request.seed}") if depth == 2 else varied(request)

    events = await solve(JudgedTree(reply, lambda _: "\x00 …"), method)
    assert end_of(events).kind == "answered"
    verdicts = [e for e in events if isinstance(e, Deliberated) and e.purpose != "reflect"]
    assert not any(verdict.is_readable for verdict in verdicts)


@each_method
async def test_every_expansion_of_a_whole_search_is_closed_once(method: str) -> None:
    model = JudgedTree(varied, lambda _: "Score: 5. Choice: 1 a")
    events = await solve(model, method, limits=Limits(max_depth=6))
    begun = [e.expansion for e in events if isinstance(e, ExpansionStarted)]
    ended = [e.expansion for e in events if isinstance(e, ExpansionFinished)]
    assert sorted(ended) == begun


@each_method
async def test_the_answer_file_is_one_that_other_tools_read(method: str, tmp_path) -> None:
    end = end_of(await solve(JudgedTree(lambda _: answer("x", "done")), method))
    path = tmp_path / "1.json"
    path.write_text(json.dumps(end.record))
    assert is_answer_file(path, instruction="say hello")
    assert end.record["forward_args"]["with_filter"] is (method == "DFS_w2")
    assert end.record["forward_args"]["tree_beam_size"] == (3 if method == "UCT_vote" else 2)


class Hasty(JudgedTree):
    """Answers later samples sooner, where several are asked for at once."""

    async def complete(self, request: ChatRequest):
        await anyio.sleep(0.01 if request.seed == 0 and request.tool_choice != "none" else 0)
        return await super().complete(request)


@each_method
async def test_siblings_made_at_once_stand_in_the_order_of_their_samples(method: str) -> None:
    def reply(request: ChatRequest) -> Message:
        return step(f"sample {request.seed}")

    limits = Limits(max_depth=3)
    end = end_of(await solve(Hasty(reply), method, limits=limits, mode="parallel"))
    shown = [child["description"] for child in tree_of(end)["children"]]
    assert shown == [f"sample {k}" for k in range(len(shown))]
    assert len(shown) >= 2


@each_method
async def test_the_same_run_grows_the_same_tree(method: str) -> None:
    def judge(request: ChatRequest) -> str:
        return f"Score: {1 + len(''.join(labels_in(request))) % 9}. Choice: 2 b"

    records = [
        end_of(await solve(JudgedTree(varied, judge), method, limits=Limits(max_llm_calls=25)))
        for _ in range(2)
    ]
    assert records[0].record == records[1].record


def test_arguments_that_mean_the_same_are_the_same_action() -> None:
    nodes = NodeFactory()
    root = nodes.root(None)
    leaves = [
        nodes.child(nodes.child(root, NodeType.ACTION, "f"), NodeType.ACTION_INPUT, text)
        for text in ('{"a": 1, "b": 2}', '{"b":2,"a":1}', '{"a": 2}', "{broken")
    ]
    actions = [first_action(root, leaf) for leaf in leaves]
    assert actions[0] == actions[1]
    assert len(set(actions)) == 3


def test_a_thought_alone_is_an_action_of_its_own() -> None:
    nodes = NodeFactory()
    root = nodes.root(None)
    thoughts = [nodes.child(root, NodeType.THOUGHT, text) for text in ("one", "two")]
    assert [first_action(root, leaf) for leaf in thoughts] == [("", "one"), ("", "two")]


def shop() -> FakeToolEnv:
    """One API that changes something, and one that undoes it."""
    undo = {"api": OTHER, "arguments": {"n": "$arguments.n"}}
    parameters = (number("n"),)
    return FakeToolEnv(
        [
            document(
                HELLO,
                declared_effect=SideEffect.WRITE,
                inverse=undo,
                optional_parameters=parameters,
            ),
            document(OTHER, declared_effect=SideEffect.WRITE, optional_parameters=parameters),
        ]
    )


def give_up_after(label: str) -> Message:
    """A call and a give-up in one reply."""
    (call,), (end,) = step(label).tool_calls, give_up().tool_calls
    return reply((call.name, call.arguments), (end.name, end.arguments), thought=label)


def label_of(arguments: str) -> str:
    return chr(json.loads(arguments)["n"])


@pytest.mark.parametrize("mode", ["exact", "parallel"])
@pytest.mark.parametrize(
    ("method", "made", "undone"),
    [
        ("DFS_w2", ["A", "B"], ["A"]),
        ("BFS_w2", ["A", "B"], ["A"]),
        ("BestFirst_w2", ["A", "B"], ["A"]),
        ("LATS_w2", ["A", "B"], ["A"]),
        ("UCT_vote", ["A", "B", "C"], ["A", "C"]),
    ],
)
async def test_what_branches_without_an_answer_changed_is_undone(
    method: str, made: list[str], undone: list[str], mode: str
) -> None:
    tree = {
        (): [step("A"), step("B"), step("C")],
        ("A",): [give_up("no")] * 3,
        ("B",): [answer("x", "done")] * 3,
    }
    toolenv = shop()
    model = JudgedTree(tree, lambda _: "Score: 9. Choice: 1\n1. x\na")
    end = end_of(await solve(model, method, mode=mode, toolenv=toolenv))
    calls = [(call.api, label_of(call.arguments_text)) for call in toolenv.calls]
    assert [label for api, label in calls if api == HELLO] == made
    assert sorted(label for api, label in calls if api == OTHER) == undone
    assert end.answer == "x"


async def test_what_a_dropped_state_changed_is_undone_before_the_next_level() -> None:
    tree = {
        (): [step("A"), step("B")],
        ("A",): [step("C"), step("D")],
        ("B",): [step("E"), step("F")],
        ("A", "C"): [step("G"), give_up("no")],
        ("A", "D"): [give_up("no")] * 2,
    }
    toolenv = shop()
    model = JudgedTree(tree, scores({"C": 9, "D": 9, "E": 1, "F": 1}))
    await solve(model, "BFS_w2", toolenv=toolenv, limits=Limits(max_depth=9))
    calls = [(call.api, label_of(call.arguments_text)) for call in toolenv.calls]
    assert calls[6:9] == [(OTHER, "E"), (OTHER, "F"), (HELLO, "G")]


@pytest.mark.parametrize(
    ("method", "tree"),
    [
        (
            "BFS_w1",
            {(): [step("A")], ("A",): [answer("x", "done")]},
        ),
        (
            "BFS_w2",
            {
                (): [step("A"), give_up_after("B")],
                ("A",): [answer("x", "done")] * 2,
            },
        ),
        (
            "DFS_w2",
            {
                (): [step("A"), step("B")],
                ("A",): [give_up("no")] * 2,
                ("B",): [answer("x", "done")] * 2,
            },
        ),
    ],
)
async def test_the_model_is_told_of_changes_elsewhere_that_stand(
    method: str, tree: dict[tuple[str, ...], list[Message]]
) -> None:
    toolenv = FakeToolEnv(
        [document(HELLO, declared_effect=SideEffect.WRITE, optional_parameters=(number("n"),))]
    )
    model = JudgedTree(tree, lambda _: "a")
    await solve(model, method, toolenv=toolenv)
    told = [m.content for m in model.steps[-1].messages if "were not undone" in (m.content or "")]
    assert len(told) == (method != "BFS_w1")


MOVES = {
    "call": lambda label: step(label),
    "two": lambda label: reply(("made_up", "{"), ("made_up", "{}"), thought=label),
    "think": lambda label: Message(role="assistant", content=label),
    "nothing": lambda label: Message(role="assistant"),
    "give_up": lambda label: give_up(label),
    "answer": lambda label: answer(label, label),
}
VERDICTS = ["a", "b", "Score: 9", "Score: 1", "Choice: 2", "1. x\n2. y", "", "Score: 99"]


@settings(max_examples=60, deadline=None)
@given(
    moves=st.lists(st.sampled_from(sorted(MOVES)), min_size=1, max_size=9),
    verdicts=st.lists(st.sampled_from(VERDICTS), min_size=1, max_size=5),
    depth=st.integers(1, 9),
    calls=st.integers(1, 25),
    method=st.sampled_from([*METHODS, "DFS_w3", "BFS_w1", "LATS_w3"]),
    compat=st.sampled_from([NONE, TOOLBENCH]),
    mode=st.sampled_from(["exact", "parallel", "speculative"]),
)
def test_whatever_the_model_does_the_run_ends_and_its_books_balance(
    moves: list[str],
    verdicts: list[str],
    depth: int,
    calls: int,
    method: str,
    compat: Compat,
    mode: str,
) -> None:
    def move(request: ChatRequest) -> Message:
        k = len(model.steps)
        return MOVES[moves[k % len(moves)]](f"{k}")

    def judge(request: ChatRequest) -> str:
        return verdicts[len(model.questions) % len(verdicts)]

    model = JudgedTree(move, judge)
    limits = Limits(max_depth=depth, max_llm_calls=calls)
    events = asyncio.run(solve(model, method, limits=limits, compat=compat, mode=mode))
    end = end_of(events)
    assert end.kind in {"answered", "gave_up", "exhausted"}
    assert [event.sequence for event in events] == list(range(len(events)))
    assert end.llm_calls + end.extra_llm_calls == len(model.requests)
    ranking_past_limit = 7 if compat is TOOLBENCH else 0
    assert end.llm_calls <= calls + ranking_past_limit
    given_up = {"answered": "give_answer", "gave_up": "give_up"}
    written = end.record["answer_generation"]["finish_type"]
    assert written == given_up.get(end.kind, written)
