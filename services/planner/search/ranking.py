"""The model as a judge of trajectories: comparisons, scores, votes, imagined plans.

Questions that do not need each other go through `Search.together`. A verdict that cannot be read,
or a question that is too long for the model, counts as the neutral verdict stated at each function;
its event says so (`Deliberated.is_readable`).

Sources: comparisons of pairs as in the reference's filter (interop 5.5); value and vote: Yao et al.
2023 (Tree of Thoughts), section 3, "State evaluator" (a) and (b); imagined plans: Zhuang et al.
2023 (ToolChain*), section 3; reflections: Shinn et al. 2023 (Reflexion), section 3.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations
from typing import Final, NamedTuple, TypeVar

from services.contracts.errors import InvalidArgument
from services.contracts.llm import FunctionSchema, Message, Usage
from services.contracts.planner import Deliberated
from services.planner.prompts import ranking as prompts
from services.planner.search.base import Search
from services.planner.search.verdicts import read_choice, read_score, read_steps, read_vote
from services.planner.tree import Node, NodeType

T = TypeVar("T")

NEUTRAL_VALUE: Final = 0.5
"""Of a state whose score cannot be read: neither promising nor hopeless."""
_MAX_OBSERVATION_CHARS: Final = 1024  # of one observation in a trace, as in the reference


class _Pair(NamedTuple):
    first: int
    second: int


def trace(node: Node, *, above: Node | None = None) -> str:
    """A trajectory as text: one numbered piece for each node and each observation.

    Args:
        node: Where it ends.
        above: The node after which it begins; the root when `None`.

    Returns:
        `None`, the word, when there is nothing between.

    Source: interop 5.5, to the letter.
    """
    path = node.path()
    if above is not None:
        path = path[len(above.path()) :]
    pieces = [piece for step in path for piece in _pieces(step)]
    return "".join(f"step_{k}: {piece}\n" for k, piece in enumerate(pieces, start=1)) or "None"


def _pieces(node: Node) -> list[str]:
    pieces = [f"{node.node_type.value}: {node.description}\n"]
    seen = node.observation
    if node.node_type is NodeType.ACTION_INPUT and seen:
        cut = f"{seen[:_MAX_OBSERVATION_CHARS]}...(len={len(seen)})"
        pieces.append(f"Observation: {seen if len(seen) <= _MAX_OBSERVATION_CHARS else cut}\n")
    return pieces


async def ranked(search: Search, parent: Node, leaves: Sequence[Node]) -> list[Node]:
    """The leaves below a parent, best first, by comparing every pair in both orders.

    Two votes for the same leaf count 1 for it, split votes 0.5 for each, and so does a pair of
    which neither vote can be read; the order of equals stays. k leaves cost k(k-1) model calls.

    Source: interop 5.5.
    """
    scores = [0.0] * len(leaves)
    pairs = [_Pair(*pair) for pair in combinations(range(len(leaves)), 2)]
    asked = [order for pair in pairs for order in (pair, _Pair(pair.second, pair.first))]
    votes = await search.together(
        [partial(_better, search, parent, leaves[a], leaves[b]) for a, b in asked]
    )
    for k, pair in enumerate(pairs):
        for_first = votes[2 * k] - votes[2 * k + 1]  # the second question had them swapped
        scores[pair.first] += _share(for_first)
        scores[pair.second] += _share(-for_first)
    order = sorted(range(len(leaves)), key=lambda index: -scores[index])
    return [leaves[index] for index in order]


def _share(balance: int) -> float:
    return 0.5 if balance == 0 else float(balance > 0)


async def _better(search: Search, parent: Node, first: Node, second: Node) -> int:
    """1 for the first leaf, -1 for the second, 0 when the vote cannot be read."""
    strict = search.compat.ranking_votes_by_last_character
    verdict = await _judged(
        search,
        "rank",
        prompts.compare(
            search.instruction,
            trace(parent),
            trace(first, above=parent),
            trace(second, above=parent),
        ),
        partial(read_vote, strict=strict),
        node=parent,
        tools=search.policy.tools,
        check_calls=not search.compat.discard_reply_at_call_limit,
    )
    if verdict is None:
        return -1 if strict else 0
    return 1 if verdict == "a" else -1


async def values(search: Search, leaves: Sequence[Node]) -> list[float]:
    """How promising each leaf's trajectory is, in [0.1, 1]; `NEUTRAL_VALUE` when unreadable.

    One model call each. Source: Tree of Thoughts, section 3, "State evaluator" (a), with the scale
    of 1 to 10; Zhou et al. 2023 (LATS) use the same for the LM part of their equation 2.
    """

    async def value(leaf: Node) -> float:
        question = prompts.value(search.instruction, trace(leaf))
        score = await _judged(search, "value", question, read_score, node=leaf)
        return NEUTRAL_VALUE if score is None else score / prompts.BEST_SCORE

    return await search.together([partial(value, leaf) for leaf in leaves])


async def vote_shares(search: Search, leaves: Sequence[Node]) -> list[float]:
    """Which part of the votes each leaf gets, in [0, 1], with sum 1.

    There are as many votes as leaves, and each leaf comes first in one of them, since models
    favour what they read first. A vote that cannot be read is shared by all. A single leaf gets 1
    without a question.

    Source: Tree of Thoughts, section 3, "State evaluator" (b). Deviation: the order turns, where
    the paper samples the same question several times.
    """
    count = len(leaves)
    if count < 2:
        return [1.0] * count
    traces = [trace(leaf) for leaf in leaves]

    async def vote(first: int) -> int | None:
        question = prompts.vote(search.instruction, traces[first:] + traces[:first])
        choice = await _judged(
            search, "vote", question, partial(read_choice, count=count), node=leaves[first]
        )
        return None if choice is None else (first + choice - 1) % count

    shares = [0.0] * count
    for chosen in await search.together([partial(vote, first) for first in range(count)]):
        for index in range(count) if chosen is None else (chosen,):
            shares[index] += (1 / count if chosen is None else 1) / count
    return shares


async def remaining_steps(search: Search, leaf: Node) -> int | None:
    """How many calls the model imagines are left, >= 1; `None` when it lists none.

    Source: Zhuang et al. 2023 (ToolChain*), section 3, "imagination score".
    """
    question = prompts.remaining(search.instruction, trace(leaf))
    return await _judged(
        search, "imagine", question, read_steps, node=leaf, tools=search.policy.tools
    )


async def reflection(search: Search, leaf: Node) -> str | None:
    """What a failed trajectory teaches, in the model's words; `None` when it has none."""
    question = prompts.reflect(search.instruction, trace(leaf))
    return await _judged(search, "reflect", question, lambda text: text.strip() or None, node=leaf)


async def _judged(
    search: Search,
    purpose: str,
    question: tuple[Message, ...],
    read: Callable[[str], T | None],
    *,
    node: Node,
    tools: tuple[FunctionSchema, ...] = (),
    check_calls: bool = True,
) -> T | None:
    """The verdict that `read` finds in the model's reply; `None` when there is none."""
    try:
        completion = await search.deliberate(
            purpose,
            question,
            node=node,
            tools=tools,
            is_readable=lambda text: read(text) is not None,
            check_calls=check_calls,
        )
    except InvalidArgument as exc:  # the trajectory became too long to be shown whole
        search.budget.count_reply(Usage())
        await search.emit(
            Deliberated(
                purpose=purpose,
                node_id=node.node_id,
                text=exc.detail,
                usage=Usage(),
                latency_s=0.0,
                is_readable=False,
            )
        )
        return None
    return read(completion.message.content or "")
