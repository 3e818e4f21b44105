"""Reflexion: trials that learn from what the model itself says went wrong in the earlier ones.

Source: Shinn et al. 2023 (Reflexion), algorithm 1: an actor makes a trajectory, an evaluator judges
it, a self-reflection is put into memory, until the evaluator passes or the trials are spent.
Actor: a ReAct chain. Memory: the latest three reflections, the paper's bound. Evaluator: nobody
knows the right answer here, so a trial without an answer fails, and an answer is judged by the
model itself, one of the evaluators of section 3. The last trial is not judged, as nothing would
follow. Deviation: when no answer passes, the latest one stands, and what its trial changed with it.
"""

from typing import ClassVar, Final

from services.contracts.llm import Message
from services.contracts.toolenv import CallStatus
from services.planner.prompts.reflection import JUDGE, MEMORY, REFLECT
from services.planner.search.base import Search, Shape
from services.planner.search.chain import ask, begins_with
from services.planner.search.react import run_chain
from services.planner.tree import History, Node, extend

MAX_REFLECTIONS: Final = 3
_MAX_REFLECTION_CHARS: Final = 2_000


class Reflexion:
    """See `SearchMethod`: up to `n_trials` chains."""

    shape: ClassVar[Shape] = "chains"

    def __init__(self, *, n_trials: int) -> None:
        self.width = n_trials

    @property
    def name(self) -> str:
        """See `SearchMethod.name`."""
        return f"Reflexion@{self.width}"

    async def run(self, search: Search) -> None:
        """See `SearchMethod.run`."""
        search.require_free_answers(self.name)
        answers: list[Node] = []
        try:
            await _try(search, self.width, answers)
        finally:
            search.found.answers += answers  # a budget may end the search while it doubts


async def _try(search: Search, n_trials: int, answers: list[Node]) -> None:
    """Algorithm 1; `answers` holds the latest answer, if there is one."""
    memory: list[str] = []
    failed: Node | None = None  # the trial before, when it had no answer
    for trials_left in reversed(range(n_trials)):
        root = search.plant(_opening(search, memory))
        if failed is not None:
            await search.abandon(failed, keep=root)
        leaf = await run_chain(search, root)
        await _sort(search, leaf, answers)
        failure = await _failure(search, leaf) if trials_left else ""
        if not failure:
            return
        reflection = await ask(search, leaf, "reflect", REFLECT.format(failure=failure))
        if reflection:
            memory = [*memory, reflection[:_MAX_REFLECTION_CHARS]][-MAX_REFLECTIONS:]
        failed = None if leaf.is_terminal else leaf


async def _sort(search: Search, leaf: Node, answers: list[Node]) -> None:
    """Put the leaf of a trial where it belongs; an answer takes the place of the one before."""
    if leaf.is_terminal:
        replaced, answers[:] = answers[:], [leaf]
        for older in replaced:
            await search.abandon(older, keep=None)
    elif leaf.status is CallStatus.GAVE_UP:
        search.found.give_ups.append(leaf)


def _opening(search: Search, memory: list[str]) -> History:
    if not memory:
        return search.opening
    notes = "\n".join(f"{number}. {note}" for number, note in enumerate(memory, start=1))
    return extend(search.opening, Message(role="user", content=MEMORY.format(notes=notes)))


async def _failure(search: Search, leaf: Node) -> str:
    """What is wrong with a trial; empty when it passes."""
    if leaf.status is CallStatus.GAVE_UP:
        return "you gave up."
    if not leaf.is_terminal:
        return f"it had no answer after {leaf.depth} thoughts, actions and inputs."
    verdict = await ask(search, leaf, "evaluate", JUDGE, is_readable=_is_verdict)
    # Only a clear FAIL costs another trial; a judge that cannot be read must not.
    return verdict[:_MAX_REFLECTION_CHARS] if begins_with(verdict, "fail") else ""


def _is_verdict(text: str) -> bool:
    return begins_with(text, "pass") or begins_with(text, "fail")


METHODS = {"reflexion": lambda n: Reflexion(n_trials=n)}
