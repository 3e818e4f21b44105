"""An encoder without a model: a vector counts letters, so like texts have like vectors."""

import asyncio
from collections.abc import Sequence

import numpy as np

from services.retriever.embedder import Vectors

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


class FakeEmbedder:
    """See `Embedder`. `gate` holds back document batches while it is cleared."""

    def __init__(self, encoder_id: str = "letters@1") -> None:
        self.encoder_id = encoder_id
        self.n_documents_embedded = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def load(self) -> None:
        return

    async def embed_query(self, text: str) -> Vectors:
        return self._vectors([text])[0]

    async def embed_documents(self, texts: Sequence[str]) -> Vectors:
        await asyncio.wait_for(self.gate.wait(), timeout=30)
        self.n_documents_embedded += len(texts)
        return self._vectors(texts)

    async def close(self) -> None:
        return

    @staticmethod
    def _vectors(texts: Sequence[str]) -> Vectors:
        counts = [[1 + text.lower().count(letter) for letter in _LETTERS] for text in texts]
        rows = np.asarray(counts, dtype=np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)
