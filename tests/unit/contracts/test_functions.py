"""Function schemas against the reference's golden example."""

import json

from services.contracts.apis import ApiDocument, ApiParameter, ApiRef
from services.contracts.toolbench.functions import (
    finish_function,
    openai_function,
    strict_function,
    tool_summary,
    toolbench_function,
)


def parameter(name: str, type_: str, description: str, default: object) -> ApiParameter:
    return ApiParameter.model_validate(
        {"name": name, "type": type_, "description": description, "default": default}
    )


USER_ID = parameter("userId", "NUMBER", "The id", "7")
FROM = parameter("from", "BOOLEAN", "x", False)
MODE = parameter("Mode", "ENUM", "m", "")
ID = parameter("id", "string", "y", 0)


def echo(**changes: object) -> ApiDocument:
    values: dict[str, object] = {
        "ref": ApiRef(category="Customized", tool="echo_tool", api="echo_text"),
        "category_name": "Customized",
        "tool_name": "echo_tool",
        "api_name": "Echo Text",
        "description": "  Echo Text returns its input. ",
        "required_parameters": (USER_ID, FROM),
        "optional_parameters": (MODE, ID),
    }
    return ApiDocument.model_validate(values | changes)


def test_the_schema_is_the_references_down_to_the_order_of_keys() -> None:
    schema = toolbench_function(echo(), drop_optional_only=True)
    expected = {
        "name": "echo_text_for_echo_tool",
        "description": 'This is the subfunction for tool "echo_tool", you can use this tool.'
        'The description of this function is: "echo_text_for_echo_tool returns its input."',
        "parameters": {
            "type": "object",
            "properties": {
                "userid": {"type": "integer", "description": "The id", "example_value": "7"},
                "is_from": {"type": "boolean", "description": "x", "example_value": False},
                "mode": {"type": "string", "description": "m"},
                "is_id": {"type": "string", "description": "y", "example_value": 0},
            },
            "required": ["userid", "is_from"],
            "optional": ["mode", "is_id"],
        },
    }
    assert json.dumps(schema.model_dump()) == json.dumps(expected)


def test_an_api_with_optional_parameters_only_shows_none_of_them_when_the_quirk_is_on() -> None:
    document = echo(required_parameters=(), description=" ")
    schema = toolbench_function(document, drop_optional_only=True)
    assert schema.description.endswith("you can use this tool.")
    assert schema.parameters == {
        "type": "object",
        "properties": {},
        "required": [],
        "optional": [],
    }


def test_an_api_with_optional_parameters_only_shows_them_when_the_quirk_is_off() -> None:
    schema = toolbench_function(echo(required_parameters=()), drop_optional_only=False)
    assert schema.parameters["optional"] == ["mode", "is_id"]


def test_a_long_description_is_cut_before_its_closing_quote() -> None:
    schema = toolbench_function(echo(description="d" * 300), drop_optional_only=True)
    assert schema.description.endswith('"' + "d" * 256 + '"')


def test_two_names_with_one_standard_form_share_a_property_and_are_listed_twice() -> None:
    document = echo(required_parameters=(USER_ID, parameter("USERID", "STRING", "again", "")))
    parameters = toolbench_function(document, drop_optional_only=True).parameters
    assert parameters["required"] == ["userid", "userid"]
    assert parameters["properties"]["userid"] == {"type": "string", "description": "again"}


def test_the_strict_form_has_standard_keys_only_and_every_parameter() -> None:
    schema = strict_function(echo(required_parameters=(USER_ID,)))
    assert schema.description == "Echo Text returns its input."
    assert schema.parameters == {
        "type": "object",
        "properties": {
            "userid": {"type": "number", "description": "The id", "examples": ["7"]},
            "mode": {"type": "string", "description": "m"},
            "is_id": {"type": "string", "description": "y", "examples": [0]},
        },
        "required": ["userid"],
        "additionalProperties": False,
    }


def test_finish_offers_its_two_ways_out_and_has_no_optional_list() -> None:
    finish = openai_function(finish_function())["function"]
    assert finish["name"] == "Finish"
    assert finish["parameters"]["properties"]["return_type"]["enum"] == [
        "give_answer",
        "give_up_and_restart",
    ]
    assert finish["parameters"]["required"] == ["return_type"]
    assert "optional" not in finish["parameters"]


def test_tools_are_numbered_in_first_seen_order_and_described_once() -> None:
    first = echo(tool_description="a\nb " + "c" * 600)
    again = echo(tool_description="ignored")
    ref = ApiRef(category="Customized", tool="blank", api="x")
    summary = tool_summary([first, again, echo(ref=ref, tool_description="")])
    # 512 characters, less the newline that is taken out after the cut.
    assert summary == f"1.echo_tool: ab {'c' * 508}\n2.blank: None\n"
