"""StableToolBench's cache folders, with the quirks of real ones; laid out by hand after interop."""

import json
import math
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from services.contracts.apis import ApiRef
from services.contracts.errors import NotFound
from services.contracts.toolenv import CallStatus
from services.toolenv.cassettes import stabletoolbench
from services.toolenv.cassettes.key import call_key
from services.toolenv.cassettes.stabletoolbench import import_cache, parse_arguments_key
from services.toolenv.cassettes.store import Added, Store

WEATHER = ApiRef(category="Weather", tool="open_weather_map", api="current_weather")
FAILED = {"error": "Failed to generate fake response", "response": ""}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "tool_response_cache"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "cassettes.db")) as opened:
        yield opened


def reply(response: object, error: object = "") -> dict[str, object]:
    return {"error": error, "response": response}


def write(cache: Path, file: str, entries: object) -> Path:
    path = cache / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(entries if isinstance(entries, str) else json.dumps(entries, indent=4))
    return path


def test_entries_are_found_under_the_key_of_their_call(store: Store, cache: Path) -> None:
    arguments = {"q": 'it\'s "Köln"', "days": 3, "metric": True, "lang": None, "at": [1.5, -2]}
    path = write(
        cache,
        "Weather/open_weather_map_for_Weather/current_weather.json",
        {
            str(arguments): reply({"temp": 17.5, "note": "\u00fc"}),
            "{}": reply("", error="Required parameter q is missing"),
        },
    )
    os.utime(path, (1e9, 1e9))
    done = import_cache(store, cache)
    assert (done.files, done.added, done.repeated, done.refused) == (1, Added(2, 0), 0, ())
    hit = store.find(call_key(WEATHER, arguments))
    assert hit is not None
    assert json.loads(hit.content) == reply({"temp": 17.5, "note": "\u00fc"})
    assert (hit.status, hit.source, hit.recorded_at) == (CallStatus.OK, "remote", 1e9)
    refused = store.find(call_key(WEATHER, {}))
    assert refused is not None
    assert refused.status is CallStatus.TOOL_ERROR


@pytest.mark.parametrize(
    ("file", "address"),
    [
        ("Weather/open_weather_map_for_Weather/current_weather.json", str(WEATHER)),
        ("Weather/Open Weather Map_for_Weather/Current Weather.json", str(WEATHER)),
        ("Weather/open_weather_map/current_weather.json", str(WEATHER)),
        ("News, Media/times_for_News_Media/from.json", "News_Media/times/is_from"),
        ("News, Media/times_for_News, Media/search.json", "News_Media/times/search"),
        ("Tools/24_hours_for_Tools/2_days.json", "Tools/get_24_hours/get_2_days"),
        ("Food/wait_for_me_for_Food/get.json", "Food/wait_for_me/get"),
    ],
)
def test_folder_and_file_names_become_an_address(
    store: Store, cache: Path, file: str, address: str
) -> None:
    write(cache, file, {"{}": reply(1)})
    assert import_cache(store, cache).added == Added(1, 0)
    assert [str(found.ref) for found in store.recordings()] == [address]


def test_the_folder_above_is_taken_as_well(store: Store, cache: Path) -> None:
    write(cache, "Weather/a_for_Weather/b.json", {"{}": reply(1)})
    assert import_cache(store, cache.parent).added == Added(1, 0)


def test_two_spellings_of_one_call_keep_the_first(store: Store, cache: Path) -> None:
    entries = {"{'a': 1, 'b': 2}": reply("first"), "{'b': 2.0, 'a': 1}": reply("second")}
    write(cache, "Weather/open_weather_map_for_Weather/current_weather.json", entries)
    done = import_cache(store, cache)
    assert (done.added, done.repeated) == (Added(1, 0), 1)
    hit = store.find(call_key(WEATHER, {"a": 1, "b": 2}))
    assert hit is not None
    assert "first" in hit.content


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "it is empty"),
        ("  \n", "it is empty"),
        ('{"{}": {"error": "", "resp', "it is not JSON"),
        ("[" * 5000, "it is not JSON"),
        ("[]", "it holds a JSON list"),
        ("null", "it holds a JSON NoneType"),
    ],
)
def test_a_broken_file_is_named_and_does_not_stop_the_rest(
    store: Store, cache: Path, content: str, reason: str
) -> None:
    write(cache, "Weather/a_for_Weather/broken.json", content)
    write(cache, "Weather/b_for_Weather/fine.json", {"{}": reply(1)})
    done = import_cache(store, cache)
    assert (done.files, done.added) == (2, Added(1, 0))
    (refused,) = done.refused
    assert (refused.file, refused.key) == ("Weather/a_for_Weather/broken.json", "")
    assert reason in refused.reason


