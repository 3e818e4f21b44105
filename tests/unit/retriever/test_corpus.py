import json

import pytest

from services.contracts.apis import ApiDocument, ApiParameter, ApiRef
from services.retriever.corpus import (
    TextTemplate,
    build_corpus,
    lexical_text,
    short_text,
    toolbench_text,
)

HELLO = ApiDocument(
    ref=ApiRef(category="Customized", tool="hello_world", api="get_hello_world"),
    category_name="Customized",
    tool_name="hello world",
    api_name="get_hello_world",
    optional_parameters=(ApiParameter(name="Mode", type="STRING", description="desc", default=""),),
)


def document(**changes: object) -> ApiDocument:
    return ApiDocument.model_validate({**HELLO.model_dump(), **changes})


def test_text_equals_the_golden_vector_of_appendix_b() -> None:
    assert toolbench_text(HELLO) == (
        "Customized, hello world, get_hello_world, , required_params: [], optional_params: "
        '[{"name": "Mode", "type": "STRING", "description": "desc", "default": ""}], '
        'return_schema: ""'
    )


@pytest.mark.parametrize(
    ("response", "expected"),
    [(None, '""'), ([], "[]"), ({}, "{}"), ("str", '"str"'), ({"é": "int"}, '{"\\u00e9": "int"}')],
)
def test_only_an_absent_response_becomes_two_quotes(response: object, expected: str) -> None:
    text = toolbench_text(document(template_response=response))
    assert text.endswith(f", return_schema: {expected}")


def test_defaults_keep_their_json_type_and_non_ascii_is_escaped() -> None:
    parameters = [{"name": "n", "type": "NUMBER", "description": "天", "default": 7}]
    text = toolbench_text(document(required_parameters=parameters))
    assert f"required_params: {json.dumps(parameters)}, optional_params" in text
    assert "\\u5929" in text


def test_short_text_names_the_parameters_only() -> None:
    assert short_text(HELLO) == "Customized, hello world, get_hello_world. parameters: Mode"


def test_lexical_text_has_the_keys_of_the_response_but_not_its_types() -> None:
    schema = {"rates": [{"euro": "float", "_list_length": 3}], "date": "str"}
    words = lexical_text(document(template_response=schema)).split("\n")
    assert words[-3:] == ["rates", "date", "euro"]
    assert "float" not in words


def test_one_address_is_indexed_once() -> None:
    corpus = build_corpus([HELLO, document(description="another")], TextTemplate.TOOLBENCH)
    assert len(corpus.entries) == 1
    assert corpus.entries[0].dense_text == toolbench_text(HELLO)


def test_the_hash_depends_on_every_text_and_not_on_the_order() -> None:
    other = document(ref=ApiRef(category="A", tool="b", api="c"), api_name="c")
    digest = build_corpus([HELLO, other], TextTemplate.TOOLBENCH).digest
    assert build_corpus([other, HELLO], TextTemplate.TOOLBENCH).digest == digest
    changed = document(tool_description="only the lexical text has this")
    assert build_corpus([changed, other], TextTemplate.TOOLBENCH).digest != digest
    assert build_corpus([HELLO, other], TextTemplate.SHORT).digest != digest
