"""Compiled tool sources: opaque text from a worker, which the host never looks into."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from services.toolenv.sandbox.policy import Profile, profile_of

_MAX_PROFILES = 10_000
_MAX_TOTAL_CHARS = 64 << 20  # all entries together


class CodeCache:
    """Least recently used entries go first; bounded in entries and in characters.

    The key holds the source's SHA-256 and the sandbox's Python build, so code that a hostile worker
    forged can only ever reach a worker that runs that same hostile source.
    """

    __slots__ = ("_chars", "_entries", "_max_entries", "_profiles")

    def __init__(self, *, max_entries: int) -> None:
        self._entries: OrderedDict[str, str] = OrderedDict()
        self._max_entries = max_entries
        self._chars = 0
        self._profiles: OrderedDict[str, Profile] = OrderedDict()

    @staticmethod
    def key(source: str, python_build: str) -> str:
        """Identity of one source on one interpreter build."""
        content = f"{python_build}\0{source}".encode("utf-8", "surrogatepass")
        return hashlib.sha256(content).hexdigest()

    def get(self, key: str) -> str | None:
        """The code stored under `key`, which becomes the most recently used entry."""
        code = self._entries.get(key)
        if code is not None:
            self._entries.move_to_end(key)
        return code

    def profile(self, key: str, source: str) -> Profile:
        """What `profile_of` says about the source of `key`, remembered."""
        known = self._profiles.get(key)
        if known is None:
            known = self._profiles[key] = profile_of(source)
            if len(self._profiles) > _MAX_PROFILES:
                self._profiles.popitem(last=False)
        return known

    def put(self, key: str, code: str) -> None:
        """Store or replace one entry and drop the oldest ones beyond the bounds."""
        self._chars += len(code) - len(self._entries.pop(key, ""))
        self._entries[key] = code
        while self._entries and (
            len(self._entries) > self._max_entries or self._chars > _MAX_TOTAL_CHARS
        ):
            _, dropped = self._entries.popitem(last=False)
            self._chars -= len(dropped)

    def __len__(self) -> int:
        return len(self._entries)
