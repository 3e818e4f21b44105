"""Responses are compressed by the published schemas."""

from pathlib import Path

import pytest

from services.contracts.apis import ApiRef
from services.toolenv.compression import compressed, load_response_schemas

SCHEMA = {
    "total": "int",
    "user": {"name": "str"},
    "rows": [{"id": "int", "_list_length": 3}],
    "tags": "list of str with length 2",
    "none": "empty list",
}
VALUE = {
    "total": 1,
    "secret": 2,
    "user": {"name": "a", "age": 3},
    "rows": [{"id": 1, "x": 2}, {"y": 3}],
    "tags": ["a", "b"],
    "none": [{"kept": 1}],
}
FILTERED = {
    "total": 1,
    "user": {"name": "a"},
    "rows": [{"id": 1}, {}],
    "tags": ["a", "b"],
    "none": [{"kept": 1}],
}


def test_filter_drops_what_the_schema_lacks_and_leaves_the_value_alone() -> None:
    assert compressed(VALUE, strip="filter", schema=SCHEMA, key="k") == FILTERED
    assert "secret" in VALUE


@pytest.mark.parametrize("strip", ["truncate", "", "other"])
def test_other_ways_drop_nothing(strip: str) -> None:
    assert compressed(VALUE, strip=strip, schema=SCHEMA, key="k") is VALUE


@pytest.mark.parametrize("schema", [None, {}])
def test_nothing_is_dropped_without_a_schema(schema: dict[str, str] | None) -> None:
    assert compressed(VALUE, strip="filter", schema=schema, key="k") is VALUE


@pytest.mark.parametrize("value", ["text", ["a"], 5, None])
def test_only_objects_are_filtered(value: object) -> None:
    assert compressed(value, strip="filter", schema=SCHEMA, key="k") == value


def test_random_filters_half_of_the_calls_and_each_always_alike() -> None:
    def is_filtered(number: int, seed: int) -> bool:
        got = compressed(VALUE, strip="random", schema=SCHEMA, key=str(number), seed=seed)
        return got == FILTERED

    first = [is_filtered(number, 1) for number in range(400)]
    assert first == [is_filtered(number, 1) for number in range(400)]
    assert 160 < sum(first) < 240
    assert first != [is_filtered(number, 2) for number in range(400)]


def test_a_folder_is_read_by_standard_names(tmp_path: Path) -> None:
    folder = tmp_path / "News, Media"
    folder.mkdir()
    (folder / "the_tool.json").write_text(
        '{"api_list": [{"name": "Get ID/All", "schema": {"a": "int"}}, {"name": "id",'
        ' "schema": {"b": "str"}}, {"name": "empty", "schema": {}},'
        ' {"name": "a", "schema": "str"}]}'
    )
    schemas = load_response_schemas(tmp_path)
    assert {str(ref): dict(schema) for ref, schema in schemas.by_api.items()} == {
        "News_Media/the_tool/get_id_all": {"a": "int"},
        "News_Media/the_tool/is_id": {"b": "str"},
    }
    assert schemas.refusals == ()


@pytest.mark.parametrize(
    ("content", "field", "reason"),
    [
        ("", "file", "it is empty"),
        ("{", "file", "it is not JSON"),
        ("[]", "api_list", "no list of examples"),
        ('{"api_list": [{"schema": {}}]}', "api_list[0].name", "missing or no text"),
        (
            '{"api_list": [{"name": "a", "schema": ' + '{"a": ' * 70 + "1" + "}" * 72,
            "file",
            "it is not JSON",
        ),
        (
            '{"api_list": [{"name": "a", "schema": ' + '{"a": ' * 70 + "1" + "}" * 70 + "}]}",
            "api_list[0].schema",
            "nested deeper than 64 levels",
        ),
    ],
)
def test_a_broken_file_is_refused_by_name_and_the_others_stay(
    tmp_path: Path, content: str, field: str, reason: str
) -> None:
    folder = tmp_path / "Data"
    folder.mkdir()
    (folder / "bad.json").write_text(content)
    (folder / "good.json").write_text('{"api_list": [{"name": "a", "schema": {"k": "int"}}]}')
    schemas = load_response_schemas(tmp_path)
    (refusal,) = schemas.refusals
    assert (refusal.file, refusal.field) == ("Data/bad.json", field)
    assert reason in refusal.reason
    assert schemas.get(ApiRef.parse("Data/good/a")) == {"k": "int"}


def test_a_missing_folder_holds_nothing(tmp_path: Path) -> None:
    assert load_response_schemas(tmp_path / "nothing").by_api == {}


def test_the_published_examples_load_but_for_the_file_without_content(shared_data: Path) -> None:
    schemas = load_response_schemas(shared_data / "response_examples")
    assert [refusal.file for refusal in schemas.refusals] == ["Business/acrosuite_oauther.json"]
    assert "it is empty" in schemas.refusals[0].reason
    ref = ApiRef.parse("Gaming/dice_roll_simulator/regular_dice_rolls")
    answer = {"total": 4, "extra": 1, "result": [{"subtotal": 4, "roll": [4], "x": 1}]}
    assert compressed(answer, strip="filter", schema=schemas.get(ref), key="") == {
        "total": 4,
        "result": [{"subtotal": 4, "roll": [4]}],
    }
