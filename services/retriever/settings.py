"""Settings of the retriever, from `RETRIEVER_*`."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.kit.settings import ServedSettings
from services.retriever.corpus import TextTemplate
from services.retriever.embedder import BUNDLED_ENCODER


class RetrieverSettings(ServedSettings):
    """See the module; the home folder and the Qdrant server are shared settings."""

    model_config = SettingsConfigDict(env_prefix="RETRIEVER_")

    port: int = Field(default=8001, ge=0, le=65535)
    """TCP port; 0 takes a free one."""
    encoder: str = BUNDLED_ENCODER
    """`bundled` (MiniLM from its package), or a folder in sentence-transformers' layout."""
    text_template: TextTemplate = TextTemplate.TOOLBENCH
    """Text of a document that the encoder reads; `toolbench` is what ToolBench's encoder needs."""
    fusion_k: float = Field(default=5.0, ge=0)
    """Added to every rank; chosen on half of 422 published queries, see the quality test."""
    sparse_weight: float = Field(default=0.6, ge=0, le=1)
    """Share of the lexical ranking in the fusion, chosen in the same way."""
    candidates: int = Field(default=100, ge=1, le=1000)
    """Hits asked of each channel before the fusion."""
    batch_size: int = Field(default=8, ge=1, le=256)
    """Documents encoded at once while an index is built; a query waits for at most one batch."""
    max_waiting: int = Field(default=64, ge=1)
    """Queries that may wait for the encoder; more are refused with `resource_exhausted`."""
    query_cache_size: int = Field(default=1024, ge=0)
    """Vectors of recent queries kept in memory; one takes 1.5 KB."""
    qdrant_alias: str = Field(default="toolwright-apis", pattern=r"^[A-Za-z0-9_-]{1,64}$")
    """Alias of the collection in force on a Qdrant server."""
    qdrant_timeout_s: int = Field(default=30, ge=1)
    """Longest wait for one answer of a Qdrant server, seconds."""
