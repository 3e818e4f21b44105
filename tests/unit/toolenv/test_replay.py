"""Recorded answers come back labelled; misses are named and listed; only real answers are kept."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from services.contracts.context import deadline_in
from services.contracts.errors import Unavailable
from services.contracts.toolenv import CallStatus, Observation, ObservationSource
from services.toolenv.cassettes.recording import Answer
from services.toolenv.cassettes.snapshot import Snapshot, freeze
from services.toolenv.cassettes.store import Store
from services.toolenv.chain import Chain
from services.toolenv.executors.base import Declined
from services.toolenv.executors.replay import CassetteRecorder, ReplayExecutor
from services.toolenv.invocation import Invocation, prepare
from services.toolenv.observation import failed, succeeded
from tests.fakes.recordings import RECORDED_AT, make_recording
from tests.fakes.tool_sandbox import make_entry

pytestmark = pytest.mark.anyio


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "cassettes.db")) as opened:
        yield opened


def invocation(number: int = 0) -> Invocation:
    return prepare(make_entry(), f'{{"times": {number}.0, "text": "text {number}"}}')


def observed(status: CallStatus, source: ObservationSource) -> Observation:
    return failed(status, "it broke", source=source).model_copy(update={"upstream_status": 418})


class Live:
    """A live executor that counts its calls."""

    source = "live"

    def __init__(self) -> None:
        self.calls = 0

    async def execute(self, invocation: Invocation) -> Observation:
        self.calls += 1
        return succeeded({"call": self.calls}, source="live", latency_s=0.5)


class Broken:
    """A shelf that cannot be read."""

    def find(self, key: str) -> Answer | None:
        raise Unavailable("the disk is gone")


async def test_a_hit_is_the_recorded_answer_labelled_as_a_replay(store: Store) -> None:
    recording = make_recording(3, {"a": 1}, source="remote", status=CallStatus.TOOL_ERROR)
    store.put_now(recording)
    executor = ReplayExecutor([store], clock=lambda: RECORDED_AT + 60)
    observation = await executor.execute(invocation(3))
    assert isinstance(observation, Observation)
    assert observation.content == recording.content
    assert observation.model_dump(exclude={"content", "latency_s"}, exclude_none=True) == {
        "status": CallStatus.TOOL_ERROR,
        "source": "replay",
        "recorded_source": "remote",
        "upstream_status": 200,
        "key": recording.key,
        "age_s": 60.0,
        "attempts": (),
    }
    assert 0 < observation.latency_s < 1
    assert executor.n_hits == 1


async def test_a_recording_from_the_future_has_no_negative_age(store: Store) -> None:
    store.put_now(make_recording())
    executor = ReplayExecutor([store], clock=lambda: RECORDED_AT - 3600)
    observation = await executor.execute(invocation())
    assert isinstance(observation, Observation)
    assert observation.age_s == 0.0


async def test_a_miss_declines_with_the_key_and_is_listed(store: Store) -> None:
    executor = ReplayExecutor([store], misses=store, clock=lambda: 5.0)
    for _ in range(2):
        answer = await executor.execute(invocation(1))
    store.flush()
    assert isinstance(answer, Declined)
    assert make_recording(1).key in answer.reason
    assert executor.n_misses == 2
    assert [(miss.arguments, miss.times, miss.last_at) for miss in store.misses()] == [
        (make_recording(1).arguments, 2, 5.0)
    ]


async def test_arguments_that_are_no_object_decline(store: Store) -> None:
    executor = ReplayExecutor([store], misses=store)
    answer = await executor.execute(prepare(make_entry(), "not JSON"))
    assert isinstance(answer, Declined)
    assert executor.n_misses == 0


async def test_a_snapshot_is_asked_before_the_store(store: Store, tmp_path: Path) -> None:
    store.put_now(make_recording(1, "frozen"))
    frozen = freeze(store, tmp_path / "snapshots")
    store.put_now(make_recording(1, "newer"))
    store.put_now(make_recording(2, "only live"))
    with closing(Snapshot(frozen.path)) as snapshot:
        executor = ReplayExecutor([snapshot, store])
        contents = [(await executor.execute(invocation(n))).content for n in (1, 2)]
    assert contents == [make_recording(1, "frozen").content, make_recording(2, "only live").content]


async def test_a_record_that_cannot_be_read_does_not_stop_the_next_source(store: Store) -> None:
    live = Live()
    observation = await Chain([ReplayExecutor([Broken(), store]), live]).execute(invocation())
    assert observation.source == "live"
    assert "the disk is gone" in observation.attempts[0].reason
    store.put_now(make_recording())
    replayed = await Chain([ReplayExecutor([Broken(), store]), live]).execute(invocation())
    assert replayed.source == "replay"


@pytest.mark.parametrize("field", ["status", "source", "content"])
async def test_a_row_changed_by_hand_does_not_fail_the_call(store: Store, field: str) -> None:
    store.put_now(make_recording())
    with closing(sqlite3.connect(store.path)) as tampered:
        tampered.execute(f"UPDATE recordings SET {field} = x'ff00'")
        tampered.commit()
    answer = await ReplayExecutor([store]).execute(invocation())
    assert isinstance(answer, Declined)
    assert "cannot be read" in answer.reason


async def test_what_is_live_once_is_replayed_ever_after(store: Store) -> None:
    live = Live()
    chain = Chain([ReplayExecutor([store]), live], recorder=CassetteRecorder(store))
    first, second = [await chain.execute(invocation()) for _ in range(2)]
    assert (first.source, first.is_recorded, second.source) == ("live", True, "replay")
    assert second.recorded_source == "live"
    assert second.content == first.content
    assert live.calls == 1


async def test_a_strict_replay_of_an_unknown_call_asks_nobody_else(store: Store) -> None:
    live = Live()
    chain = Chain([ReplayExecutor([store]), live])
    observation = await chain.execute(invocation(7), ["replay"])
    assert observation.status is CallStatus.API_NOT_WORKING
    assert make_recording(7).key in observation.content
    assert live.calls == 0


@pytest.mark.parametrize(
    ("source", "status", "is_kept"),
    [
        ("live", CallStatus.OK, True),
        ("live", CallStatus.TOOL_ERROR, True),
        ("remote", CallStatus.OK, True),
        ("live", CallStatus.TIMEOUT, False),
        ("live", CallStatus.RATE_LIMITED, False),
        ("live", CallStatus.UNAUTHORIZED, False),
        ("live", CallStatus.INVALID_ARGUMENTS, False),
        ("live", CallStatus.REQUEST_FAILED, False),
        ("custom", CallStatus.OK, False),
        ("simulated", CallStatus.OK, False),
        ("replay", CallStatus.OK, False),
        ("error", CallStatus.TOOL_ERROR, False),
    ],
)
async def test_only_real_answers_are_kept(
    store: Store, source: ObservationSource, status: CallStatus, is_kept: bool
) -> None:
    recorder = CassetteRecorder(store)
    observation = observed(status, source)
    assert recorder.wants(observation) is is_kept
    assert await recorder.record(invocation(), observation) is is_kept
    assert store.count() == int(is_kept)


async def test_other_sources_are_kept_on_request_but_never_unreal_ones(store: Store) -> None:
    custom = CassetteRecorder(store, sources=["custom"])
    assert custom.wants(observed(CallStatus.OK, "custom"))
    assert not custom.wants(observed(CallStatus.OK, "live"))
    with pytest.raises(ValueError, match="'simulated' are never recorded"):
        CassetteRecorder(store, sources=["live", "simulated"])


async def test_an_answer_is_recorded_with_all_that_is_known_of_it(store: Store) -> None:
    recorder = CassetteRecorder(store, clock=lambda: 123.5)
    await recorder.record(invocation(2), observed(CallStatus.TOOL_ERROR, "live"))
    (recording,) = store.recordings()
    assert recording.key == invocation(2).key
    assert recording.arguments == '{"text":"text 2","times":2}'
    assert (recording.upstream_status, recording.recorded_at) == (418, 123.5)


async def test_a_full_disk_is_no_failure_of_the_call(store: Store) -> None:
    store.put_now(make_recording(9))
    store._writer.submit(lambda found: found.execute("PRAGMA max_page_count = 1") and 0).result(5)
    chain = Chain([Live()], recorder=CassetteRecorder(store))
    answers = [await chain.execute(invocation(n)) for n in range(200)]
    assert {answer.status for answer in answers} == {CallStatus.OK}
    assert answers[-1].is_recorded is False


async def test_an_answer_at_its_deadline_does_not_wait_for_the_disk(store: Store) -> None:
    with deadline_in(0.0):
        kept = await CassetteRecorder(store).record(
            invocation(), succeeded(1, source="live", latency_s=0.1)
        )
    store.flush()
    assert kept is False
    assert store.count() == 1


async def test_an_answer_for_one_user_is_not_replayed_to_another(store: Store) -> None:
    recorder = CassetteRecorder(store, is_personal=lambda call: call.user == "ada")
    chain = Chain([ReplayExecutor([store]), live := Live()], recorder=recorder)
    for user, source in (("ada", "live"), ("bob", "live"), ("ada", "replay"), ("bob", "replay")):
        call = prepare(make_entry(), '{"text": "my account"}', user=user)
        assert (await chain.execute(call)).source == source
    assert live.calls == 2


async def test_nothing_is_recorded_while_nobody_knows_whose_answer_it_is(store: Store) -> None:
    def unknown(_: Invocation) -> bool:
        raise Unavailable("the credentials cannot be read")

    answer = succeeded(1, source="live", latency_s=0.0)
    recorder = CassetteRecorder(store, is_personal=unknown)
    assert not await recorder.record(invocation(), answer)
    assert store.count() == 0
