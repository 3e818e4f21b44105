"""A process that solves a few queries; `python -m tests.fakes.batch_process OUTPUT CALLS DELAY_S`.

Every model call adds one byte to the file CALLS when it is answered, so that whoever kills the
process knows how far it came.
"""

import asyncio
import sys
from pathlib import Path

from services.contracts.llm import ChatRequest, Message
from services.contracts.planner import Limits
from services.contracts.toolbench.queries import Query
from services.planner.batch import BatchOptions, BatchReport, solve_queries
from services.planner.journal.shelf import Shelf
from services.planner.runs import Continuing
from services.planner.service import PlannerService
from tests.fakes.kept_runs import DOCUMENTS, drawn, echo
from tests.fakes.planner_ports import HELLO, OTHER, FakeToolEnv, ScriptedModel

QUERIES = [Query(query_id=n, instruction=f"ask {n}", apis=(HELLO, OTHER)) for n in range(3)]


async def solved(output: Path, calls: Path, *, delay_s: float) -> BatchReport:
    """The batch, with its runs kept in `output/runs`."""
    draw = drawn(3)

    def reply(request: ChatRequest) -> Message:
        with calls.open("ab") as stream:
            stream.write(b".")
        return draw(request)

    shelf = Shelf(output / "runs")
    planner = PlannerService(
        model=ScriptedModel(reply, delay_s=delay_s),
        toolenv=FakeToolEnv(DOCUMENTS, answers=echo),
        retriever=None,
        shelf=shelf,
    )
    options = BatchOptions(
        method="dfsdt", output=output, concurrency=2, limits=Limits(max_depth=9, max_llm_calls=12)
    )
    return await solve_queries(Continuing(planner, planner, shelf), QUERIES, options)


if __name__ == "__main__":
    asyncio.run(solved(Path(sys.argv[1]), Path(sys.argv[2]), delay_s=float(sys.argv[3])))
