"""A model for tests of tree searches: its steps and its verdicts are written down as a tree."""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from services.contracts.compat import NONE, Compat
from services.contracts.llm import ChatRequest, Message, ModelInfo
from services.contracts.planner import Deliberated, Limits, PlanEvent, RunEnded, SolveRequest
from services.planner.service import PlannerService
from tests.fakes.planner_ports import (
    HELLO,
    HELLO_NAME,
    FakeToolEnv,
    ScriptedModel,
    document,
    events_of,
    number,
    reply,
)

SEARCH_ONLY = NONE.model_copy(update={"no_answer_at_limits": True})
"""Our own behaviour, but for the last call that answers when a limit ended the search."""
Path = tuple[str, ...]
"""Thoughts from the root down."""


def step(label: str) -> Message:
    """A call of three units (thought, action, input) whose arguments are the label's own."""
    arguments = json.dumps({"n": int.from_bytes(label.encode(), "big")})
    return reply((HELLO_NAME, arguments), thought=label)


def path_of(request: ChatRequest) -> Path:
    """Where in the tree the model is asked for a step."""
    return tuple(m.content or "" for m in request.messages if m.role == "assistant")


def question_of(request: ChatRequest) -> str:
    """What the model is asked to judge."""
    return request.messages[-1].content or ""


def labels_in(request: ChatRequest) -> list[str]:
    """Thoughts in the trajectories to be judged, in the order shown."""
    return re.findall(r"step_\d+: Thought: (.*)\n", question_of(request))


class JudgedTree(ScriptedModel):
    """Steps by the path at which they are asked for, one after the other; verdicts by a function.

    Attributes:
        steps: Requests for a step, in order.
        questions: Requests for a verdict, in order.
    """

    def __init__(
        self,
        tree: Mapping[Path, Sequence[Message]] | Callable[[ChatRequest], Message],
        judge: Callable[[ChatRequest], str] = lambda _: "",
        *,
        info: ModelInfo | None = None,
        delay_s: float = 0.0,
    ) -> None:
        super().__init__(self._reply, info=info, delay_s=delay_s)
        self.steps: list[ChatRequest] = []
        self.questions: list[ChatRequest] = []
        self._tree = tree
        self._judge = judge
        self._asked: dict[Path, int] = defaultdict(int)

    def _reply(self, request: ChatRequest) -> Message:
        if request.tool_choice == "none":
            self.questions.append(request)
            return Message(role="assistant", content=self._judge(request))
        self.steps.append(request)
        if callable(self._tree):
            return self._tree(request)
        path = path_of(request)
        self._asked[path] += 1
        return self._tree[path][self._asked[path] - 1]


def scores(table: Mapping[str, int]) -> Callable[[ChatRequest], str]:
    """A judge that scores a trajectory by its last thought."""
    return lambda request: f"Because. Score: {table[labels_in(request)[-1]]}"


async def solve(
    model: ScriptedModel,
    method: str,
    *,
    limits: Limits | None = None,
    compat: Compat = SEARCH_ONLY,
    mode: str = "exact",
    toolenv: FakeToolEnv | None = None,
) -> list[PlanEvent]:
    """All events of a run over one API, which may change things, with its answer file."""
    toolenv = toolenv or FakeToolEnv([document(HELLO, optional_parameters=(number("n"),))])
    planner = PlannerService(model=model, toolenv=toolenv, retriever=None)
    request = SolveRequest.model_validate(
        {
            "instruction": "say hello",
            "method": method,
            "apis": (HELLO,),
            "limits": limits or Limits(max_depth=12),
            "compat": compat,
            "mode": mode,
            "allow_writes": True,
            "record": True,
        }
    )
    return await events_of(planner, request)


def tree_of(end: RunEnded) -> dict:
    assert end.record is not None
    return end.record["tree"]["tree"]


def leaves_below(node: dict) -> list[dict]:
    """Where the expansions of a recorded node ended, in the order of its children."""
    found = []
    for child in node["children"]:
        leaf = child
        while leaf["node_type"] != "Action Input" and leaf["children"]:
            leaf = leaf["children"][0]
        found.append(leaf | {"label": child["description"]})
    return found


def outline(node: dict) -> dict:
    """A recorded tree by its thoughts: `label: (entered, pruned, subtree)`."""
    return {
        leaf["label"]: (leaf["expand_num"], leaf["pruned"], outline(leaf))
        for leaf in leaves_below(node)
    }


def purposes(events: Sequence[PlanEvent]) -> list[str]:
    return [event.purpose for event in events if isinstance(event, Deliberated)]
