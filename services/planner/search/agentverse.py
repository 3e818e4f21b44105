"""AgentVerse: rounds of a group of experts, which decides, acts and is evaluated.

Source: Chen et al. 2023 (AgentVerse), section 2: expert recruitment (2.1), collaborative decision
making (2.2) in its vertical structure, where one solver proposes and the others review until all
agree, action execution (2.3), and evaluation, whose feedback goes into the next recruitment (2.4).
Deviations: one model plays all experts; the solver alone executes, as a bounded ReAct chain;
reviewers see a proposal but not each other's words; the last round is not evaluated, as nothing
would follow.
"""

from functools import partial
from typing import ClassVar, Final

from services.planner.prompts.group import (
    ACT,
    EVALUATE,
    FEEDBACK,
    GIVEN_UP,
    LAST_ANSWER,
    NO_DECISION,
    PROPOSE,
    RECRUIT,
    REJECTED,
    REVIEW,
    REVISE,
)
from services.planner.search.base import Search, Shape
from services.planner.search.chain import Chain, begins_with, listed
from services.planner.tree import NodeType

MAX_ROUNDS: Final = 3
MAX_EXPERTS: Final = 3
MAX_PROPOSALS: Final = 3
"""Of one round: the last one is the decision, whether all agree or not."""
MAX_STEPS: Final = 4
"""Model calls with functions in one round."""
_SOLVER: Final = "an expert who solves such tasks with functions"
_MAX_REVIEW_CHARS: Final = 1_000


class AgentVerse:
    """See `SearchMethod`."""

    shape: ClassVar[Shape] = "chains"
    width: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """See `SearchMethod.name`."""
        return "AgentVerse"

    async def run(self, search: Search) -> None:
        """See `SearchMethod.run`."""
        search.require_free_answers(self.name)
        chain = Chain(search, search.plant())
        try:
            await _meet(chain)
        finally:
            chain.accept()  # also when a budget ends the search while an answer is evaluated
        await chain.close()


async def _meet(chain: Chain) -> None:
    """Rounds until the goal is reached; the result of the last one stands as it is."""
    feedback = ""
    for rounds_left in reversed(range(MAX_ROUNDS)):
        experts = await _recruit(chain, feedback)
        await _act(chain, await _decide(chain, experts, feedback))
        if not rounds_left or not chain.has_room:
            break
        verdict = await chain.ask("evaluate", EVALUATE, is_readable=_is_verdict)
        if begins_with(verdict, "done") or not _is_verdict(verdict):
            break
        feedback = FEEDBACK.format(feedback=verdict[:_MAX_REVIEW_CHARS])
        if chain.leaf.is_terminal:
            chain.search.found.best_answer = chain.search.found.answer
            await chain.go_back(REJECTED)
    if not chain.leaf.is_terminal:
        await chain.answer(await chain.ask("answer", LAST_ANSWER))


async def _recruit(chain: Chain, feedback: str) -> list[str]:
    reply = await chain.ask("recruit", RECRUIT.format(most=MAX_EXPERTS) + feedback)
    return listed(reply, most=MAX_EXPERTS) or [_SOLVER]


async def _decide(chain: Chain, experts: list[str], feedback: str) -> str:
    """The solver's proposal that all reviewers agree to, or the last one; empty without any."""
    solver, *reviewers = experts
    question = PROPOSE.format(role=solver) + feedback
    proposal = await chain.ask("propose", question)
    if not proposal:
        return ""
    for _ in range(MAX_PROPOSALS - 1):
        asked = [REVIEW.format(role=role, proposal=proposal) for role in reviewers]
        works = [partial(chain.ask, "review", text) for text in asked]
        reviews = await chain.search.together(works)
        objections = [text for text in reviews if text and not begins_with(text, "agree")]
        if not objections:
            break
        said = "\n".join(f"- {text[:_MAX_REVIEW_CHARS]}" for text in objections)
        revise = REVISE.format(proposal=proposal, reviews=said)
        proposal = await chain.ask("propose", question + revise) or proposal
    return proposal


async def _act(chain: Chain, decision: str) -> None:
    """Carry out the decision until the model answers, says how far it came, or gives up."""
    chain.tell(ACT.format(decision=decision or NO_DECISION))
    for _ in range(MAX_STEPS):
        leaf = await chain.step()
        if leaf.is_pruned:
            await chain.go_back(GIVEN_UP)
            return
        if leaf.is_terminal or leaf.node_type is NodeType.THOUGHT or not chain.has_room:
            return


def _is_verdict(text: str) -> bool:
    return begins_with(text, "done") or begins_with(text, "not done")


METHODS = {"agentverse": lambda _: AgentVerse()}
