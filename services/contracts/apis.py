"""Addresses and documents of callable APIs."""

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


class ApiParameter(ForeignModel):
    """One parameter as the tool document declares it, names and types verbatim."""

    name: str
    type: str = "STRING"
    description: str = ""
    default: JsonValue = ""


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
