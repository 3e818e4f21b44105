"""`toolwright tools add|import|remove|export` on the user's own tools root."""

import json
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest
from typer.testing import CliRunner

from cli.tools import app
from services.contracts.apis import SideEffect
from services.contracts.errors import FailedPrecondition, InvalidArgument, NotFound, ServiceError
from services.toolenv.catalog import load_catalogue
from services.toolenv.effects import EffectBook
from services.toolenv.endpoints import HttpEndpoint
from services.toolenv.importers.imported import ToolRefused
from services.toolenv.mcp_servers import Definitions, McpServerDefinition, StdioTransport
from services.toolenv.pins import Pins

FIXTURES = Path(__file__).parents[2] / "data" / "openapi"
MODULE = "def shout(text: str) -> str:\n    '''Say it louder.'''\n    return text.upper()\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder; no gateway runs."""
    monkeypatch.setenv("TOOLWRIGHT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TOOLWRIGHT_URL", "http://127.0.0.1:9")
    (tmp_path / "voice.py").write_text(MODULE)
    return tmp_path / "home"


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: str) -> ServiceError:
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, ServiceError), result.output
    return result.exception


def addresses(home: Path) -> list[str]:
    return [str(document.ref) for document in load_catalogue([home / "tools"]).documents()]


def test_what_a_tool_does_to_the_world_is_corrected_and_the_correction_taken_back(
    home: Path,
) -> None:
    book = EffectBook(home / "tools")
    run("add", str(home.parent / "voice.py"), "--category", "Speech")
    assert "Speech/voice/shout: write" in run("effect", "Speech/voice/shout", "write")
    assert book.read() == {"Speech/voice/shout": SideEffect.WRITE}
    assert "as its document says" in run("effect", "Speech/voice/shout", "declared")
    assert book.read() == {}
    assert isinstance(refused("effect", "shout", "write"), InvalidArgument)


def test_what_an_unknown_tool_does_is_not_corrected_but_a_correction_of_it_is_taken_back(
    home: Path,
) -> None:
    book = EffectBook(home / "tools")
    error = refused("effect", "Geography/city_atlas/distance_between_city", "write")
    assert isinstance(error, NotFound)
    assert "Geography/city_atlas/distance_between_cities" in error.detail
    book.correct("Speech/gone", SideEffect.WRITE)
    run("effect", "Speech/gone", "declared")
    assert book.read() == {}


def test_a_module_is_added_and_removed(home: Path) -> None:
    module = str(home.parent / "voice.py")
    assert "added Speech/voice with 1 APIs" in run("add", module, "--category", "Speech")
    assert addresses(home) == ["Speech/voice/shout"]
    assert isinstance(refused("add", module, "--category", "Speech"), FailedPrecondition)
    assert "added" in run("add", module, "--category", "Speech", "--replace")
    assert "removed Speech/voice" in run("remove", "Speech/voice")
    assert addresses(home) == []
    assert isinstance(refused("remove", "Speech/voice"), NotFound)


def pin_all(home: Path) -> Pins:
    """Pin the tools as a gateway does when it loads them."""
    pins = Pins(home / "toolenv")
    pins.admit(load_catalogue([home / "tools"]))
    return pins


def held_back(home: Path) -> list[str]:
    admitted = Pins(home / "toolenv").admit(load_catalogue([home / "tools"]))
    return ["/".join(key) for key in admitted.quarantined]


def test_adding_a_changed_file_of_ones_own_approves_it(home: Path) -> None:
    module = home.parent / "voice.py"
    assert "pinned" not in run("add", str(module))
    pins = pin_all(home)
    assert "pinned" not in run("add", str(module), "--replace")
    module.write_text(MODULE.replace("louder", "softer"))
    printed = run("add", str(module), "--replace")
    pin = pins.read()["Customized/voice"]
    assert f"approved Customized/voice as {pin.sha256[:16]}" in printed
    assert pin.is_approved
    assert held_back(home) == []


def test_importing_a_changed_document_tells_how_to_approve_it(home: Path, tmp_path: Path) -> None:
    document = tmp_path / "shop.yaml"
    content = (FIXTURES / "shop_30.yaml").read_text()
    document.write_text(content)
    run("import", "openapi", str(document), "--category", "Shops")
    pin_all(home)
    again = ("import", "openapi", str(document), "--category", "Shops", "--replace")
    server = ("--server-url", "https://elsewhere.example/v1")
    assert "`toolwright tools approve Shops/pet_shop` offers it" in run(*again, *server)
    assert held_back(home) == ["Shops/pet_shop"]


def test_a_removed_tool_that_is_imported_again_is_seen_for_the_first_time(home: Path) -> None:
    source = ("import", "openapi", str(FIXTURES / "shop_30.yaml"), "--category", "Shops")
    run(*source)
    pins = pin_all(home)
    run("remove", "Shops/pet_shop")
    assert pins.read() == {}
    assert "pinned" not in run(*source, "--server-url", "https://elsewhere.example/v1")
    assert held_back(home) == []


