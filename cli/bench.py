"""`toolwright bench`: runs a benchmark of the checkout."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from services.contracts.errors import FailedPrecondition, InvalidArgument

_FOLDER = Path(__file__).resolve().parents[1] / "tests" / "benchmarks"


def bench(
    name: Annotated[str, typer.Argument(help="Which one; without it they are listed.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the last line only.")] = False,
    quick: Annotated[bool, typer.Option(help="Fewer repetitions: under 40 s.")] = False,
) -> None:
    """Measure; the last line is JSON with the figures and the machine."""
    if not _FOLDER.is_dir():
        raise FailedPrecondition(
            f"the benchmarks are not installed: {str(_FOLDER)!r} is missing; run from a checkout"
        )
    known = sorted(path.stem for path in _FOLDER.glob("*.py"))
    choice = f"name one of: {', '.join(known)}"
    if name not in known:
        raise InvalidArgument(f"benchmark {name!r} does not exist; {choice}" if name else choice)
    command = [sys.executable, str(_FOLDER / f"{name}.py"), *(["--quick"] if quick else [])]
    if not as_json:
        raise typer.Exit(subprocess.run(command, check=False).returncode)  # noqa: S603  # our own file
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)  # noqa: S603
    lines = done.stdout.splitlines()
    print(lines[-1] if lines else "")
    raise typer.Exit(done.returncode)
