"""Monte-Carlo tree search with the model as its judge: `LATS_wN` and `UCT_vote`.

Source: Zhou et al. 2023 (LATS), section 4; selection by UCT (equation 1)

    UCT(s) = V(s) + w sqrt(ln N(parent) / N(s)),   w = 1,

expansion into n children, evaluation by equation 2

    V(s) = lambda LM(s) + (1 - lambda) SC(s),      lambda = 1/2,

with the model's score LM and the share SC of the samples that chose the same action; simulation,
which expands the best child until the branch ends; backpropagation of the reward r as an average,
V(s) <- (V(s) (N(s) - 1) + r) / N(s); and a reflection on each failed trajectory, which later
expansions are shown.

`UCT_vote` is a name that ToolBench lists and never implemented. Here it is the same tree policy
with three children a node, values from votes among siblings (Yao et al. 2023, Tree of Thoughts,
section 3), no reflections, and the first answer wins.

Deviations: tools give no reward, so an answer's reward is its score LM, a branch that ends without
an answer has reward 0, and LATS ends at an answer of at least `ACCEPTED_SCORE`; answers below that
are kept, best first, should nothing better be found. The evaluation of a new state counts as its
first visit (N = 1), where equation 1 would divide by zero. Branches that ended, and states below
which every branch has, are not selected again. The number of rollouts is bounded by the run's
limits alone.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final

from services.planner.prompts.ranking import lessons
from services.planner.search.base import Search, Shape
from services.planner.search.frontier import Growth, action_shares, is_over, put_first
from services.planner.search.ranking import reflection, values, vote_shares
from services.planner.tree import Node, extend

ACCEPTED_SCORE: Final = 0.7
"""Least reward, in [0, 1], of an answer that ends LATS: 7 of 10 points."""
EXPLORATION: Final = 1.0
"""w of equation 1."""
LM_WEIGHT: Final = 0.5
"""lambda of equation 2: both parts count the same."""
VOTE_CHILDREN: Final = 3
"""Children a node of `UCT_vote` gets: the fewest among which a majority is possible."""
MAX_LESSONS: Final = 3
"""Reflections that are shown, latest first kept; Shinn et al. 2023 (Reflexion), section 3: 1-3."""


@dataclass(slots=True, eq=False)
class State:
    """A node of the tree policy: where one expansion led."""

    node: Node
    parent: "State | None" = None
    value: float = 0.0
    """V(s), in [0, 1]: the average over the evaluation and the rewards that came through."""
    visits: int = 1
    """N(s)."""
    children: list["State"] = field(default_factory=list)
    is_closed: bool = False
    """Nothing below it is left to be tried."""

    def uct(self) -> float:
        """Equation 1; only of a state with a parent."""
        assert self.parent is not None  # the root is never compared
        return self.value + EXPLORATION * math.sqrt(math.log(self.parent.visits) / self.visits)


def select(root: State) -> State:
    """The state without children that UCT leads to; of equals the older one.

    The root must not be closed.
    """
    state = root
    while state.children:
        state = max((s for s in state.children if not s.is_closed), key=State.uct)
    return state


def backpropagate(end: State) -> None:
    """Count a rollout's reward, the value of its end, in every state above it."""
    state = end.parent
    while state is not None:
        state.visits += 1
        state.value += (end.value - state.value) / state.visits
        state = state.parent


@dataclass(slots=True)
class _Rollouts:
    """One run's tree and memory."""

    search: Search
    growth: Growth
    answers: list[State] = field(default_factory=list)
    reflections: list[str] = field(default_factory=list)


