"""What an OpenAI-compatible server's list of models says beyond OpenAI's protocol."""

import json
from typing import Final

from pydantic import JsonValue

_CONTEXT_FIELDS: Final = (
    "max_model_len",  # vLLM, SGLang
    "context_length",  # OpenRouter, Together
    "context_window",  # Groq
    "max_context_length",  # Mistral, LM Studio
    "n_ctx",  # llama.cpp
)
"""Field names for prompt and reply together, tokens. llama.cpp's `n_ctx_train` is not among them:
it is what the model was trained on, not what the server holds."""


def context_of(body: bytes, *, model: str) -> int | None:
    """The served model's context, tokens; `None` when the list does not say.

    Args:
        body: The answer to `GET /models`.
        model: Name as in requests; a list with a single model is taken to mean that one, since
            many servers answer to any name.
    """
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return None
    listed = data.get("data") if isinstance(data, dict) else None
    entries = (
        [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    )
    named = [entry for entry in entries if entry.get("id") == model]
    chosen = named or (entries if len(entries) == 1 else [])
    return next((found for entry in chosen if (found := _context(entry)) is not None), None)


def _context(entry: dict[str, JsonValue]) -> int | None:
    meta = entry.get("meta")
    for fields in (entry, meta if isinstance(meta, dict) else {}):
        for name in _CONTEXT_FIELDS:
            value = fields.get(name)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
    return None
