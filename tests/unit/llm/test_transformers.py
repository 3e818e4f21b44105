"""The local engine with a tiny random model: equal to `generate`, batched, bounded."""

import asyncio
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.contracts.context import deadline_in
from services.contracts.errors import DeadlineExceeded, FailedPrecondition, InvalidArgument
from services.contracts.llm import ChatRequest, Completion, Message
from services.llm.engines.constraint import Constrain
from services.llm.engines.transformers import TransformersEngine
from services.llm.engines.vocabulary import ends_alphanumeric
from tests.unit.llm.conftest import CONVERT_ARGUMENTS, INSTRUCTION, convert_request

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def engines(model_folder: Path) -> Iterator[dict[Constrain, TransformersEngine]]:
    opened: dict[Constrain, TransformersEngine] = {
        constrain: TransformersEngine(
            model_path=model_folder, constrain=constrain, batch=4, threads=1
        )
        for constrain in ("none", "values")
    }
    yield opened
    for engine in opened.values():
        engine.close()


def asked(number: int, **changes: object) -> ChatRequest:
    text = f"Convert {number}.5 miles " + "please " * (number % 5)
    messages = (Message(role="user", content=text),)
    return convert_request(**({"messages": messages, "max_tokens": 24} | changes))


async def all_of(engine: TransformersEngine, requests: list[ChatRequest]) -> list[Completion]:
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        tasks = [group.create_task(engine.complete(request)) for request in requests]
    return [task.result() for task in tasks]


async def test_batched_greedy_replies_equal_those_of_generate(
    engines: dict[Constrain, TransformersEngine], model_folder: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    engine = engines["none"]
    requests = [asked(number, max_tokens=12) for number in range(9)]
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    expected = []
    for request in requests:
        ids = torch.tensor([engine._prompt_ids(request)])
        output = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False
        )
        expected.append(text_of(engine, output[0, ids.shape[1] :].tolist()))
    completions = await all_of(engine, requests)
    assert [completion.raw_text for completion in completions] == expected


def text_of(engine: TransformersEngine, ids: list[int]) -> str:
    """Text of generated tokens up to the first one that ends a reply."""
    text = b""
    for token_id in itertools.takewhile(lambda token: token not in engine._stop_ids, ids):
        after = ends_alphanumeric(text)
        text += engine._vocabulary.piece(token_id, after_alphanumeric=after)
    return text.decode(errors="replace")


@pytest.mark.parametrize(
    "text", [CONVERT_ARGUMENTS, INSTRUCTION, "a b 1 c  d", "New York, (12 miles)", "São 東京 é"]
)
def test_pieces_of_tokens_join_to_the_text(
    engines: dict[Constrain, TransformersEngine], text: str
) -> None:
    engine = engines["none"]
    ids = engine._tokenizer(text, add_special_tokens=False)["input_ids"]
    assert text_of(engine, ids) == engine._tokenizer.decode(ids) == text


async def test_a_second_turn_reuses_the_first_without_changing_the_reply(
    engines: dict[Constrain, TransformersEngine],
) -> None:
    engine = engines["values"]
    first = await engine.complete(asked(3))
    second = asked(3).model_copy(
        update={
            "messages": (
                *asked(3).messages,
                first.message,
                Message(role="tool", content='{"error": "", "response": {"length": 5.6}}'),
            )
        }
    )
    warm = await engine.complete(second)
    await all_of(engine, [asked(number) for number in range(40, 48)])
    cold = await engine.complete(second)
    assert warm == cold


async def test_a_constrained_reply_of_a_random_model_is_a_valid_call(
    engines: dict[Constrain, TransformersEngine],
) -> None:
    request = asked(3, max_tokens=400, temperature=1.5, seed=11)
    completion = await engines["values"].complete(request)
    (call,) = completion.message.tool_calls
    assert call.name in {tool.name for tool in request.tools}
    assert isinstance(json.loads(call.arguments), dict)
    assert completion.finish_reason == "tool_calls"


async def test_sampling_is_repeatable_alone_and_in_a_batch(
    engines: dict[Constrain, TransformersEngine],
) -> None:
    engine = engines["none"]
    requests = [asked(number, temperature=1.0, seed=number) for number in range(6)]
    together = await all_of(engine, requests)
    alone = [await engine.complete(request) for request in requests]
    assert [c.raw_text for c in together] == [c.raw_text for c in alone]
    assert len({c.raw_text for c in alone}) > 1


async def test_a_stream_gives_the_text_of_the_completion(
    engines: dict[Constrain, TransformersEngine],
) -> None:
    deltas = [delta async for delta in engines["values"].stream(asked(2))]
    last = deltas[-1].completion
    assert last is not None
    assert "".join(delta.text for delta in deltas) == last.raw_text
    assert len(deltas) > 3


async def test_leaving_a_stream_frees_its_slot(
    engines: dict[Constrain, TransformersEngine],
) -> None:
    engine = engines["values"]
    stream = engine.stream(asked(2, max_tokens=500, temperature=1.0, seed=1))
    first = await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]
    completions = await all_of(engine, [asked(number) for number in range(4)])
    assert "Thought: ".startswith(first.text)
    assert len(completions) == 4


async def test_a_prompt_beyond_the_context_is_refused(
    engines: dict[Constrain, TransformersEngine],
) -> None:
    request = asked(1, messages=(Message(role="user", content="many words " * 2000),))
    with pytest.raises(InvalidArgument, match=r"holds 1024"):
        await engines["none"].complete(request)


async def test_a_reply_is_cut_at_the_context(
    engines: dict[Constrain, TransformersEngine],
) -> None:
    engine = engines["none"]
    words = "please " * 120
    request = asked(1, messages=(Message(role="user", content=words),), max_tokens=5000)
    room = 1024 - len(engine._prompt_ids(request))
    completion = await engine.complete(request)
    assert 0 < completion.usage.completion_tokens <= room


async def test_a_deadline_ends_the_wait(engines: dict[Constrain, TransformersEngine]) -> None:
    request = asked(1, max_tokens=900, temperature=1.5, seed=5)
    with pytest.raises(DeadlineExceeded), deadline_in(0.03):
        await engines["values"].complete(request)


async def test_the_engine_says_which_model_it_is(
    engines: dict[Constrain, TransformersEngine],
) -> None:
    info = engines["values"].info
    assert (info.model, info.engine, info.constrain) == ("tiny", "transformers", "values")
    assert info.context_tokens == 1024


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="LLM_MODEL_PATH"):
        TransformersEngine(model_path=tmp_path)


def test_a_damaged_model_is_refused(tmp_path: Path, model_folder: Path) -> None:
    for path in model_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(FailedPrecondition, match="cannot be loaded"):
        TransformersEngine(model_path=tmp_path)
