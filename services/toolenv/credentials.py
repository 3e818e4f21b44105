"""Secrets of upstream APIs: encrypted at rest, known elsewhere by name only.

A credential has a name (`rapidapi`, or what a tool's document calls it) and may be narrowed to one
user, to one tool, or to both; the narrowest that fits a call is used. The file holds Fernet tokens
(AES-128-CBC with HMAC-SHA-256); its key comes from the environment, else from a file that only the
owner can read. Whoever can read both can read the secrets: where that counts, keep the key
elsewhere.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from cryptography.fernet import Fernet, InvalidToken
from pydantic import Field, SecretStr, TypeAdapter, ValidationError

from services.contracts.apis import ApiRef
from services.contracts.base import WireModel
from services.contracts.errors import FailedPrecondition, InvalidArgument, NotFound
from services.kit.files import file_lock, write_atomically

MAX_SECRET_CHARS = 8192
_FILE, _KEY_FILE, _LOCK = "credentials.json", "credentials.key", ".credentials.lock"
_PRIVATE = 0o600


class CredentialInfo(WireModel):
    """A credential without its secret."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    """As a tool's document names it."""
    user: str | None = Field(default=None, min_length=1, max_length=128)
    """Only for calls of this user; `None` for everybody."""
    tool: str | None = Field(default=None, pattern=r"^[^/\x00-\x1f]{1,512}/[^/\x00-\x1f]{1,512}$")
    """Only for this `category/tool`; `None` for all that name it."""


class _Entry(CredentialInfo):
    token: str
    changed_at: float


class _Loaded(NamedTuple):
    stamp: tuple[int, int, int]
    entries: tuple[_Entry, ...]


_ENTRIES = TypeAdapter(tuple[_Entry, ...])
_NOTHING = _Loaded((0, 0, 0), ())