class _TreePolicy(ABC):
    """The loop that both methods share; see the module."""

    shape: ClassVar[Shape] = "tree"
    width: int

    @property
    @abstractmethod
    def name(self) -> str:
        """See `SearchMethod.name`."""

    async def run(self, search: Search) -> None:
        """See `SearchMethod.run`."""
        search.require_free_answers(self.name)
        rollouts = _Rollouts(search, Growth(search))
        root = State(rollouts.growth.root)
        while not root.is_closed:
            end = await self._simulate(rollouts, select(root))
            if self._wins(end):
                break
            backpropagate(end)
            if not root.is_closed:
                await self._learn(rollouts, end)
        await rollouts.growth.close()

    async def _simulate(self, rollouts: _Rollouts, state: State) -> State:
        """Expand the best child, from this state down, until the branch ends; returns its end."""
        while True:
            await self._expand(rollouts, state)
            state = max(state.children, key=lambda child: (self._wins(child), child.value))
            if is_over(state.node):
                return state

    async def _expand(self, rollouts: _Rollouts, state: State) -> None:
        if state.parent is not None:
            rollouts.growth.enter(state.node)
        leaves = await self._sample(rollouts, state.node)
        scores = await self._values(rollouts.search, state.node, leaves)
        state.children = [
            State(leaf, state, value, is_closed=is_over(leaf))
            for leaf, value in zip(leaves, scores, strict=True)
        ]
        _close_up(state)
        rollouts.answers += [child for child in state.children if child.node.is_terminal]
        rollouts.answers.sort(key=lambda answer: -answer.value)
        put_first(rollouts.search, [answer.node for answer in rollouts.answers])

    @abstractmethod
    async def _sample(self, rollouts: _Rollouts, node: Node) -> list[Node]:
        """The node's new leaves."""

    @abstractmethod
    async def _values(self, search: Search, node: Node, leaves: Sequence[Node]) -> list[float]:
        """V(s) of each new state; of an end, its reward."""

    @abstractmethod
    def _wins(self, state: State) -> bool:
        """Whether the search ends there."""

    @abstractmethod
    async def _learn(self, rollouts: _Rollouts, end: State) -> None:
        """Take in what a failed rollout teaches, beyond its reward."""


def _close_up(state: State) -> None:
    """Close the state, and those above it, as far as nothing is left to be tried."""
    above: State | None = state
    while above is not None and all(child.is_closed for child in above.children):
        above.is_closed = True
        above = above.parent


def _live(leaves: Sequence[Node]) -> list[Node]:
    return [leaf for leaf in leaves if not leaf.is_pruned]


def _spread(leaves: Sequence[Node], judged: Sequence[Node], scores: Sequence[float]) -> list[float]:
    """Scores of all leaves, 0 for those that were not judged."""
    known = {leaf.node_id: score for leaf, score in zip(judged, scores, strict=True)}
    return [known.get(leaf.node_id, 0.0) for leaf in leaves]


class Lats(_TreePolicy):
    """See `SearchMethod` and the module."""

    def __init__(self, *, branching: int) -> None:
        self.width = branching

    @property
    def name(self) -> str:
        """See `SearchMethod.name`."""
        return f"LATS_w{self.width}"

    async def _sample(self, rollouts: _Rollouts, node: Node) -> list[Node]:
        if rollouts.reflections:
            shown = lessons(rollouts.reflections[-MAX_LESSONS:])
            node.history = extend(node.history, shown, hidden=True)
        (leaves,) = await rollouts.growth.expand([node], self.width, independent=True)
        return leaves

    async def _values(self, search: Search, node: Node, leaves: Sequence[Node]) -> list[float]:
        live = _live(leaves)
        scores = _spread(leaves, live, await values(search, live))
        shares = action_shares(node, leaves)
        return [
            score if is_over(leaf) else LM_WEIGHT * score + (1 - LM_WEIGHT) * share
            for leaf, score, share in zip(leaves, scores, shares, strict=True)
        ]

    def _wins(self, state: State) -> bool:
        return state.node.is_terminal and state.value >= ACCEPTED_SCORE

    async def _learn(self, rollouts: _Rollouts, end: State) -> None:
        text = await reflection(rollouts.search, end.node)
        if text is not None:
            rollouts.reflections.append(text)


class UctVote(_TreePolicy):
    """See `SearchMethod` and the module."""

    width = VOTE_CHILDREN

    @property
    def name(self) -> str:
        """See `SearchMethod.name`."""
        return "UCT_vote"

    async def _sample(self, rollouts: _Rollouts, node: Node) -> list[Node]:
        (leaves,) = await rollouts.growth.expand([node], self.width)
        return leaves

    async def _values(self, search: Search, node: Node, leaves: Sequence[Node]) -> list[float]:
        live = _live(leaves)
        judged = [leaf for leaf in live if leaf.is_terminal] or live
        return _spread(leaves, judged, await vote_shares(search, judged))

    def _wins(self, state: State) -> bool:
        return state.node.is_terminal

    async def _learn(self, rollouts: _Rollouts, end: State) -> None:
        """Nothing: values alone guide the next rollout."""


METHODS = {"uct_vote": lambda _: UctVote(), "lats": lambda n: Lats(branching=n)}
