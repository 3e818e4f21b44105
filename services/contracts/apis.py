"""Addresses and documents of callable APIs."""

from enum import StrEnum
from typing import Final

from pydantic import Field, JsonValue

from services.contracts.base import ForeignModel, WireModel

MAX_NAME_CHARS = 512


class ApiRef(WireModel):
    """Address of one API, each part in ToolBench's standard form (`contracts.toolbench.names`)."""

    category: str = Field(min_length=1, max_length=MAX_NAME_CHARS)
    tool: str = Field(min_length=1, max_length=MAX_NAME_CHARS)
    api: str = Field(min_length=1, max_length=MAX_NAME_CHARS)

    def __str__(self) -> str:
        """`category/tool/api`, the form used on the command line."""
        return f"{self.category}/{self.tool}/{self.api}"

    @classmethod
    def parse(cls, text: str) -> "ApiRef":
        """Read `category/tool/api`.

        Raises:
            ValueError: The text has not exactly three non-empty parts.
        """
        parts = text.split("/")
        if len(parts) != 3 or not all(parts):
            raise ValueError(f"API {text!r} is not of the form category/tool/api")
        return cls(category=parts[0], tool=parts[1], api=parts[2])


class SideEffect(StrEnum):
    """What calling an API does to the world."""

    READ = "read"
    """Nothing: safe to repeat and to explore."""
    IDEMPOTENT = "idempotent"
    """Something, but repeating the call changes nothing more."""
    WRITE = "write"
    """Something that a repetition does again."""
    IRREVERSIBLE = "irreversible"
    """Something that no other call undoes."""


_EFFECT_OF_METHOD: Final = {
    "GET": SideEffect.READ,
    "HEAD": SideEffect.READ,
    "OPTIONS": SideEffect.READ,
    "PUT": SideEffect.IDEMPOTENT,
    "DELETE": SideEffect.IDEMPOTENT,
}


class ApiParameter(ForeignModel):
    """One parameter as the tool document declares it, names and types verbatim."""

    name: str
    type: str = "STRING"
    description: str = ""
    default: JsonValue = ""
    json_schema: dict[str, JsonValue] | None = None
    """The whole schema where the source has one (OpenAPI, MCP, type hints)."""


class InverseCall(ForeignModel):
    """The call that undoes another one."""

    api: ApiRef
    """An API of the same tool."""
    arguments: dict[str, JsonValue] = {}
    """Values by parameter, in standard form. A text `$arguments.a.b` or `$response.a.0.b`, at any
    depth of a value, stands for that field of the undone call's arguments or response; all else is
    meant as it is."""


class ApiDocument(ForeignModel):
    """One API of the catalogue: its address, and its document with raw names."""

    ref: ApiRef
    category_name: str
    tool_name: str
    api_name: str
    tool_description: str = ""
    description: str = ""
    method: str = "GET"
    required_parameters: tuple[ApiParameter, ...] = ()
    optional_parameters: tuple[ApiParameter, ...] = ()
    template_response: JsonValue = None
    """Example or schema of a response; `None` when the document has none."""
    declared_effect: SideEffect | None = None
    """What the source says about side effects; `None` when it says nothing."""
    inverse: InverseCall | None = None
    """How a call is undone; `None` when nothing is registered for that."""

    @property
    def side_effect(self) -> SideEffect:
        """The declared effect, else what the HTTP method promises (RFC 9110, section 9.2)."""
        return self.declared_effect or _EFFECT_OF_METHOD.get(self.method.upper(), SideEffect.WRITE)
