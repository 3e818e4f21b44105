"""Renders API documents as the functions a model may call (interop 1.4).

Two shapes: ToolBench's, which ToolLLaMA was trained on and which has a non-standard `optional`
list next to `required`, and strict JSON Schema for every other model. The texts of Finish are our
own words; a caller that has the reference's passes them in.
"""

import json
from collections.abc import Iterable
from typing import Final

from pydantic import JsonValue

from services.contracts.apis import ApiDocument, ApiParameter
from services.contracts.llm import FunctionSchema
from services.contracts.toolbench.names import api_identifier, distinct_names, function_name

FINISH: Final = "Finish"
GIVE_ANSWER: Final = "give_answer"
GIVE_UP: Final = "give_up_and_restart"
FINISH_DESCRIPTION: Final = (
    "End the task. Call it with give_answer and everything the user needs to read in final_answer, "
    "or with give_up_and_restart when this attempt cannot succeed."
)
FINAL_ANSWER_DESCRIPTION: Final = "The answer shown to the user; needed with give_answer."

_MAX_DESCRIPTION_CHARS: Final = 256
_MAX_TOOL_DESCRIPTION_CHARS: Final = 512
_MAX_SCHEMA_CHARS: Final = 4096  # a longer one would crowd out the other functions' descriptions
_TOOLBENCH_TYPES: Final = {"NUMBER": "integer", "STRING": "string", "BOOLEAN": "boolean"}
_STRICT_TYPES: Final = {
    "NUMBER": "number",
    "BOOLEAN": "boolean",
    "ARRAY": "array",
    "OBJECT": "object",
}


def name_of(document: ApiDocument) -> str:
    """ToolBench's name for this API as a function, at most 64 characters."""
    return function_name(document.ref.api, document.ref.tool)


def toolbench_function(document: ApiDocument, *, drop_optional_only: bool) -> FunctionSchema:
    """Render in ToolBench's shape; the order of keys is significant.

    Args:
        document: The API.
        drop_optional_only: Show an API without required parameters as one without any, as the
            reference did when ToolLLaMA's training data was made.
    """
    required, optional = document.required_parameters, document.optional_parameters
    if drop_optional_only and not required:
        optional = ()
    properties: dict[str, JsonValue] = {
        api_identifier(parameter.name): _toolbench_property(parameter)
        for parameter in (*required, *optional)
    }
    return FunctionSchema(
        name=name_of(document),
        description=_toolbench_description(document),
        parameters={
            "type": "object",
            "properties": properties,
            "required": [api_identifier(parameter.name) for parameter in required],
            "optional": [api_identifier(parameter.name) for parameter in optional],
        },
    )


def _toolbench_description(document: ApiDocument) -> str:
    prefix = f'This is the subfunction for tool "{document.ref.tool}", you can use this tool.'
    text = document.description.strip()
    if not text:
        return prefix
    if document.api_name:
        text = text.replace(document.api_name, name_of(document))
    return f'{prefix}The description of this function is: "{text[:_MAX_DESCRIPTION_CHARS]}"'


def _toolbench_property(parameter: ApiParameter) -> JsonValue:
    rendered: dict[str, JsonValue] = {
        "type": _TOOLBENCH_TYPES.get(parameter.type, "string"),
        "description": parameter.description[:_MAX_DESCRIPTION_CHARS],
    }
    if str(parameter.default):
        rendered["example_value"] = parameter.default
    return rendered


def strict_function(document: ApiDocument, *, name: str | None = None) -> FunctionSchema:
    """Render as strict JSON Schema: every parameter shown, no key outside the standard.

    An API without a description borrows its tool's.

    Args:
        document: The API.
        name: What `names.distinct_names` calls it among the APIs it is shown with; its name on its
            own by default.
    """
    required, optional = document.required_parameters, document.optional_parameters
    properties: dict[str, JsonValue] = {
        api_identifier(parameter.name): _strict_property(parameter)
        for parameter in (*required, *optional)
    }
    names = dict.fromkeys(api_identifier(parameter.name) for parameter in required)
    text = document.description.strip() or document.tool_description.strip()
    return FunctionSchema(
        name=name or distinct_names([document.ref])[document.ref],
        description=text[: 4 * _MAX_DESCRIPTION_CHARS],
        parameters={
            "type": "object",
            "properties": properties,
            "required": list(names),
            "additionalProperties": False,
        },
    )


def _strict_property(parameter: ApiParameter) -> JsonValue:
    schema = parameter.json_schema
    if schema is not None and len(json.dumps(schema)) <= _MAX_SCHEMA_CHARS:
        described = {"description": parameter.description[:_MAX_DESCRIPTION_CHARS]}
        return {**schema, **(described if parameter.description else {})}
    rendered: dict[str, JsonValue] = {
        "type": _STRICT_TYPES.get(parameter.type.upper(), "string"),
        "description": parameter.description[:_MAX_DESCRIPTION_CHARS],
    }
    if parameter.default not in ("", None):
        rendered["examples"] = [parameter.default]
    return rendered


def finish_function(
    *,
    description: str = FINISH_DESCRIPTION,
    final_answer_description: str = FINAL_ANSWER_DESCRIPTION,
) -> FunctionSchema:
    """The function that ends a trajectory; it is always offered last."""
    return FunctionSchema(
        name=FINISH,
        description=description,
        parameters={
            "type": "object",
            "properties": {
                "return_type": {"type": "string", "enum": [GIVE_ANSWER, GIVE_UP]},
                "final_answer": {"type": "string", "description": final_answer_description},
            },
            "required": ["return_type"],
        },
    )


def tool_summary(documents: Iterable[ApiDocument]) -> str:
    """One numbered line per distinct tool, in first-seen order, each ending with a newline."""
    first_seen: dict[str, str] = {}
    for document in documents:
        first_seen.setdefault(document.ref.tool, document.tool_description)
    lines = []
    for number, (tool, description) in enumerate(first_seen.items(), start=1):
        # Cut first, then join lines, then strip: the reference's order, which decides the bytes.
        text = description[:_MAX_TOOL_DESCRIPTION_CHARS].replace("\n", "").strip()
        lines.append(f"{number}.{tool}: {text or 'None'}\n")
    return "".join(lines)


def openai_function(schema: FunctionSchema) -> dict[str, JsonValue]:
    """The element of OpenAI's `tools` list, as requests and answer files carry it."""
    function: dict[str, JsonValue] = {
        "name": schema.name,
        "description": schema.description,
        "parameters": schema.parameters,
    }
    return {"type": "function", "function": function}
