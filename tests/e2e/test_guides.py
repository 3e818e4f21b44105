"""The guides do what they say: examples are run, all other commands exist.

A block after `<!-- runnable -->` is executed as a reader would type it, in a home of its own that
the blocks share, so that index and sandbox root are built once. Each line of the `text` block that
follows it must occur in the output.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from typer.main import get_command

from cli.__main__ import app

REPOSITORY = Path(__file__).resolve().parents[2]
GUIDES = sorted(path for path in (REPOSITORY / "docs" / "guides").glob("*.md"))
LIMIT_S = 120

_RUNNABLE = re.compile(
    r"^<!-- runnable -->\n```shell\n(?P<script>.*?)^```$(?:\n\n```text\n(?P<output>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)
_SHELL = re.compile(r"^```shell\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEREDOC = re.compile(r"<<'(\w+)'\n.*?^\1$", re.MULTILINE | re.DOTALL)
_OWN_VARIABLES = (
    "TOOLWRIGHT_",
    "EMBEDDED_",
    "GATEWAY_",
    "PLANNER_",
    "TOOLENV_",
    "RETRIEVER_",
    "LLM_",
    "EVALUATOR_",
    "QDRANT_URL",
    "REDIS_URL",
)


class Example(NamedTuple):
    guide: str
    script: str
    expected: tuple[str, ...]


class Invocation(NamedTuple):
    guide: str
    words: tuple[str, ...]


def examples() -> Iterator[Example]:
    for path in GUIDES:
        for block in _RUNNABLE.finditer(path.read_text(encoding="utf-8")):
            lines = (block["output"] or "").splitlines()
            expected = tuple(line.strip() for line in lines if line.strip())
            yield Example(path.stem, block["script"], expected)


def invocations() -> Iterator[Invocation]:
    """Every `toolwright …` command of the guides' shell blocks, without what precedes it."""
    for path in GUIDES:
        for script in _SHELL.findall(path.read_text(encoding="utf-8")):
            for line in _HEREDOC.sub("", script).replace("\\\n", " ").splitlines():
                ours, _, _ = line.partition(" -- ")  # then another program's own words
                words = shlex.split(ours, comments=True)
                if "toolwright" in words:
                    yield Invocation(path.stem, tuple(words[words.index("toolwright") + 1 :]))


EXAMPLES = list(examples())
INVOCATIONS = list(invocations())


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The machine's environment without our settings; no gateway answers at port 9."""
    home = tmp_path_factory.mktemp("guides")
    (home / "tmp").mkdir()
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(_OWN_VARIABLES)}
    return inherited | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "TMPDIR": str(home / "tmp"),
        "TOOLWRIGHT_HOME": str(home / "toolwright"),
        "TOOLWRIGHT_URL": "http://127.0.0.1:9",
        "COLUMNS": "200",
        "OMP_NUM_THREADS": "1",
    }


@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S + 30)
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.guide)
def test_a_runnable_block_succeeds_and_prints_what_the_guide_shows(
    example: Example, environment: Mapping[str, str]
) -> None:
    # `timeout` ends the whole process group, also what the block started in the background.
    command = ["timeout", "--kill-after=5", str(LIMIT_S), "bash", "-euo", "pipefail", "-c"]
    done = subprocess.run(
        [*command, example.script],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_S + 20,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    output = done.stdout + done.stderr
    missing = [line for line in example.expected if line not in output]
    assert not missing, f"not in the output: {missing}\n{output}"


@pytest.mark.parametrize(
    "invocation", INVOCATIONS, ids=lambda found: f"{found.guide}: {' '.join(found.words[:2])}"
)
def test_a_command_of_a_guide_exists_with_its_options(invocation: Invocation) -> None:
    command = get_command(app)
    words = list(invocation.words)
    while subcommands := getattr(command, "commands", None):
        name = words.pop(0)
        assert name in subcommands, f"there is no command {name!r} in {invocation.words}"
        command = subcommands[name]
    offered = {name for option in command.params for name in option.opts}
    used = {word.split("=", 1)[0] for word in words if word.startswith("--")}
    assert used <= offered, f"{used - offered} are no options of {command.name!r}"


def test_every_guide_has_an_example() -> None:
    lacking = [
        path.stem
        for path in GUIDES
        if path.stem != "README" and not _SHELL.search(path.read_text(encoding="utf-8"))
    ]
    assert not lacking


def test_some_examples_are_run() -> None:
    assert len(EXAMPLES) >= 3
    assert any(example.expected for example in EXAMPLES)
