"""Data construction with everything in one process: the oracle takes the model's place."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.embedded.assets import bundled_tools
from services.contracts.apis import ApiDocument
from services.contracts.toolenv import ToolEnv
from services.dataset.bundled import BundledWriter
from services.dataset.intents import IntentLibrary
from services.dataset.oracle import OracleModel
from services.dataset.trajectories import TrajectoryConfig, TrajectoryWriter
from services.kit.settings import SharedSettings
from services.planner.service import PlannerService
from services.retriever.bootstrap import open_retriever
from services.retriever.settings import RetrieverSettings
from services.toolenv.bootstrap import open_toolenv
from services.toolenv.settings import ToolEnvSettings


@dataclass(frozen=True, slots=True)
class _Workshop:
    tools: ToolEnv
    catalogue: list[ApiDocument]


@asynccontextmanager
async def _open_tools(shared: SharedSettings) -> AsyncIterator[_Workshop]:
    settings = ToolEnvSettings(
        tools_roots=(bundled_tools(),), max_waiting_calls=1_000, user_tools=False
    )
    async with open_toolenv(settings, shared) as tools:
        yield _Workshop(tools=tools, catalogue=await tools.catalogue())


async def write_trajectories(
    *, shared: SharedSettings, instructions: Path, config: TrajectoryConfig, output: Path
) -> int:
    """Solve instructions with the oracle over the real tools and write the conversations.

    Args:
        shared: Where index and sandbox live.
        instructions: Folder with `intents` and `vocabularies`.
        config: What to generate.
        output: A `.jsonl.gz` file.

    Returns:
        Number of conversations written.
    """
    oracle = OracleModel(seed=config.seed)
    async with (
        _open_tools(shared) as workshop,
        open_retriever(RetrieverSettings(), shared) as found,
    ):
        await found.index(tuple(workshop.catalogue))
        writer = TrajectoryWriter(
            planner=PlannerService(model=oracle, toolenv=workshop.tools, retriever=found),
            oracle=oracle,
            library=IntentLibrary.load(instructions),
            catalogue=workshop.catalogue,
            retriever=found,
        )
        return await writer.write(config, output)


async def write_bundled_instructions(
    *, shared: SharedSettings, instructions: Path, seed: int
) -> dict[str, int]:
    """Write the bundled query files from the intents; answers come from the real tools."""
    async with _open_tools(shared) as workshop:
        writer = BundledWriter(
            library=IntentLibrary.load(instructions),
            tools=workshop.tools,
            catalogue=workshop.catalogue,
            seed=seed,
        )
        return await writer.write(instructions)
