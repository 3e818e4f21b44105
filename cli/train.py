"""`toolwright train`: trains models on files that `toolwright data` wrote."""

import typer

app = typer.Typer(help="Train models.", no_args_is_help=True)
