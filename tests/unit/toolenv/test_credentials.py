"""Secrets at rest, and which one a call gets."""

import json
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from services.contracts.apis import ApiRef
from services.contracts.errors import FailedPrecondition, InvalidArgument, NotFound
from services.toolenv.credentials import CredentialInfo, CredentialStore

WEATHER = ApiRef.parse("Weather/open_sky/forecast")
OTHER = ApiRef.parse("Weather/closed_sky/forecast")


@pytest.fixture
def store(tmp_path: Path) -> CredentialStore:
    return CredentialStore(tmp_path)


def looked_up(store: CredentialStore, user: str | None = None, api: ApiRef = WEATHER) -> str | None:
    secret = store.lookup("rapidapi", user=user, api=api)
    return None if secret is None else secret.get_secret_value()


def test_the_narrowest_credential_that_fits_the_call_is_used(store: CredentialStore) -> None:
    scopes = {
        "all": CredentialInfo(name="rapidapi"),
        "tool": CredentialInfo(name="rapidapi", tool="Weather/open_sky"),
        "user": CredentialInfo(name="rapidapi", user="ada"),
        "both": CredentialInfo(name="rapidapi", user="ada", tool="Weather/open_sky"),
    }
    for secret, info in scopes.items():
        store.set(info, SecretStr(secret))
    assert looked_up(store, "ada") == "both"
    assert looked_up(store, "ada", OTHER) == "user"
    assert looked_up(store) == "tool"
    assert looked_up(store, "bob", OTHER) == "all"


def test_a_users_credential_is_never_used_for_another(store: CredentialStore) -> None:
    store.set(CredentialInfo(name="rapidapi", user="ada"), SecretStr("s"))
    assert looked_up(store) is None
    assert looked_up(store, "bob") is None


def test_nothing_on_disk_or_in_a_listing_shows_the_secret(
    store: CredentialStore, tmp_path: Path
) -> None:
    store.set(CredentialInfo(name="rapidapi"), SecretStr("canary-4711"))
    files = [path for path in tmp_path.iterdir() if path.name != "credentials.key"]
    assert all(b"canary-4711" not in path.read_bytes() for path in files)
    assert "canary" not in repr(store.names()) + repr(
        store.lookup("rapidapi", user=None, api=OTHER)
    )
    private = [path.stat().st_mode & 0o077 for path in tmp_path.iterdir()]
    assert private == [0] * len(private)


def test_a_change_by_another_process_is_seen(store: CredentialStore, tmp_path: Path) -> None:
    assert looked_up(store) is None
    CredentialStore(tmp_path).set(CredentialInfo(name="rapidapi"), SecretStr("one"))
    assert looked_up(store) == "one"
    CredentialStore(tmp_path).set(CredentialInfo(name="rapidapi"), SecretStr("two"))
    assert looked_up(store) == "two"


def test_removing_what_is_not_there_is_not_found(store: CredentialStore) -> None:
    store.set(CredentialInfo(name="rapidapi"), SecretStr("s"))
    store.remove(CredentialInfo(name="rapidapi"))
    assert store.names() == []
    with pytest.raises(NotFound, match="no credential 'rapidapi'"):
        store.remove(CredentialInfo(name="rapidapi"))


@pytest.mark.parametrize("secret", ["", "a\r\nX-Evil: 1", "x" * 8193, "nul\0"])
def test_a_secret_that_could_break_a_request_is_refused_without_showing_it(
    store: CredentialStore, secret: str
) -> None:
    with pytest.raises(InvalidArgument, match="rapidapi") as caught:
        store.set(CredentialInfo(name="rapidapi"), SecretStr(secret))
    assert "Evil" not in str(caught.value)


def test_a_wrong_key_and_a_damaged_file_say_what_to_do(tmp_path: Path) -> None:
    key = SecretStr(Fernet.generate_key().decode())
    CredentialStore(tmp_path, key=key).set(CredentialInfo(name="rapidapi"), SecretStr("s"))
    other = CredentialStore(tmp_path, key=SecretStr(Fernet.generate_key().decode()))
    with pytest.raises(FailedPrecondition, match="another key"):
        looked_up(other)
    with pytest.raises(
        FailedPrecondition, match=r"no Fernet key.*\.decode\(\).*set every stored secret again"
    ):
        looked_up(CredentialStore(tmp_path, key=SecretStr("short")))
    (tmp_path / "credentials.json").write_text(json.dumps([{"name": 1}]), encoding="utf-8")
    with pytest.raises(FailedPrecondition, match="damaged"):
        looked_up(CredentialStore(tmp_path, key=key))


def test_a_key_from_the_environment_is_not_written_down(tmp_path: Path) -> None:
    key = SecretStr(Fernet.generate_key().decode())
    CredentialStore(tmp_path, key=key).set(CredentialInfo(name="rapidapi"), SecretStr("s"))
    assert not (tmp_path / "credentials.key").exists()


def test_a_user_with_a_secret_of_their_own_is_known_by_it(store: CredentialStore) -> None:
    store.set(CredentialInfo(name="rapidapi"), SecretStr("for all"))
    store.set(CredentialInfo(name="x", user="ada", tool="Weather/open_sky"), SecretStr("own"))
    assert store.has_own("ada", api=WEATHER)
    assert not store.has_own("ada", api=OTHER)
    assert not store.has_own("bob", api=WEATHER)
    assert not store.has_own(None, api=WEATHER)


def test_a_token_that_is_no_ascii_is_named(store: CredentialStore, tmp_path: Path) -> None:
    store.set(CredentialInfo(name="rapidapi"), SecretStr("secret"))
    path = tmp_path / "credentials.json"
    entries = json.loads(path.read_text())
    entries[0]["token"] = "gAAAA\u00e9"
    path.write_text(json.dumps(entries))
    with pytest.raises(FailedPrecondition, match="rapidapi"):
        looked_up(store)