def test_what_is_no_readable_file_is_named(
    store: Store, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stabletoolbench, "MAX_FILE_BYTES", 1000)
    write(cache, "W/a_for_W/large.json", {"{}": reply("x" * 1000)})
    os.mkfifo(cache / "W" / "a_for_W" / "pipe.json")
    (cache / "W" / "a_for_W" / "gone.json").symlink_to("nowhere")
    (cache / "W" / "a_for_W" / "bytes.json").write_bytes(b'{"\xff": 1}')
    write(cache, "W/___/nameless.json", {"{}": reply(1)})
    reasons = {refused.file: refused.reason for refused in import_cache(store, cache).refused}
    assert list(reasons) == [
        "W/___/nameless.json",
        "W/a_for_W/bytes.json",
        "W/a_for_W/gone.json",
        "W/a_for_W/large.json",
        "W/a_for_W/pipe.json",
    ]
    assert "names no API: tool" in reasons["W/___/nameless.json"]
    assert "limit of 1000 bytes" in reasons["W/a_for_W/large.json"]
    assert "not a regular file" in reasons["W/a_for_W/pipe.json"]


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("{'a': nan}", reply(1), "no Python literal"),
        ("{'a': inf}", reply(1), "no Python literal"),
        ("{'a': 1e999}", reply(1), "inf (float) is no JSON value"),
        ("{'a': __import__('os')}", reply(1), "no Python literal"),
        ("{'a': }", reply(1), "no Python literal"),
        ("", reply(1), "no Python literal"),
        ("[1, 2]", reply(1), "prints a list"),
        ("'text'", reply(1), "prints a str"),
        ("{1: 2}", reply(1), "1 names an argument"),
        ("{'a': {1, 2}}", reply(1), "(set) is no JSON value"),
        ("{'a': (1, 2)}", reply(1), "(tuple) is no JSON value"),
        ("{'a': b'x'}", reply(1), "(bytes) is no JSON value"),
        ("{'a': 1j}", reply(1), "(complex) is no JSON value"),
        ("{'a': ...}", reply(1), "no JSON value"),
        ("{'a': '\\ud800'}", reply(1), "surrogate"),
        ("{'a': " + "[" * 100 + "]" * 100 + "}", reply(1), "nested deeper than 64"),
        ("{'a': " + "-" * 60_000 + "1}", reply(1), "no Python literal"),
        ("{'a': '" + "x" * 70_000 + "'}", reply(1), "exceed the limit of 65536"),
        ("{}", "text", "no reply"),
        ("{}", {"error": ""}, "no reply"),
        ("{}", {"response": 1}, "no reply"),
        ("{}", reply(math.nan), "cannot be written as JSON"),
        ("{}", reply("x" * 1_100_000), "more than the limit"),
        ("{}", FAILED, "a failure (request_failed)"),
        ("{}", reply("", error="Timeout error..."), "a failure (timeout)"),
    ],
)
def test_an_entry_that_cannot_be_used_is_named_and_does_not_stop_the_rest(
    store: Store, cache: Path, key: str, value: object, reason: str
) -> None:
    write(cache, "W/a_for_W/b.json", {key: value, "{'fine': 1}": reply(1)})
    done = import_cache(store, cache)
    assert done.added == Added(1, 0)
    (refused,) = done.refused
    assert refused.file == "W/a_for_W/b.json"
    assert refused.key[:100] == key[:100]
    assert reason in refused.reason.replace("surrogates", "surrogate").replace(
        "non-UTF-8", "surrogate"
    )


def test_failures_are_taken_on_request(store: Store, cache: Path) -> None:
    write(cache, "Weather/open_weather_map_for_Weather/current_weather.json", {"{}": FAILED})
    assert import_cache(store, cache).added == Added(0, 0)
    assert import_cache(store, cache, keep_failures=True).added == Added(1, 0)
    hit = store.find(call_key(WEATHER, {}))
    assert hit is not None
    assert (hit.status, hit.content) == (CallStatus.REQUEST_FAILED, json.dumps(FAILED))


def test_a_second_import_keeps_or_replaces(store: Store, cache: Path) -> None:
    file = "Weather/open_weather_map_for_Weather/current_weather.json"
    write(cache, file, {"{}": reply("old")})
    import_cache(store, cache)
    write(cache, file, {"{}": reply("new"), "{'a': 1}": reply("new")})
    assert import_cache(store, cache).added == Added(1, 1)
    assert import_cache(store, cache, on_conflict="replace").added == Added(2, 0)


def test_a_folder_that_is_not_there_is_named(store: Store, cache: Path) -> None:
    with pytest.raises(NotFound, match="tool_response_cache"):
        import_cache(store, cache)


def test_large_integers_and_unicode_in_keys_survive() -> None:
    arguments = {"id": 2**70, "name": "日本 \U0001f600", "x": {"y": [True, None, 1e-7]}}
    assert parse_arguments_key(str(arguments)) == arguments
