"""ReWOO: a whole plan, its execution, and an answer: two questions, however many calls.

Source: Xu et al. 2023 (ReWOO), section 2.1 and figure 2: the Planner writes pairs of plan and
evidence variable, the Worker fetches the evidence, the Solver answers from both.
Deviations: a plan that cannot be read is asked for once more; the Worker has the run's functions
and no language model among its tools; see `plans` for the execution.
"""

from typing import ClassVar

from services.planner.actions import Outcome
from services.planner.prompts.planning import REWOO_PLAN, REWOO_SOLVE
from services.planner.search.base import Search, Shape
from services.planner.search.chain import Chain
from services.planner.search.plans import REWOO, PlanError, carry_out, write_plan


class ReWoo:
    """See `SearchMethod`. A plan is never changed by what its calls return."""

    shape: ClassVar[Shape] = "chains"
    width: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """See `SearchMethod.name`."""
        return "ReWOO"

    async def run(self, search: Search) -> None:
        """See `SearchMethod.run`."""
        search.require_free_answers(self.name)
        chain = Chain(search, search.plant())
        try:
            plan = await write_plan(chain, REWOO_PLAN, REWOO)
        except PlanError as exc:
            await chain.give_up(f"The model's plan could not be read: {exc}")
        else:
            results: dict[int, Outcome] = {}
            await carry_out(chain, plan, REWOO, results)
            await chain.answer(await chain.ask("solve", REWOO_SOLVE))
        await chain.close()


METHODS = {"rewoo": lambda _: ReWoo()}
