"""The catalogue against real files, good and bad."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from services.contracts.apis import ApiRef
from services.contracts.errors import FailedPrecondition
from services.toolenv.catalog import MAX_CODE_BYTES, MAX_DOCUMENT_BYTES, load_catalogue

HELLO = {
    "tool_name": "Hello World",
    "tool_description": None,
    "title": "Hello",
    "standardized_name": "hello_world",
    "api_list": [
        {
            "name": "get hello",
            "url": "",
            "description": None,
            "method": "GET",
            "required_parameters": None,
            "optional_parameters": [{"name": "Mode", "type": None, "description": None}],
        },
        {"name": "id"},
    ],
}


def write(root: Path, file: str, content: Any) -> Path:
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def only_refusal(root: Path) -> str:
    (refusal,) = load_catalogue([root]).refusals
    return str(refusal)


def test_a_document_with_nulls_and_missing_keys_loads(tmp_path: Path) -> None:
    write(tmp_path, "Customized/hello_world.json", HELLO)
    catalogue = load_catalogue([tmp_path])
    hello, identity = catalogue.documents()
    assert catalogue.refusals == ()
    assert str(hello.ref) == "Customized/hello_world/get_hello"
    assert (hello.tool_name, hello.tool_description) == ("Hello World", "")
    assert hello.optional_parameters[0].model_dump() == {
        "name": "Mode",
        "type": "STRING",
        "description": "",
        "default": "",
        "json_schema": None,
    }
    assert (identity.ref.api, identity.method) == ("is_id", "GET")


def test_code_beside_the_document_is_loaded_with_it(tmp_path: Path) -> None:
    write(tmp_path, "Customized/hello_world.json", HELLO)
    path = write(tmp_path, "Customized/hello_world/api.py", b"def get_hello(): return 1\n")
    entry = load_catalogue([tmp_path]).entries()[0]
    assert entry.code is not None
    assert (entry.code.path, entry.code.source) == (path, "def get_hello(): return 1\n")


def test_raw_and_standard_names_find_the_same_api(tmp_path: Path) -> None:
    write(tmp_path, "News_Media/hello_world.json", HELLO)
    catalogue = load_catalogue([tmp_path])
    raw = catalogue.find(
        category_name="News, Media", tool_name="Hello World", api_name="/Get Hello"
    )
    standard = catalogue.find(
        category_name="News_Media", tool_name="hello_world", api_name="get_hello"
    )
    assert raw is not None
    assert raw is standard


@pytest.mark.parametrize(
    ("category", "tool", "api"),
    [
        ("Other", "hello_world", "id"),
        ("C", "hello", "id"),
        ("C", "hello_world", "___"),
        ("", "", ""),
    ],
)
def test_an_unknown_name_finds_nothing(tmp_path: Path, category: str, tool: str, api: str) -> None:
    write(tmp_path, "C/hello_world.json", HELLO)
    found = load_catalogue([tmp_path]).find(category_name=category, tool_name=tool, api_name=api)
    assert found is None


def test_the_first_of_two_apis_with_one_standard_name_wins_and_the_other_is_named(
    tmp_path: Path,
) -> None:
    apis = [{"name": "get it", "description": "first"}, {"name": "Get-It", "description": "second"}]
    write(tmp_path, "C/t.json", {"tool_name": "t", "api_list": apis})
    catalogue = load_catalogue([tmp_path])
    assert [document.description for document in catalogue.documents()] == ["first"]
    assert "C/t.json: api_list[1].name: 'Get-It'" in str(catalogue.refusals[0])


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "it is not JSON"),
        (b"{", "it is not JSON"),
        (b"\xff{}", "byte 0 is not UTF-8"),
        (b"[" * 100_000, "C/t.json: file:"),
        (b'{"tool_name": NaN}', "NaN is not a JSON value"),
        (b"[]", "found list instead of an object"),
        ({"tool_name": None, "api_list": []}, "tool_name: it is missing or empty"),
        ({"tool_name": "t", "api_list": None}, "api_list: it has no API"),
        ({"tool_name": "t", "api_list": "x"}, "api_list: found string instead of a list"),
        ({"tool_name": {"a": 1}, "api_list": []}, "tool_name: found object instead of text"),
        ({"tool_name": "x" * 513, "api_list": []}, "513 characters exceed the limit of 512"),
        ({"tool_name": "t", "api_list": [7]}, "api_list[0]: found number instead of an object"),
        ({"tool_name": "t", "api_list": [{"name": "///"}]}, "api_list[0].name: '///'"),
        (
            {"tool_name": "t", "api_list": [{"name": "a", "required_parameters": [{}]}]},
            "api_list[0].required_parameters[0].name: it is missing or empty",
        ),
        (
            {
                "tool_name": "t",
                "api_list": [{"name": "a", "required_parameters": [{"name": "b"}] * 257}],
            },
            "257 parameters exceed the limit of 256",
        ),
        (
            b'{"tool_name": "t", "api_list": [{"name": "a", "description": "\\ud800"}]}',
            "api_list[0].description",
        ),
    ],
)
def test_a_bad_document_is_named_with_field_and_reason(
    tmp_path: Path, content: Any, named: str
) -> None:
    write(tmp_path, "C/t.json", content)
    write(tmp_path, "C/good.json", HELLO)
    assert named in only_refusal(tmp_path)
    assert len(load_catalogue([tmp_path])) == 2


def test_a_deeply_nested_response_template_is_refused_because_it_could_not_be_printed(
    tmp_path: Path,
) -> None:
    nested = b"[" * 65 + b"]" * 65
    api = b'{"name": "a", "template_response": ' + nested + b"}"
    write(tmp_path, "C/t.json", b'{"tool_name": "t", "api_list": [' + api + b"]}")
    assert "template_response: nested deeper than 64 levels" in only_refusal(tmp_path)


def test_a_file_name_that_no_query_can_reach_is_refused_with_the_right_name(tmp_path: Path) -> None:
    write(tmp_path, "C/Hello World.json", HELLO)
    assert "rename the file to hello_world.json" in only_refusal(tmp_path)


def test_an_oversized_document_is_refused_with_its_limit(tmp_path: Path) -> None:
    write(tmp_path, "C/t.json", b" " * (MAX_DOCUMENT_BYTES + 1))
    assert f"exceeds the limit of {MAX_DOCUMENT_BYTES} bytes" in only_refusal(tmp_path)


def test_oversized_code_is_refused_while_its_apis_stay_described(tmp_path: Path) -> None:
    write(tmp_path, "C/hello_world.json", HELLO)
    write(tmp_path, "C/hello_world/api.py", b"#" * (MAX_CODE_BYTES + 1))
    catalogue = load_catalogue([tmp_path])
    assert catalogue.entries()[0].code is None
    assert "C/hello_world/api.py" in str(catalogue.refusals[0])


def test_a_link_out_of_the_root_is_not_followed(tmp_path: Path) -> None:
    outside = write(tmp_path, "outside/secret.py", b"SECRET = 1\n")
    write(tmp_path, "root/C/hello_world.json", HELLO)
    (tmp_path / "root/C/hello_world").mkdir()
    (tmp_path / "root/C/hello_world/api.py").symlink_to(outside)
    catalogue = load_catalogue([tmp_path / "root"])
    assert catalogue.entries()[0].code is None
    assert "leads out of the tools root" in str(catalogue.refusals[0])


def test_a_pipe_in_place_of_a_document_does_not_block_the_load(tmp_path: Path) -> None:
    (tmp_path / "C").mkdir()
    os.mkfifo(tmp_path / "C/t.json")
    assert "it is not a regular file" in only_refusal(tmp_path)


def test_the_first_root_owns_an_address_that_occurs_twice(tmp_path: Path) -> None:
    write(tmp_path, "a/C/hello_world.json", HELLO | {"tool_description": "mine"})
    write(tmp_path, "b/C/hello_world.json", HELLO | {"tool_description": "theirs"})
    catalogue = load_catalogue([tmp_path / "a", tmp_path / "b"])
    assert {document.tool_description for document in catalogue.documents()} == {"mine"}
    assert "already loaded from" in str(catalogue.refusals[0])


def test_a_missing_root_names_the_folder_and_the_setting(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match=r"nowhere.*TOOLENV_TOOLS_ROOTS"):
        load_catalogue([tmp_path / "nowhere"])


def test_documents_are_ordered_by_address(tmp_path: Path) -> None:
    for file in ("Z/a.json", "A/z.json", "A/a.json"):
        write(tmp_path, file, HELLO)
    refs = [str(document.ref) for document in load_catalogue([tmp_path]).documents()]
    assert refs == sorted(refs)
    assert len(refs) == 6


def test_all_shared_documents_load_within_two_seconds(shared_data: Path) -> None:
    started = time.perf_counter()
    catalogue = load_catalogue([shared_data / "toolbench" / "tools"])
    elapsed_s = time.perf_counter() - started
    tools = {(document.ref.category, document.ref.tool) for document in catalogue.documents()}
    assert (len(tools), len(catalogue), catalogue.refusals) == (814, 2490, ())
    assert elapsed_s < 2.0


def test_every_api_of_the_golden_queries_is_found(shared_data: Path) -> None:
    catalogue = load_catalogue([shared_data / "toolbench" / "tools"])
    queries = [
        api
        for file in (shared_data / "golden" / "queries").glob("*.json")
        for query in json.loads(file.read_text(encoding="utf-8"))
        for api in query["api_list"]
    ]
    missing = [
        api["api_name"]
        for api in queries
        if catalogue.find(
            category_name=api["category_name"],
            tool_name=api["tool_name"],
            api_name=api["api_name"],
        )
        is None
    ]
    assert len(queries) > 100
    assert missing == []


def test_an_address_is_found_by_its_reference(tmp_path: Path) -> None:
    write(tmp_path, "C/hello_world.json", HELLO)
    catalogue = load_catalogue([tmp_path])
    assert catalogue.get(ApiRef.parse("C/hello_world/is_id")) is not None
    assert catalogue.get(ApiRef.parse("C/hello_world/id")) is None


@pytest.mark.parametrize("name", [b"Cat/\xff.json", b"C\xff/t.json", b"C\n\x1b[31m/t.json"])
def test_a_file_name_that_cannot_be_shown_is_refused_in_words_that_can(
    tmp_path: Path, name: bytes
) -> None:
    write(tmp_path, os.fsdecode(name), HELLO)
    write(tmp_path, "Good/hello_world.json", HELLO)
    catalogue = load_catalogue((tmp_path,))
    assert {entry.document.ref.category for entry in catalogue.entries()} == {"Good"}
    (refusal,) = catalogue.refusals
    assert str(refusal).isprintable()
