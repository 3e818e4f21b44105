"""The `toolwright` command: registers every sub-command."""

import sys

import typer
from pydantic import ValidationError

from cli import (
    ask,
    bench,
    cassettes,
    credentials,
    data,
    doctor,
    evaluate,
    index,
    prompts,
    retrieve,
    runs,
    solve,
    tools,
    train,
    up,
)
from cli.session import explain
from services.contracts.errors import InvalidArgument, NotFound, ServiceError

app = typer.Typer(
    name="toolwright",
    help="Lets open language models master thousands of real APIs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("up")(up.up)
app.command("ask")(ask.ask)
app.add_typer(runs.app, name="runs")
app.command("solve")(solve.solve)
app.add_typer(tools.app, name="tools")
app.add_typer(cassettes.app, name="cassettes")
app.add_typer(credentials.app, name="credentials")
app.add_typer(prompts.app, name="prompts")
app.command("retrieve")(retrieve.retrieve)
app.add_typer(index.app, name="index")
app.add_typer(evaluate.app, name="eval")
app.add_typer(train.app, name="train")
app.add_typer(data.app, name="data")
app.command("bench")(bench.bench)
app.command("doctor")(doctor.doctor)

_BAD_INPUT = 2


def main() -> None:
    """Run the command line; what a user can mend becomes one line on stderr and a status."""
    try:
        app()
    except ServiceError as exc:
        print(f"error: {exc.detail}", file=sys.stderr)
        sys.exit(_BAD_INPUT if isinstance(exc, InvalidArgument | NotFound) else 1)
    except ValidationError as exc:
        print(f"error: {explain(exc)}", file=sys.stderr)
        sys.exit(_BAD_INPUT)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
