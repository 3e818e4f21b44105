"""Options that name APIs, and who may answer calls to them."""

from typing import Annotated, get_args

import typer

from services.contracts.apis import ApiRef
from services.contracts.errors import InvalidArgument
from services.contracts.toolenv import CallSource

SourcesOption = Annotated[
    str | None,
    typer.Option(
        "--sources",
        help="Who may answer tool calls, preferred first, e.g. `replay,live,custom`; "
        "one alone is a strict mode.",
    ),
]
_KNOWN: tuple[CallSource, ...] = get_args(CallSource)


def parse_sources(text: str) -> tuple[CallSource, ...]:
    """Read a comma-separated list.

    Raises:
        InvalidArgument: It names nothing, a source twice, or one that does not exist.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    found = tuple(known for name in names for known in _KNOWN if known == name)
    if not names or len(found) != len(names) or len(set(names)) != len(names):
        raise InvalidArgument(
            f"--sources {text!r} must name some of {', '.join(_KNOWN)}, each once, with commas"
        )
    return found


def parse_ref(text: str) -> ApiRef:
    """Read the value of `--api`.

    Raises:
        InvalidArgument: It is no address.
    """
    try:
        return ApiRef.parse(text)
    except ValueError as exc:
        raise InvalidArgument(f"--api {text!r} is not of the form category/tool/api") from exc
