"""LLMCompiler: a graph of calls, run as far as possible at once; then an answer or a new plan.

Source: Kim et al. 2023 (An LLM Compiler for Parallel Function Calling), sections 3.1 to 3.4: the
planner writes numbered tasks with `$1` for results, the fetching unit fills them in, the executor
runs what is ready, the joiner finishes or asks for a new plan that sees what was found.
Deviations: no streamed planning (section 3.4); see `plans` for the execution.
"""

import re
from typing import ClassVar, Final, NamedTuple

from services.planner.actions import Outcome
from services.planner.prompts.planning import (
    COMPILER_JOIN,
    COMPILER_JOIN_LAST,
    COMPILER_PLAN,
    COMPILER_REPLAN,
)
from services.planner.search.base import Search, Shape
from services.planner.search.chain import Chain
from services.planner.search.plans import COMPILER, PlanError, carry_out, write_plan

MAX_PLANS: Final = 3  # one and two re-plans, as in the authors' code
_MAX_REASON_CHARS: Final = 2_000
_DECISION: Final = re.compile(
    r"^[\s>*#`-]{0,16}(?:action:\s*)?(finish|replan)[*`]{0,2}\s*(?::|$)", re.I | re.M
)


class Joined(NamedTuple):
    """What the joiner decided."""

    is_final: bool
    text: str
    """The answer, or why another plan is needed."""


class LlmCompiler:
    """See `SearchMethod`. How much runs at once is the run's mode, see `carry_out`."""

    shape: ClassVar[Shape] = "chains"
    width: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """See `SearchMethod.name`."""
        return "LLMCompiler"

    async def run(self, search: Search) -> None:
        """See `SearchMethod.run`."""
        search.require_free_answers(self.name)
        chain = Chain(search, search.plant())
        try:
            await _solve(chain)
        except PlanError as exc:
            await chain.give_up(f"The model's plan could not be read: {exc}")
        await chain.close()


async def _solve(chain: Chain) -> None:
    results: dict[int, Outcome] = {}
    joined: Joined | None = None
    for count in range(1, MAX_PLANS + 1):
        question = COMPILER_PLAN.format(first=max(results, default=0) + 1)
        if joined is not None:
            question = COMPILER_REPLAN.format(reason=joined.text) + question
        plan = await write_plan(chain, question, COMPILER, known=results)
        await carry_out(chain, plan, COMPILER, results)
        is_last = count == MAX_PLANS or not chain.has_room
        joined = read_decision(
            await chain.ask("join", COMPILER_JOIN_LAST if is_last else COMPILER_JOIN)
        )
        if joined.is_final:
            await chain.answer(joined.text)
            return
        if is_last:
            break
    await chain.give_up(f"No plan led to an answer: {joined.text if joined else ''}")


def read_decision(text: str) -> Joined:
    """The joiner's decision; a reply that does not name one is taken as the answer."""
    decision = _DECISION.search(text)
    if decision is None:
        return Joined(True, text.strip())
    rest = text[decision.end() :].strip()
    if decision[1].lower() == "finish":
        return Joined(True, rest)
    return Joined(False, rest[:_MAX_REASON_CHARS])


METHODS = {"llm_compiler": lambda _: LlmCompiler()}
