"""How calls become states, rates and latencies."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from services.contracts.apis import ApiRef
from services.contracts.toolenv import ApiHealth, Attempt, CallStatus, HealthState, Observation
from services.toolenv.health import HealthBook
from services.toolenv.invocation import prepare
from tests.fakes.tool_sandbox import make_entry

CALL = prepare(make_entry(), "{}")
REF = CALL.entry.document.ref


def observation(status: CallStatus, **fields: object) -> Observation:
    values = {"source": "live", "tried": "live", "latency_s": 2.0, "content": "{}"} | fields
    return Observation(status=status, **values)


def only(book: HealthBook) -> ApiHealth:
    (health,) = book.report()
    return health


@pytest.fixture
def book(tmp_path: Path) -> HealthBook:
    return HealthBook(tmp_path / "health.db")


def test_answers_and_failures_are_counted_and_latency_is_that_of_answers(book: HealthBook) -> None:
    book.observe(CALL, observation(CallStatus.OK, latency_s=1.0))
    book.observe(CALL, observation(CallStatus.TOOL_ERROR, latency_s=3.0))
    book.observe(CALL, observation(CallStatus.TIMEOUT, latency_s=60.0, source="error"))
    health = only(book)
    assert (health.calls, health.success_rate, health.mean_latency_s) == (3, 3 / 5, 2.0)
    assert health.last_status is CallStatus.TIMEOUT


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (CallStatus.OK, HealthState.OK),
        (CallStatus.UNSUBSCRIBED, HealthState.UNSUBSCRIBED),
        (CallStatus.UNAUTHORIZED, HealthState.UNAUTHORISED),
        (CallStatus.BLOCKED, HealthState.BLOCKED),
        (CallStatus.RATE_LIMITED, HealthState.QUOTA),
        (CallStatus.TOO_MANY_REQUESTS, HealthState.QUOTA),
        (CallStatus.TIMEOUT, HealthState.UNKNOWN),
    ],
)
def test_the_last_telling_status_is_the_state(
    book: HealthBook, status: CallStatus, state: HealthState
) -> None:
    book.observe(CALL, observation(status))
    assert only(book).state is state


def test_a_failure_that_tells_nothing_about_access_keeps_the_state(
    book: HealthBook, tmp_path: Path
) -> None:
    book.observe(CALL, observation(CallStatus.UNSUBSCRIBED))
    book.flush()
    later = HealthBook(tmp_path / "health.db")
    later.observe(CALL, observation(CallStatus.TIMEOUT))
    assert only(later).state is HealthState.UNSUBSCRIBED


@pytest.mark.parametrize("source", ["replay", "simulated"])
def test_recordings_and_simulations_say_nothing_about_the_api(
    book: HealthBook, source: str
) -> None:
    book.observe(CALL, observation(CallStatus.OK, source=source, tried=source))
    assert book.report() == []


def test_a_call_that_a_simulation_saved_still_counts_against_the_api(book: HealthBook) -> None:
    attempt = Attempt(source="live", reason="down", status=CallStatus.API_NOT_WORKING)
    saved = observation(CallStatus.OK, source="simulated", tried="simulated", attempts=(attempt,))
    book.observe(CALL, saved)
    assert (only(book).calls, only(book).success_rate) == (1, 1 / 3)


def test_books_of_several_processes_add_up(tmp_path: Path) -> None:
    for _ in range(3):
        book = HealthBook(tmp_path / "health.db")
        book.observe(CALL, observation(CallStatus.OK))
        book.flush()
    assert only(HealthBook(tmp_path / "health.db")).calls == 3


def test_a_file_that_cannot_be_written_loses_no_count(tmp_path: Path) -> None:
    path = tmp_path / "health.db"
    path.mkdir()
    book = HealthBook(path)
    book.observe(CALL, observation(CallStatus.OK))
    book.flush()
    book.observe(CALL, observation(CallStatus.OK))
    path.rmdir()
    assert only(book).calls == 2


def test_an_api_without_its_credential_is_listed_before_it_was_ever_called(
    book: HealthBook,
) -> None:
    other = ApiRef.parse("Weather/open_sky/forecast")
    (health,) = book.report([(other, ("rapidapi",))])
    assert (health.ref, health.calls, health.missing_credentials) == (other, 0, ("rapidapi",))
    assert health.state is HealthState.UNKNOWN


def test_a_folder_that_cannot_be_made_loses_no_count(tmp_path: Path) -> None:
    blocked = tmp_path / "home"
    blocked.write_text("a file where the folder should be")
    book = HealthBook(blocked / "health.db")
    book.observe(CALL, observation(CallStatus.OK))
    book.flush()
    assert only(book).calls == 1
    blocked.unlink()
    book.flush()
    assert only(HealthBook(blocked / "health.db")).calls == 1


def test_a_row_that_cannot_be_read_hides_no_other(book: HealthBook, tmp_path: Path) -> None:
    book.observe(CALL, observation(CallStatus.OK))
    book.flush()
    with closing(sqlite3.connect(tmp_path / "health.db")) as database, database:
        database.executemany(
            "insert into health values (?, ?, 1, 1, 0.0, ?, 0.0)",
            [("no ref", "ok", "ok"), ("a/b/c", "asleep", "ok"), ("a/b/d", "ok", "unheard of")],
        )
        database.execute("insert into health values (x'00ff', 'ok', 1, 1, 0.0, 'ok', 0.0)")
    assert only(book).ref == REF
