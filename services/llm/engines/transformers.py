"""Serves a local model folder with `transformers`: one model thread, continuous batches.

This module and `slot_model` are the only ones of the service that import torch; `bootstrap` imports
them when they are asked for.
"""

import asyncio
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager, suppress
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils.logging import disable_progress_bar

from services.contracts.context import remaining_s
from services.contracts.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    ServiceError,
)
from services.contracts.llm import ChatRequest, Completion, CompletionDelta, ModelInfo
from services.llm.dialects.base import next_call_id
from services.llm.dialects.openai import message_json, tool_json
from services.llm.dialects.react_text import ReactTextParser
from services.llm.engines.constraint import Constrain, Cursor, ReplyGrammar
from services.llm.engines.generation import Generation
from services.llm.engines.scheduler import Scheduler
from services.llm.engines.slot_model import TorchSlotModel
from services.llm.engines.vocabulary import TokenVocabulary

_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")


class TransformersEngine:
    """See `Engine`. Close it, or its thread keeps the model in memory."""

    def __init__(
        self,
        *,
        model_path: Path,
        constrain: Constrain = "none",
        batch: int = 32,
        max_queue: int = 64,
        threads: int | None = None,
        timeout_s: float = 300.0,
        context_tokens: int | None = None,
        follows_instructions: bool | None = None,
    ) -> None:
        """Load a model; takes seconds.

        Args:
            model_path: Folder with weights, tokenizer and chat template.
            constrain: What decoding forces to be valid.
            batch: Replies generated at once.
            max_queue: Replies that wait beyond those; more are refused.
            threads: Threads of torch in this process; `None` leaves them alone.
            timeout_s: Longest wait for one reply, seconds.
            context_tokens: Prompt and reply together; `None` takes the model's own limit.
            follows_instructions: See `ModelInfo`; `None` takes it from the model's configuration.

        Raises:
            FailedPrecondition: The folder holds no usable model.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        self._tokenizer, model = _load(model_path)
        self._name = model_path.name
        self._context_tokens = context_tokens or int(model.config.max_position_embeddings)
        self._follows_instructions = (
            # A field of our own in `config.json`; other models do not have it.
            bool(getattr(model.config, "follows_instructions", True))
            if follows_instructions is None
            else follows_instructions
        )
        self._constrain: Constrain = constrain
        self._timeout_s = timeout_s
        self._vocabulary = vocabulary_of(self._tokenizer)
        self._stop_ids = self._vocabulary.end_ids | set(self._tokenizer.all_special_ids)
        slots = TorchSlotModel(model, n_slots=batch)
        self._scheduler = Scheduler(slots, max_queue=max_queue)

    @property
    def info(self) -> ModelInfo:
        """See `Engine.info`."""
        return ModelInfo(
            model=self._name,
            engine="transformers",
            dialect="toolllama",
            constrain=self._constrain,
            context_tokens=self._context_tokens,
            follows_instructions=self._follows_instructions,
        )

    async def describe(self) -> ModelInfo:
        """See `ChatModel.describe`."""
        return self.info

    async def check_ready(self) -> None:
        """See `Engine.check_ready`."""
        if not self._scheduler.is_alive:
            raise FailedPrecondition("the model's thread has ended; restart the service")

    def close(self) -> None:
        """Stop the model's thread; unfinished replies fail."""
        self._scheduler.close()

    async def complete(self, request: ChatRequest) -> Completion:
        """See `ChatModel.complete`."""
        async with aclosing(self._deltas(request, wants_text=False)) as deltas:
            async for delta in deltas:
                if delta.completion is not None:
                    return delta.completion
        raise AssertionError("a reply ended without its completion")

    async def stream(self, request: ChatRequest) -> AsyncIterator[CompletionDelta]:
        """See `ChatModel.stream`."""
        async with aclosing(self._deltas(request, wants_text=True)) as deltas:
            async for delta in deltas:
                yield delta

    async def _deltas(
        self, request: ChatRequest, *, wants_text: bool
    ) -> AsyncGenerator[CompletionDelta, None]:
        deadline = time.monotonic() + remaining_s(at_most_s=self._timeout_s)
        prompt_ids = await asyncio.to_thread(self._prompt_ids, request)
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[CompletionDelta | ServiceError] = asyncio.Queue()

        def emit(piece: CompletionDelta | ServiceError) -> None:
            # A loop that has closed has nobody waiting, and must not end the model's thread.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(pieces.put_nowait, piece)

        generation = Generation(
            prompt_ids=prompt_ids,
            max_new_tokens=min(request.max_tokens, self._context_tokens - len(prompt_ids)),
            vocabulary=self._vocabulary,
            stop_ids=self._stop_ids,
            parser=ReactTextParser(call_id=next_call_id(request.messages), end_text=None),
            emit=emit,
            deadline=deadline,
            cursor=self._cursor(request),
            stop=request.stop,
            temperature=request.temperature,
            seed=request.seed,
            wants_text=wants_text,
        )
        with _cancelled_on_exit(generation):
            self._scheduler.submit(generation)
            while True:
                piece = await _next_before(pieces, deadline)
                yield piece
                if piece.completion is not None:
                    return

    def _cursor(self, request: ChatRequest) -> Cursor | None:
        if self._constrain == "none" or not request.tools or request.tool_choice == "none":
            return None
        return Cursor(ReplyGrammar(request, self._constrain), self._vocabulary)

    def _prompt_ids(self, request: ChatRequest) -> list[int]:
        text = self._tokenizer.apply_chat_template(
            [message_json(message) for message in request.messages],  # type: ignore[arg-type]
            tools=[tool_json(tool) for tool in request.tools] or None,
            tokenize=False,
            add_generation_prompt=True,
        )
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        if not 0 < len(ids) < self._context_tokens:
            raise InvalidArgument(
                f"the prompt has {len(ids)} tokens, the model's context holds "
                f"{self._context_tokens} with the reply; offer fewer APIs or shorten the messages"
            )
        return ids


