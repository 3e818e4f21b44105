"""Query files and methods become samples with stable ids."""

import json
from pathlib import Path

import pytest

from services.contracts.errors import InvalidArgument
from services.contracts.evaluator import Sample
from services.contracts.planner import Limits
from services.evaluator.campaign import CheckableQuery, plan_samples, read_checkable_queries

ENTRY: dict[str, object] = {
    "query_id": 7,
    "query": "Which country has Tokyo?",
    "api_list": [
        {"category_name": "Geo Data", "tool_name": "City Atlas", "api_name": "Country of city"}
    ],
    "relevant APIs": [["City Atlas", "Country of city"]],
    "answer": {"contains": ["Japan"], "numbers": []},
}


def query(**changes: object) -> CheckableQuery:
    return CheckableQuery.model_validate(ENTRY | changes)


def plan(*queries: CheckableQuery, **changes: object) -> list[Sample]:
    values: dict[str, object] = {
        "campaign": "c",
        "methods": ["CoT@1"],
        "open_domain": False,
        "top_k": 5,
        "limits": Limits(),
        "seed": 0,
    }
    return plan_samples(queries or [query()], **(values | changes))  # type: ignore[arg-type]


def test_the_same_content_has_the_same_id() -> None:
    ids = [sample.sample_id for sample in plan()]
    assert ids == [sample.sample_id for sample in plan(campaign="d")]
    assert ids == ["7_CoT@1_" + ids[0].rpartition("_")[2]]


@pytest.mark.parametrize(
    "changes",
    [
        {"methods": ["CoT@2"]},
        {"open_domain": True},
        {"top_k": 6},
        {"seed": 1},
        {"limits": Limits(max_depth=3)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_other_settings_have_another_id(changes: dict[str, object]) -> None:
    assert plan(**changes)[0].sample_id != plan()[0].sample_id


@pytest.mark.parametrize(
    "changes",
    [
        {"query": "Where is Tokyo?"},
        {"query_id": 8},
        {"answer": {"contains": ["Nippon"]}},
        {"api_list": [{"category_name": "a", "tool_name": "b", "api_name": "c"}]},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_other_content_has_another_id(changes: dict[str, object]) -> None:
    assert plan(query(**changes))[0].sample_id != plan()[0].sample_id


def test_each_query_meets_each_method_once() -> None:
    samples = plan(query(), query(query_id=8), methods=["react", "CoT@1", "dfsdt"])
    assert [(sample.query_id, sample.method) for sample in samples] == [
        (7, "CoT@1"),
        (7, "DFS_woFilter_w2"),
        (8, "CoT@1"),
        (8, "DFS_woFilter_w2"),
    ]


def test_apis_are_addressed_in_standard_form() -> None:
    (ref,) = plan()[0].apis or ()
    assert str(ref) == "Geo_Data/city_atlas/country_of_city"
    assert plan(open_domain=True)[0].apis is None


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"methods": ["NOPE"]}, "'NOPE'"),
        ({"campaign": "a b"}, "campaign 'a b'"),
        ({"top_k": 101}, "top_k 101"),
    ],
)
def test_a_bad_setting_is_refused_by_name(changes: dict[str, object], named: str) -> None:
    with pytest.raises(InvalidArgument, match=named):
        plan(**changes)


def test_a_closed_domain_needs_apis() -> None:
    with pytest.raises(InvalidArgument, match="query 7 lists no API; use --open-domain"):
        plan(query(api_list=[]))


def write(folder: Path, name: str, *entries: object) -> Path:
    file = folder / name
    file.write_text(json.dumps(entries), encoding="utf-8")
    return file


def test_query_files_are_read_in_order(tmp_path: Path) -> None:
    files = [write(tmp_path, "b", ENTRY), write(tmp_path, "a", ENTRY | {"query_id": 9})]
    assert [each.query_id for each in read_checkable_queries(files)] == [7, 9]


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ({**ENTRY, "query": ""}, "entry 0.query"),
        ({**ENTRY, "query": "x" * 40_000}, "entry 0.query"),
        ({"query_id": 1, "query": "x"}, "entry 0.answer"),
        ({**ENTRY, "answer": {}}, "query_id 7: the expected answer names no text"),
        ({**ENTRY, "answer": {"contains": [""]}}, "query_id 7: an expected text is blank"),
        ({**ENTRY, "answer": {"numbers": [{"value": 1, "tolerance": -1}]}}, "tolerance"),
    ],
)
def test_a_bad_entry_is_refused_with_its_place(
    tmp_path: Path, entry: dict[str, object], named: str
) -> None:
    with pytest.raises(InvalidArgument, match=f"^queries.json: .*{named}"):
        read_checkable_queries([write(tmp_path, "queries.json", entry)])


def test_a_query_id_belongs_to_one_query(tmp_path: Path) -> None:
    files = [write(tmp_path, "a", ENTRY), write(tmp_path, "b", ENTRY)]
    with pytest.raises(InvalidArgument, match="b: query_id 7 occurs twice"):
        read_checkable_queries(files)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="none.json.*No such file"):
        read_checkable_queries([tmp_path / "none.json"])


def test_a_file_that_is_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b"\xff{")
    with pytest.raises(InvalidArgument, match="x.json"):
        read_checkable_queries([tmp_path / "x.json"])