def plant_mcp_document(home: Path) -> None:
    folder = home / "tools" / "MCP"
    folder.mkdir(parents=True)
    (folder / "bench.json").write_text('{"x-toolwright": {"source": "mcp"}, "api_list": []}')


def test_an_mcp_server_is_removed_with_its_definition(home: Path) -> None:
    plant_mcp_document(home)
    reach = StdioTransport(command="true")
    definitions = Definitions(home / "tools")
    definitions.put(McpServerDefinition(name="bench", reach=reach))
    definitions.put(McpServerDefinition(name="other", reach=reach))
    assert "removed MCP/bench" in run("remove", "MCP/bench")
    assert list(definitions.read()) == ["other"]
    assert not (home / "tools" / "MCP" / "bench.json").exists()


def test_an_mcp_tool_whose_definition_is_gone_can_still_be_removed(home: Path) -> None:
    plant_mcp_document(home)
    assert "removed MCP/bench" in run("remove", "MCP/bench")
    assert isinstance(refused("remove", "MCP/bench"), NotFound)


def test_an_openapi_document_is_imported_with_what_it_needs(home: Path) -> None:
    printed = run("import", "openapi", str(FIXTURES / "shop_30.yaml"), "--category", "Shops")
    assert "added Shops/pet_shop with 8 APIs" in printed
    assert "credentials set pet_shop.key --tool Shops/pet_shop" in printed
    assert "Shops/pet_shop/list_animals" in addresses(home)


def test_a_dry_run_writes_nothing(home: Path) -> None:
    module = str(home.parent / "voice.py")
    assert json.loads(run("add", module, "--dry-run"))["standardized_name"] == "voice"
    assert not home.exists()


def test_a_refused_import_writes_nothing(home: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text('{"openapi": "3.0.0"}')
    assert isinstance(refused("import", "openapi", str(tmp_path / "bad.json")), ToolRefused)
    assert isinstance(refused("import", "openapi", str(tmp_path / "missing")), InvalidArgument)
    assert isinstance(refused("add", str(tmp_path)), InvalidArgument)
    assert not home.exists()


def test_an_address_within_this_network_is_not_fetched(home: Path) -> None:
    error = refused("import", "openapi", "http://127.0.0.1:9/openapi.json")
    assert "is not fetched" in error.detail


def test_an_export_is_imported_again(home: Path, tmp_path: Path) -> None:
    run("add", str(home.parent / "voice.py"))
    ref = "Customized/voice/shout"
    (tool,) = json.loads(run("export", "--format", "openai", "--api", ref))
    assert tool["function"]["name"] == "shout_for_voice"
    run("export", "--format", "toolbench", "--api", ref, "--output", str(tmp_path / "out"))
    run("remove", "Customized/voice")
    run("import", "toolbench", str(tmp_path / "out"))
    assert addresses(home) == [ref]
    (entry,) = load_catalogue([home / "tools"]).entries()
    assert entry.code is not None and "upper()" in entry.code.source
    assert isinstance(refused("export", "--api", "A/b/c"), NotFound)
    assert isinstance(refused("export", "--api", "nonsense"), InvalidArgument)


class _Gateway(BaseHTTPRequestHandler):
    """Answers as a gateway does; notes what was asked."""

    asked: ClassVar[list[str]] = []
    reload_status: ClassVar[int] = 200

    def do_GET(self) -> None:
        self._answer(200, {"methods": []})

    def do_POST(self) -> None:
        change = {"added": [{"category": "C", "tool": "t", "api": "a"}]}
        self._answer(self.reload_status, change)

    def _answer(self, status: int, body: object) -> None:
        self.asked.append(f"{self.command} {self.path}")
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize(
    ("status", "printed"), [(200, "1 added, 0 removed, 0 changed"), (503, "did not reload")]
)
def test_a_running_gateway_is_told_to_reload(
    home: Path, monkeypatch: pytest.MonkeyPatch, status: int, printed: str
) -> None:
    monkeypatch.setattr(_Gateway, "reload_status", status)
    monkeypatch.setattr(_Gateway, "asked", [])
    with ThreadingHTTPServer(("127.0.0.1", 0), _Gateway) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("TOOLWRIGHT_URL", f"http://127.0.0.1:{server.server_port}")
        assert printed in run("add", str(home.parent / "voice.py"))
        server.shutdown()
    assert "POST /v1/tools/reload" in _Gateway.asked


def test_a_document_is_fetched_from_a_url_within_this_network_when_allowed(
    home: Path, tmp_path: Path
) -> None:
    handler = partial(SimpleHTTPRequestHandler, directory=str(FIXTURES))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/shop_31.json"
        assert "--allow-private" in refused("import", "openapi", url).detail
        run("import", "openapi", url, "--allow-private")
        server.shutdown()
    (entry,) = load_catalogue([home / "tools"]).entries()
    assert isinstance(entry.endpoint, HttpEndpoint)
    assert entry.endpoint.url.startswith(url.removesuffix("shop_31.json") + "api/")