@contextmanager
def _cancelled_on_exit(generation: Generation) -> Iterator[None]:
    """A caller that leaves, for whatever reason, frees its slot at the next step."""
    try:
        yield
    finally:
        generation.is_cancelled = True


async def _next_before(
    pieces: asyncio.Queue[CompletionDelta | ServiceError], deadline: float
) -> CompletionDelta:
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            piece = await pieces.get()
    except TimeoutError as exc:
        raise DeadlineExceeded("the model did not finish its reply in time") from exc
    if isinstance(piece, ServiceError):
        raise piece
    return piece


def _load(folder: Path) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    if not (folder / "config.json").is_file():
        raise FailedPrecondition(
            f"{str(folder)!r} holds no model (no config.json); set LLM_MODEL_PATH to a model "
            "folder or LLM_BASE_URL to a server"
        )
    try:
        disable_progress_bar()  # type: ignore[no-untyped-call]  # partial types; a bar for 0.2 s
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, dtype=torch.float32
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as exc:
        raise FailedPrecondition(f"the model in {str(folder)!r} cannot be loaded: {exc}") from exc
    if not tokenizer.chat_template:
        raise FailedPrecondition(f"the tokenizer in {str(folder)!r} has no chat template")
    model.eval()  # type: ignore[no-untyped-call]
    return tokenizer, model


def vocabulary_of(tokenizer: PreTrainedTokenizerBase) -> TokenVocabulary:
    """The tokenizer's tokens by the text each adds in the two contexts that matter."""
    return TokenVocabulary(
        pieces=_pieces(tokenizer, anchor='"'),
        pieces_after_alphanumeric=_pieces(tokenizer, anchor="a"),
        end_ids=[tokenizer.eos_token_id],
    )


def _pieces(tokenizer: PreTrainedTokenizerBase, *, anchor: str) -> list[bytes | None]:
    """Bytes that each token adds after `anchor`; `None` for special tokens."""
    anchor_ids: list[int] = tokenizer(anchor, add_special_tokens=False)["input_ids"]
    before = str(tokenizer.decode(anchor_ids, clean_up_tokenization_spaces=False))
    special = set(tokenizer.all_special_ids)
    names = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    pieces: list[bytes | None] = []
    for token_id, name in enumerate(names):
        byte = _BYTE_TOKEN.fullmatch(name)
        if token_id in special:
            pieces.append(None)
        elif byte:
            pieces.append(bytes.fromhex(byte.group(1)))
        else:
            text = tokenizer.decode([*anchor_ids, token_id], clean_up_tokenization_spaces=False)
            pieces.append(str(text).removeprefix(before).encode())
    return pieces
