"""Reading query files, good and bad."""

import json
from pathlib import Path

import pytest

from services.contracts.apis import ApiRef
from services.contracts.errors import InvalidArgument
from services.contracts.toolbench.queries import parse_queries, read_queries

API = {"category_name": "News, Media", "tool_name": "3D Model", "api_name": "id"}


def parse(*items: object) -> tuple:
    return parse_queries(json.dumps(items), source="q.json")


def test_names_are_brought_into_standard_form() -> None:
    (query,) = parse({"query": "ask", "query_id": 7, "api_list": [API]})
    assert query.query_id == 7
    assert query.apis == (ApiRef(category="News_Media", tool="get_3d_model", api="is_id"),)


def test_a_query_without_an_api_list_is_open_and_without_an_id_takes_its_position() -> None:
    first, second = parse({"query": "a"}, {"query": "b"})
    assert (first.apis, second.query_id) == (None, 1)


def test_a_text_wrapped_in_a_list_is_unwrapped() -> None:
    (query,) = parse({"query": ["first", "second"]})
    assert query.instruction == "first"


def test_relevant_apis_keep_their_raw_names() -> None:
    (query,) = parse({"query": "a", "relevant APIs": [["3D Model", "id"]]})
    assert query.relevant_apis == (("3D Model", "id"),)


@pytest.mark.parametrize(
    ("item", "named"),
    [
        ({"query": ""}, "query 1: field 'query'"),
        ({"query": []}, "query 1: field 'query'"),
        ({"query": "a", "query_id": "5"}, "field 'query_id' is '5'"),
        ({"query": "a", "query_id": True}, "field 'query_id' is True"),
        ({"query": "a", "api_list": {}}, "field 'api_list'"),
        ({"query": "a", "api_list": [3]}, "field 'api_list.0' is 3"),
        ({"query": "a", "api_list": [API, {**API, "tool_name": None}]}, "api_list.1.tool_name"),
        ({"query": "a", "api_list": [{**API, "tool_name": "!!"}]}, "names with letters"),
        ({"query": "a", "relevant APIs": [["x"]]}, "field 'relevant APIs'"),
        ("text", "query 1: a str"),
    ],
)
def test_a_malformed_query_is_named_by_file_position_and_field(item: object, named: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        parse({"query": "fine"}, item)
    assert refused.value.detail.startswith("q.json: ")
    assert named in refused.value.detail


@pytest.mark.parametrize("text", ["", "{", '{"query": "a"}', "[" * 100_000])
def test_a_file_that_is_no_array_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="q.json"):
        parse_queries(text, source="q.json")


def test_two_queries_with_one_id_are_refused_since_they_would_share_a_file() -> None:
    with pytest.raises(InvalidArgument, match="queries 0 and 1 both have query_id 1"):
        parse({"query": "a", "query_id": 1}, {"query": "b"})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"absent\.json"):
        read_queries(tmp_path / "absent.json")


def test_published_files_are_read(shared_data: Path) -> None:
    queries = read_queries(shared_data / "toolbench" / "test_instruction" / "G1_instruction.json")
    assert len(queries) == 163
    assert all(query.apis for query in queries)
