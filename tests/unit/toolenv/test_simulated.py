"""A language model in the place of an API: what it is shown, and which replies count."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from services.contracts.apis import ApiParameter, ApiRef
from services.contracts.context import deadline_in
from services.contracts.errors import FailedPrecondition, ResourceExhausted, Unavailable
from services.contracts.llm import ChatRequest, Completion, CompletionDelta, Message, ModelInfo
from services.contracts.toolenv import CallStatus, Observation
from services.toolenv.cassettes.recording import Answer, recording_of
from services.toolenv.cassettes.store import Store
from services.toolenv.catalog import CatalogueEntry
from services.toolenv.executors import simulation
from services.toolenv.executors.base import Declined
from services.toolenv.executors.simulated import SimulatedExecutor
from services.toolenv.executors.simulation import Example, SimulatorProfile, load_profile
from services.toolenv.executors.simulation_examples import RecordedExamples
from services.toolenv.executors.simulation_reply import BadReply, fitted, parse_reply
from services.toolenv.invocation import prepare
from tests.fakes.live_api import live_entry

pytestmark = pytest.mark.anyio


class Actor:
    """A chat model that says its lines in order, the last one again and again."""

    def __init__(self, *lines: str | Exception, delay_s: float = 0.0) -> None:
        self.asked: list[ChatRequest] = []
        self._lines = list(lines)
        self._delay_s = delay_s

    async def complete(self, request: ChatRequest) -> Completion:
        self.asked.append(request)
        await asyncio.sleep(self._delay_s)
        line = self._lines.pop(0) if len(self._lines) > 1 else self._lines[0]
        if isinstance(line, Exception):
            raise line
        return Completion(message=Message(role="assistant", content=line))

    async def stream(self, request: ChatRequest) -> AsyncIterator[CompletionDelta]:
        yield CompletionDelta(completion=await self.complete(request))

    async def describe(self) -> ModelInfo:
        return ModelInfo()


def weather(template: Any = None) -> CatalogueEntry:
    entry = live_entry("https://api.test", template=template)
    document = entry.document.model_copy(
        update={
            "description": "The weather",
            "tool_description": "Weather of cities",
            "required_parameters": (
                ApiParameter(name="City", type="STRING", description="Where", default="Rome"),
            ),
        }
    )
    return CatalogueEntry(document)


def replying(response: Any, error: str = "") -> str:
    return json.dumps({"error": error, "response": response})


async def play(
    actor: Actor, text: str = '{"city": "Paris"}', *, template: Any = None, **options: Any
) -> Observation:
    answer = await SimulatedExecutor(actor, **options).execute(prepare(weather(template), text))
    assert isinstance(answer, Observation)
    return answer


async def test_a_reply_is_printed_as_toolbench_prints_it_and_labelled_simulated() -> None:
    observation = await play(Actor(replying({"temp": 21})))
    assert observation.content == '{"error": "", "response": {"temp": 21}}'
    assert (observation.status, observation.source) == (CallStatus.OK, "simulated")


async def test_the_user_message_has_mirrorapis_layout() -> None:
    actor = Actor(replying("x"))
    await play(actor, '{"city": "Paris"}')
    assert actor.asked[0].messages[1].content == (
        "API doc:\n"
        "{'api_name': 'Live API', 'api_description': 'The weather', 'required_parameters': "
        "[{'name': 'City', 'type': 'STRING', 'description': 'Where', 'default': 'Rome'}], "
        "'optional_parameters': [], 'tool_description': 'Weather of cities', "
        "'tool_name': 'Live Tool', 'tool_category': 'Test'}\n\n"
        "Request:\n{'city': 'Paris'}"
    )


async def test_sampling_is_fixed_so_that_a_run_can_be_repeated() -> None:
    first, second = Actor("?"), Actor("?")
    await play(first)
    await play(second)
    assert first.asked == second.asked
    assert [(request.seed, request.temperature) for request in first.asked] == [
        (42, 0.0),
        (43, 0.0),
        (44, 0.0),
    ]


async def test_recorded_examples_are_shown_as_many_as_fit() -> None:
    asked: list[tuple[ApiRef, int]] = []

    async def examples(ref: ApiRef, limit: int) -> Sequence[Example]:
        asked.append((ref, limit))
        return [({"city": f"C{n}"}, {"note": "n" * 700}) for n in range(limit)]

    actor = Actor(replying("x"))
    await play(actor, examples=examples)
    system = actor.asked[0].messages[0].content or ""
    shown = system.partition("Recorded requests and replies:\n")[2]
    assert asked == [(weather().document.ref, 5)]
    assert ("'C0'" in shown, "'C1'" in shown, "'C4'" in shown) == (True, True, False)
    assert len(shown) <= 2048


async def test_examples_come_from_the_record(tmp_path: Path) -> None:
    document = weather().document
    store = Store(tmp_path / "cassettes.db")
    for city in ("Rome", "Oslo"):
        answer = Answer(replying({"t": city}), CallStatus.OK, "live", 200, 0.1, 1.0)
        await store.put(recording_of(document.ref, {"city": city}, answer))
    actor = Actor(replying("x"))
    await play(actor, examples=RecordedExamples(store))
    store.close()
    shown = actor.asked[0].messages[0].content or ""
    assert "({'city': 'Rome'}, {'error': '', 'response': {'t': 'Rome'}})" in shown
    assert "'Oslo'" in shown


async def test_a_record_that_cannot_be_read_leaves_the_examples_out() -> None:
    async def broken(ref: ApiRef, limit: int) -> Sequence[Example]:
        raise Unavailable("the record is damaged")

    assert (await play(Actor(replying("x")), examples=broken)).status is CallStatus.OK


async def test_a_published_prompt_is_sent_alone_and_checked_by_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "You are a simulator."
    digest = hashlib.sha256(text.encode()).hexdigest()
    monkeypatch.setattr(simulation, "_PUBLISHED", {digest: "mirrorapi"})
    file = tmp_path / "prompt.txt"
    file.write_text(text + "\n")
    profile = load_profile(file)
    actor = Actor(replying("{'temp': 21}"))
    observation = await play(actor, profile=profile, template={"temp": "int"})
    assert (profile.name, actor.asked[0].messages[0].content) == ("mirrorapi", text)
    assert observation.status is CallStatus.OK


def test_the_fingerprints_of_the_published_prompts_are_those_of_the_specification() -> None:
    assert [digest[:8] for digest in simulation._PUBLISHED] == ["8cdc5f12", "16f56b55"]


@pytest.mark.parametrize("content", ["another prompt", ""])
def test_another_prompt_is_refused_with_its_hash(tmp_path: Path, content: str) -> None:
    file = tmp_path / "prompt.txt"
    file.write_text(content)
    with pytest.raises(FailedPrecondition, match=hashlib.sha256(content.encode()).hexdigest()):
        load_profile(file)
    with pytest.raises(FailedPrecondition, match="cannot be read"):
        load_profile(tmp_path / "missing.txt")


@pytest.mark.parametrize(
    ("text", "error", "response"),
    [
        ('{"error": "", "response": {"a": 1}}', "", {"a": 1}),
        ('```json\n{"error": "", "response": [1]}\n```', "", [1]),
        ('Here it is:\n```\n{"error": "no", "response": ""}\n```\nDone.', "no", ""),
        ('{"error": null, "response": "x\ny"}', "", "x\ny"),
        ('{"error": {"code": 3}, "response": ""}', '{"code": 3}', ""),
        ('{"mechanism_of_the_api": "m", "error": "", "response": 1}', "", 1),
        ('{"error": "", "response": {"a": 1}', "", {"a": 1}),
        ('{"error": "a\\"b", "response": "{\'k\': "v"}"}', 'a"b', "{'k': \"v\"}"),
        ('{"response": 7}', "", 7),
    ],
)
def test_replies_are_read_as_mirrorapis_server_reads_them(
    text: str, error: str, response: Any
) -> None:
    assert parse_reply(text) == (error, response)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I am sorry, I cannot do that.",
        "[1, 2]",
        '{"weather": "fine"}',
        "{" * 5000,
        '"error": "' + "\\" * 60_000,
        "x" * 70_000,
    ],
)
async def test_a_model_that_rambles_gives_a_typed_failure(text: str) -> None:
    actor = Actor(text)
    observation = await play(actor)
    assert (observation.status, observation.source) == (CallStatus.REQUEST_FAILED, "error")
    assert "3 replies could not be used" in observation.content
    assert len(actor.asked) == 3
    assert len(observation.content) < 1000


@pytest.mark.parametrize(
    ("response", "template"),
    [
        ({"temp": 21, "extra": 1}, {"temp": "int"}),
        ({"temp": 21.5}, {"temp": "int"}),
        ({"temp": None}, {"temp": "int"}),
        ({"days": [{"t": 1}]}, {"days": [{"t": "float", "_list_length": 24}]}),
        ({"names": ["a"]}, {"names": ["list of str with length 3"]}),
        ({"temp": 1}, {"temp": 30.5}),
        ([{"a": "x"}], [{"a": "an example"}]),
        ({"anything": 1}, {"message": "str"}),
        ("text", "str"),
        ("text", None),
        ('{"temp": 1}', {"temp": "int"}),
        ({"temp": 1}, '{"temp": "int"}'),
        ({"temp": 1}, '{"temp": "int", "cut o'),
    ],
)
def test_a_response_of_the_documents_structure_is_accepted(response: Any, template: Any) -> None:
    assert fitted(response, template) is not None


@pytest.mark.parametrize(
    ("response", "template", "problem"),
    [
        ({}, {"temp": "int"}, "response lacks 'temp'"),
        ({"temp": "warm"}, {"temp": "int"}, "response.temp is a text and should be a number"),
        ({"ok": 1}, {"ok": "bool"}, "response.ok is a number and should be a boolean"),
        ({"n": True}, {"n": "int"}, "response.n is a boolean and should be a number"),
        ([], {"temp": "int"}, "response is a list and should be an object"),
        ("sunny", {"temp": "int"}, "response is a text and should be an object"),
        ({"days": {}}, {"days": [{"t": 1}]}, "response.days is an object and should be a list"),
        ({"d": [{"t": 1}, {}]}, {"d": [{"t": 1}]}, r"response.d\[1\] lacks 't'"),
    ],
)
def test_a_response_of_another_structure_is_refused(
    response: Any, template: Any, problem: str
) -> None:
    with pytest.raises(BadReply, match=problem):
        fitted(response, template)


async def test_a_refused_reply_is_asked_for_again_with_the_reason() -> None:
    actor = Actor(replying({}), replying({"temp": 3}))
    observation = await play(actor, template={"temp": "int"})
    assert observation.status is CallStatus.OK
    assert "response lacks 'temp'" in (actor.asked[1].messages[-1].content or "")


async def test_an_error_that_the_model_plays_is_the_tools_error() -> None:
    observation = await play(Actor(replying("", error="City not found")), template={"temp": "int"})
    assert (observation.status, observation.source) == (CallStatus.TOOL_ERROR, "simulated")


@pytest.mark.parametrize("error", [Unavailable("down"), ResourceExhausted("full")])
async def test_without_a_model_the_simulation_declines_with_the_reason(error: Exception) -> None:
    answer = await SimulatedExecutor(Actor(error)).execute(prepare(weather(), '{"city": "x"}'))
    assert isinstance(answer, Declined)
    assert str(error) in answer.reason


async def test_a_slow_model_gives_a_timeout_within_the_deadline() -> None:
    with deadline_in(0.2):
        observation = await play(Actor(replying("x"), delay_s=30))
    assert observation.status is CallStatus.TIMEOUT
    assert observation.latency_s < 1.2


@pytest.mark.parametrize("text", ["[1]", '{"town": "Paris"}'])
async def test_bad_arguments_are_refused_without_asking_the_model(text: str) -> None:
    actor = Actor(replying("x"))
    observation = await play(actor, text)
    assert (observation.status, actor.asked) == (CallStatus.INVALID_ARGUMENTS, [])


def test_our_own_prompt_asks_for_the_two_keys() -> None:
    profile: SimulatorProfile = simulation.OWN_PROFILE
    assert '"error"' in profile.system_prompt
    assert '"response"' in profile.system_prompt