class CredentialStore:
    """The credentials of one home folder; changes made by other processes are seen at once."""

    def __init__(self, folder: Path, *, key: SecretStr | None = None) -> None:
        """Bind the folder; nothing is read yet.

        Args:
            folder: Holds the encrypted file and, unless `key` is given, the key.
            key: Fernet key: 32 bytes in URL-safe base64.
        """
        self._folder = folder
        self._key = key
        self._loaded = _NOTHING
        self._secrets: dict[str, SecretStr] = {}

    def lookup(
        self, name: str, *, user: str | None = None, api: ApiRef | None = None
    ) -> SecretStr | None:
        """The secret for a call, `None` when there is none.

        Narrowest first: this user's for this tool, this user's, everybody's for this tool,
        everybody's. Without an API only those for all tools are considered.

        Raises:
            FailedPrecondition: The file or its key cannot be read.
        """
        tool = f"{api.category}/{api.tool}" if api is not None else None
        known = {(entry.user, entry.tool): entry for entry in self._read() if entry.name == name}
        scopes: list[tuple[str | None, str | None]] = [(None, tool), (None, None)]
        if user is not None:
            scopes = [(user, tool), (user, None), *scopes]
        for scope in scopes:
            if scope in known:
                return self._decrypt(known[scope])
        return None

    def has_own(self, user: str | None, *, api: ApiRef) -> bool:
        """Whether a user's calls of an API may be sent with a secret of their own.

        Raises:
            FailedPrecondition: The file cannot be read.
        """
        tool = f"{api.category}/{api.tool}"
        return user is not None and any(
            entry.user == user and entry.tool in (None, tool) for entry in self._read()
        )

    def names(self) -> list[CredentialInfo]:
        """What is stored, without secrets, in order."""
        infos = [CredentialInfo(name=e.name, user=e.user, tool=e.tool) for e in self._read()]
        return sorted(infos, key=lambda info: (info.name, info.user or "", info.tool or ""))

    def set(self, info: CredentialInfo, secret: SecretStr) -> None:
        """Store a secret, replacing one of the same name and scope.

        Raises:
            InvalidArgument: The secret is empty, too long, or would break out of a header.
            FailedPrecondition: The file or its key cannot be read.
            Unavailable: The file cannot be written.
        """
        value = secret.get_secret_value()
        if not value or len(value) > MAX_SECRET_CHARS:
            raise InvalidArgument(
                f"the secret for {info.name!r} has {len(value)} characters; "
                f"between 1 and {MAX_SECRET_CHARS} are possible"
            )
        if not value.isprintable():
            raise InvalidArgument(
                f"the secret for {info.name!r} holds a line break or control character; "
                "pass it without"
            )
        with self._changing() as entries:
            token = self._cipher(create=True).encrypt(value.encode()).decode()
            _drop(entries, info)
            entries.append(_Entry(**info.model_dump(), token=token, changed_at=time.time()))

    def remove(self, info: CredentialInfo) -> None:
        """Forget one credential.

        Raises:
            NotFound: There is none of this name and scope.
        """
        with self._changing() as entries:
            if not _drop(entries, info):
                raise NotFound(
                    f"no credential {info.name!r} for user {info.user!r}, tool "
                    f"{info.tool!r}; `toolwright credentials list` shows what there is"
                )

    @contextmanager
    def _changing(self) -> Iterator[list[_Entry]]:
        """The entries under the lock between processes; written back when the block succeeds."""
        with file_lock(self._folder / _LOCK):
            entries = [*self._read()]
            yield entries
            content = _ENTRIES.dump_json(tuple(entries), indent=1)
            write_atomically(self._folder / _FILE, content, mode=_PRIVATE)

    def _read(self) -> tuple[_Entry, ...]:
        path = self._folder / _FILE
        try:
            state = path.stat()
            stamp = (state.st_mtime_ns, state.st_size, state.st_ino)
            if stamp != self._loaded.stamp:
                self._loaded = _Loaded(stamp, _ENTRIES.validate_json(path.read_bytes()))
                self._secrets.clear()
        except FileNotFoundError:
            return ()
        except (OSError, ValidationError) as exc:
            why = getattr(exc, "strerror", None) or "it is damaged"
            raise FailedPrecondition(
                f"credentials file {str(path)!r} cannot be read: {why}; restore or remove it"
            ) from None
        return self._loaded.entries

    def _decrypt(self, entry: _Entry) -> SecretStr:
        known = self._secrets.get(entry.token)  # another thread may empty the table meanwhile
        if known is None:
            try:
                value = self._cipher(create=False).decrypt(entry.token).decode()
            except (InvalidToken, ValueError):  # or the token is no ASCII
                raise FailedPrecondition(
                    f"credential {entry.name!r} was encrypted with another key; set it again, or "
                    "give TOOLENV_CREDENTIALS_KEY the key it was stored with"
                ) from None
            known = self._secrets[entry.token] = SecretStr(value)
        return known

    def _cipher(self, *, create: bool) -> Fernet:
        if self._key is not None:
            return _fernet(self._key.get_secret_value(), "TOOLENV_CREDENTIALS_KEY")
        path = self._folder / _KEY_FILE
        if create and not path.exists():
            write_atomically(path, Fernet.generate_key(), mode=_PRIVATE)
        try:
            if path.stat().st_mode & 0o077:
                os.chmod(path, _PRIVATE)
            return _fernet(path.read_text(encoding="ascii", errors="replace"), str(path))
        except OSError as exc:
            raise FailedPrecondition(
                f"the key {str(path)!r} cannot be read: {exc.strerror}; restore it, or set "
                "TOOLENV_CREDENTIALS_KEY"
            ) from exc


def _fernet(key: str, origin: str) -> Fernet:
    try:
        return Fernet(key.strip())
    except ValueError:
        raise FailedPrecondition(
            f"{origin} is no Fernet key (32 bytes in URL-safe base64); restore it, or make one "
            "with `python -c 'from cryptography.fernet import Fernet; "
            "print(Fernet.generate_key().decode())'` and set every stored secret again: what the "
            "old key encrypted cannot be read with a new one"
        ) from None


def _drop(entries: list[_Entry], info: CredentialInfo) -> bool:
    """Remove the entry of the same name and scope; whether there was one."""
    before = len(entries)
    entries[:] = [
        e for e in entries if (e.name, e.user, e.tool) != (info.name, info.user, info.tool)
    ]
    return len(entries) != before
