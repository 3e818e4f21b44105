"""Options of a run that several commands take."""

from typing import Annotated

import typer

from services.contracts.planner import Mode

ModeOption = Annotated[
    Mode,
    typer.Option(help="exact: one call at a time; parallel; speculative: exact's tree, sooner."),
]
PromptsOption = Annotated[
    str | None, typer.Option(help="Prompt profile, see `toolwright prompts list`.")
]
ShowBudgetOption = Annotated[
    bool, typer.Option("--show-budget", help="Tell the model what it may still spend.")
]
SeedOption = Annotated[int, typer.Option(help="Seed of everything that is sampled.")]
MaxToolCallsOption = Annotated[int | None, typer.Option(min=0, max=100_000)]
MaxTokensOption = Annotated[
    int | None, typer.Option(min=1, help="Prompt and reply tokens of a whole run.")
]
MaxCostOption = Annotated[
    float | None, typer.Option("--max-cost-usd", help="Needs the planner's price settings.")
]
