"""The checks of `toolwright doctor` about tools: what they find, and that they show no secret."""

from contextlib import closing
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr
from typer.testing import CliRunner

from cli import doctor_tools, tools
from services.contracts.errors import FailedPrecondition, ServiceError
from services.toolenv.cassettes.snapshot import default_folder, freeze
from services.toolenv.cassettes.store import Store, default_path
from services.toolenv.credentials import CredentialInfo, CredentialStore
from services.toolenv.mcp_servers import jail
from tests.fakes.recordings import make_recording

SECRET = "canary-secret-0123456789"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOOLWRIGHT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TOOLWRIGHT_URL", "http://127.0.0.1:9")
    return tmp_path / "home"


def test_checks_of_an_empty_home_are_good_and_write_nothing(home: Path) -> None:
    checks = (
        doctor_tools.recordings,
        doctor_tools.snapshots,
        doctor_tools.credentials,
        doctor_tools.user_tools,
        doctor_tools.live_calls,
    )
    assert [check().is_ok for check in checks] == [True] * 5
    assert not home.exists()


def test_recordings_are_counted_with_what_they_survive(home: Path) -> None:
    with closing(Store(default_path(home))) as store:
        store.put_now(make_recording())
    found = doctor_tools.recordings()
    assert found.is_ok
    assert found.detail.startswith("1 answers")
    assert "loss of power" in found.detail


def test_a_damaged_file_of_recordings_is_an_error_with_its_path(home: Path) -> None:
    path = default_path(home)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"this is no database" * 1000)
    with pytest.raises(ServiceError, match=path.name):
        doctor_tools.recordings()


def test_mounted_snapshots_are_checked(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Store(default_path(home))) as store:
        store.put_now(make_recording())
        frozen = freeze(store, default_folder(home))
    monkeypatch.setenv("TOOLENV_SNAPSHOTS", frozen.seal.sha256)
    assert "1 answers" in doctor_tools.snapshots().detail
    monkeypatch.setenv("TOOLENV_SNAPSHOTS", "f" * 64)
    with pytest.raises(ServiceError):
        doctor_tools.snapshots()


def stored(home: Path, key: SecretStr | None = None) -> None:
    info = CredentialInfo(name="rapidapi", user="eve", tool="Sea/tides")
    CredentialStore(home / "toolenv", key=key).set(info, SecretStr(SECRET))


def test_credentials_are_named_and_never_shown(home: Path) -> None:
    stored(home)
    found = doctor_tools.credentials()
    assert found.is_ok
    assert "rapidapi for Sea/tides for eve" in found.detail
    assert SECRET not in found.detail


def test_a_key_that_does_not_fit_is_found(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(home)
    monkeypatch.setenv("TOOLENV_CREDENTIALS_KEY", Fernet.generate_key().decode())
    with pytest.raises(FailedPrecondition, match="another key"):
        doctor_tools.credentials()


def test_a_key_may_lie_in_a_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = Fernet.generate_key().decode()
    stored(home, SecretStr(key))
    (home / "key").write_text(f"{key}\n")
    monkeypatch.setenv("TOOLENV_CREDENTIALS_KEY_FILE", str(home / "key"))
    assert "key of your own" in doctor_tools.credentials().detail
    monkeypatch.setenv("TOOLENV_CREDENTIALS_KEY_FILE", str(home / "missing"))
    with pytest.raises(FailedPrecondition, match="TOOLENV_CREDENTIALS_KEY_FILE"):
        doctor_tools.credentials()


def test_tools_that_cannot_be_read_fail_with_their_file(home: Path) -> None:
    module = home.parent / "voice.py"
    module.write_text("def shout(text: str) -> str:\n    '''Louder.'''\n    return text.upper()\n")
    assert CliRunner().invoke(tools.app, ["add", str(module)]).exit_code == 0
    assert "1 tools with 1 APIs" in doctor_tools.user_tools().detail
    (home / "tools" / "Customized" / "broken.json").write_text("{")
    found = doctor_tools.user_tools()
    assert not found.is_ok
    assert "broken.json" in found.detail


def test_a_missing_jail_fails_only_where_a_local_server_is_installed(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise jail.JailUnavailable("no bubblewrap; install it")

    monkeypatch.setattr(jail, "check_jail", refuse)
    assert doctor_tools.mcp_jail().is_ok
    definition = '{"bench": {"name": "bench", "reach": {"transport": "stdio", "command": "true"}}}'
    (home / "tools").mkdir(parents=True)
    (home / "tools" / "mcp-servers.json").write_text(definition)
    found = doctor_tools.mcp_jail()
    assert not found.is_ok
    assert "install it" in found.detail


def test_a_file_without_certificates_is_found(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLENV_CA_FILE", __file__)
    found = doctor_tools.live_calls()
    assert not found.is_ok
    assert "PEM" in found.detail
