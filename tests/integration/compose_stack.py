"""Reads docker-compose.yml and its Dockerfile, and compares them with the settings classes."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from gateway.settings import GatewaySettings
from services.evaluator.settings import EvaluatorSettings
from services.kit.settings import ServiceSettings, SharedSettings
from services.llm.settings import LlmSettings
from services.planner.settings import PlannerSettings
from services.retriever.settings import RetrieverSettings
from services.toolenv.settings import ToolEnvSettings

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "infra" / "docker" / "Dockerfile"

SETTINGS: Mapping[str, type[ServiceSettings] | None] = {
    "gateway": GatewaySettings,
    "planner": PlannerSettings,
    "toolenv": ToolEnvSettings,
    "retriever": RetrieverSettings,
    "llm": LlmSettings,
    "evaluator": EvaluatorSettings,
    "worker": EvaluatorSettings,
    "index": None,
}
"""Our containers; `index` takes command-line options only."""

NOT_SETTINGS = {
    "PATH": "finds the virtual environment of the image",
    "HOME": "a writable folder: the root file system is read-only",
    "PYTHONUNBUFFERED": "logs appear when they are written",
    "PYTHONDONTWRITEBYTECODE": "byte code was compiled when the image was built",
    "OMP_NUM_THREADS": "torch reads it before any setting; spinning threads ruin small machines",
    "HF_HUB_OFFLINE": "the hub's client must not look for newer files",
    "TOKENIZERS_PARALLELISM": "the tokenizer's threads must not fight torch's",
}
"""Variables that libraries read, with the reason for each."""

THIRD_PARTY = {
    "redis": frozenset[str](),
    "qdrant": frozenset({"QDRANT__TELEMETRY_DISABLED", "QDRANT_INIT_FILE_PATH"}),
    "vllm": frozenset({"HF_HUB_OFFLINE", "VLLM_NO_USAGE_STATS", "DO_NOT_TRACK", "HOME"}),
    "vllm-toolllama": frozenset({"HF_HUB_OFFLINE", "VLLM_NO_USAGE_STATS", "DO_NOT_TRACK", "HOME"}),
}
"""Variables of the containers whose code is not ours."""


@dataclass
class Stage:
    """One `FROM` of the Dockerfile; the final instruction of a kind wins, as in Docker."""

    base: str
    environment: dict[str, str] = field(default_factory=dict)
    user: str = ""
    command: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    """Paths copied from the build context."""
    extras: list[str] = field(default_factory=list)
    copied_stages: list[str] = field(default_factory=list)


def read_compose() -> dict[str, dict[str, Any]]:
    """Services by name."""
    return dict(read_document()["services"])


def read_document() -> dict[str, Any]:
    """The whole compose file, merge keys resolved."""
    document: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    return document


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    for line in filter(None, map(str.strip, joined.splitlines())):
        name, _, rest = line.partition(" ")
        yield name, rest.strip()


def read_stages(text: str | None = None) -> dict[str, Stage]:
    """Stages by name, each with what it inherits from the stage that it is built from."""
    stages: dict[str, Stage] = {}
    current = Stage(base="")
    for name, rest in _instructions(text if text is not None else DOCKERFILE.read_text("utf-8")):
        if name == "FROM":
            base, _, alias = rest.partition(" AS ")
            above = stages.get(base, Stage(base=base))
            current = Stage(
                base=base,
                environment=dict(above.environment),
                user=above.user,
                command=list(above.command),
            )
            stages[alias] = current
        else:
            _apply(current, name, rest)
    return stages


def _apply(stage: Stage, name: str, rest: str) -> None:
    match name:
        case "ENV":
            stage.environment.update(part.split("=", 1) for part in shlex.split(rest))
        case "USER":
            stage.user = rest
        case "CMD":
            stage.command = json.loads(rest)
        case "COPY" if rest.startswith("--from="):
            stage.copied_stages.append(rest.removeprefix("--from=").split()[0])
        case "COPY":
            stage.sources += rest.split()[:-1]
        case "RUN":
            stage.extras += re.findall(r"\.whl\)\[([\w,]+)\]", rest)
        case "ARG" | "WORKDIR" | "EXPOSE":
            pass
        case _:
            raise ValueError(f"the reader does not know the instruction {name!r}; teach it")


def interpolate(value: str, variables: Mapping[str, str]) -> str:
    """Compose's `${NAME:-default}` and `$$`."""
    replaced = re.sub(
        r"\$\{(\w+):-([^}]*)\}", lambda found: variables.get(found[1]) or found[2], value
    )
    return replaced.replace("$$", "$")


def stage_of(
    name: str, services: Mapping[str, Mapping[str, Any]], stages: dict[str, Stage]
) -> Stage:
    """The image of one of our containers, which may be another's."""
    image = services[name]["image"]
    builder = next(s for s in services.values() if s["image"] == image and "build" in s)
    return stages[builder["build"]["target"]]


def command_of(
    name: str, services: Mapping[str, Mapping[str, Any]], stages: dict[str, Stage]
) -> list[str]:
    """What the container runs: its own command, else its image's."""
    return list(services[name].get("command") or stage_of(name, services, stages).command)


def environment_of(
    name: str, services: Mapping[str, Mapping[str, Any]], stages: dict[str, Stage]
) -> dict[str, str | None]:
    """Variables of the image and of the container; `None` is passed on from the user's shell."""
    own: dict[str, str | None] = dict(services[name].get("environment") or {})
    return {**stage_of(name, services, stages).environment, **own}


def fields_of(settings: type[ServiceSettings] | None) -> frozenset[str]:
    """Environment variables that a service reads: its own fields and the shared ones."""
    names = {name.upper() for name in SharedSettings.model_fields}
    if settings is not None:
        prefix = settings.model_config.get("env_prefix") or ""
        names |= {f"{prefix}{name}".upper() for name in settings.model_fields}
    return frozenset(names)


def unknown_variables(
    services: Mapping[str, Mapping[str, Any]], stages: dict[str, Stage]
) -> list[str]:
    """`service: VARIABLE` for each variable that nothing in that container reads."""
    found = []
    for name, service in services.items():
        if name in SETTINGS:
            given = set(environment_of(name, services, stages))
            known = fields_of(SETTINGS[name]) | NOT_SETTINGS.keys()
        else:
            given, known = set(service.get("environment") or {}), THIRD_PARTY[name]
        found += [f"{name}: {variable}" for variable in sorted(given - known)]
    return found
