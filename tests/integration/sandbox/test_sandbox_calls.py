"""What an honest tool gets from the sandbox."""

import os

import pytest

from services.toolenv.sandbox import Sandbox, SandboxOutcome

pytestmark = pytest.mark.anyio


async def test_a_function_gets_its_arguments_and_its_json_result_comes_back(run_tool):
    result = await run_tool(
        "def run(a, b):\n return {'sum': a + b, 'é': [1.5, None, '日本']}", a=2, b=40
    )
    assert result.outcome is SandboxOutcome.OK
    assert result.value == {"sum": 42, "é": [1.5, None, "日本"]}


async def test_printed_text_comes_back_in_order_with_both_streams(run_tool):
    result = await run_tool(
        "import sys\ndef run():\n print('one')\n print('two', file=sys.stderr)\n print('dreißig')"
    )
    assert (result.outcome, result.stdout) == (SandboxOutcome.OK, "one\ntwo\ndreißig\n")


async def test_an_exception_is_a_tool_error_with_type_and_text(run_tool):
    result = await run_tool("def run():\n raise ValueError('no such city: ' + 'x' * 5000)")
    assert result.outcome is SandboxOutcome.TOOL_ERROR
    assert result.error.startswith("ValueError: no such city: xxx")
    assert len(result.error) == 2000


async def test_an_exception_whose_text_raises_is_still_a_tool_error(run_tool):
    result = await run_tool(
        "class E(Exception):\n def __str__(self): raise SystemExit(3)\ndef run():\n raise E()"
    )
    assert result.outcome is SandboxOutcome.TOOL_ERROR
    assert result.error == "E: (its text could not be read)"


async def test_a_syntax_error_is_a_tool_error(run_tool):
    result = await run_tool("def run(:\n pass")
    assert result.outcome is SandboxOutcome.TOOL_ERROR
    assert result.error.startswith("SyntaxError: ")


async def test_sys_exit_is_a_tool_error_not_a_crash(run_tool):
    result = await run_tool("import sys\ndef run():\n sys.exit(7)")
    assert (result.outcome, result.error) == (SandboxOutcome.TOOL_ERROR, "SystemExit: 7")


async def test_an_unknown_function_is_named_with_those_that_exist(sandbox: Sandbox):
    result = await sandbox.call(
        source="def add(): pass\ndef sub(): pass", function="mul", arguments={}, deadline_s=25
    )
    assert result.outcome is SandboxOutcome.UNKNOWN_FUNCTION
    assert result.error == "no function 'mul'; the source defines add, sub"


async def test_arguments_that_do_not_fit_are_told_apart_from_type_errors_inside(run_tool):
    misfit = await run_tool("def run(a): return a", b=1)
    inside = await run_tool("def run(a): return a + 1", a="x")
    assert misfit.outcome is SandboxOutcome.BAD_ARGUMENTS
    assert "unexpected keyword argument 'b'" in misfit.error
    assert inside.outcome is SandboxOutcome.TOOL_ERROR


@pytest.mark.parametrize("bad", [float("nan"), {1, 2}, "\ud800"], ids=["nan", "set", "surrogate"])
async def test_arguments_that_are_not_json_are_bad_arguments(run_tool, bad):
    result = await run_tool("def run(a): return a", a=bad)
    assert result.outcome is SandboxOutcome.BAD_ARGUMENTS


@pytest.mark.parametrize(
    "expression",
    ["object()", "float('nan')", "float('inf')", "'\\ud800'", "{(1, 2): 3}", "{1, 2}", "b'x'"],
)
async def test_a_result_that_is_not_json_is_a_tool_error(run_tool, expression):
    result = await run_tool(f"def run(): return {expression}")
    assert result.outcome is SandboxOutcome.TOOL_ERROR
    assert result.error.startswith("TypeError: the result is not JSON")


async def test_standard_library_and_time_zones_are_there(run_tool):
    source = (
        "import datetime, decimal, hashlib, json, math, re, sqlite3, statistics, zoneinfo\n"
        "def run():\n"
        " moment = datetime.datetime(2024, 7, 1, 12, tzinfo=zoneinfo.ZoneInfo('Europe/Berlin'))\n"
        " return [moment.utcoffset().total_seconds(), hashlib.sha256(b'a').hexdigest()[:8]]\n"
    )
    result = await run_tool(source)
    assert result.value == [7200.0, "ca978112"]


async def test_threads_work(run_tool):
    source = (
        "import threading\n"
        "def run():\n"
        " seen = []\n"
        " threads = [threading.Thread(target=seen.append, args=(i,)) for i in range(8)]\n"
        " [t.start() for t in threads]; [t.join() for t in threads]\n"
        " return sorted(seen)\n"
    )
    result = await run_tool(source)
    assert result.value == list(range(8))


async def test_random_numbers_differ_between_calls(run_tool):
    source = "import random\ndef run(): return random.random()"
    values = {(await run_tool(source)).value for _ in range(4)}
    assert len(values) == 4


async def test_the_same_source_runs_from_the_code_cache_and_gives_the_same(run_tool):
    source = "def run(n): return n * 2  # cached"
    values = [(await run_tool(source, n=n)).value for n in range(5)]
    assert values == [0, 2, 4, 6, 8]


async def test_the_tool_runs_without_root_without_capabilities_and_without_privileges(run_tool):
    source = "import os\ndef run(): return [os.getuid(), os.geteuid(), os.getgid(), os.getgroups()]"
    uid, euid, gid, groups = (await run_tool(source)).value
    assert uid == euid != 0
    assert 0 not in [gid, *groups]


async def test_nothing_of_the_host_environment_is_visible(run_tool, monkeypatch):
    monkeypatch.setenv("SANDBOX_CANARY_SECRET", "s3cr3t")
    result = await run_tool("import os\ndef run(): return dict(os.environ)")
    assert result.value == {}


async def test_only_the_worker_connection_is_open(run_tool):
    source = (
        "import os\n"
        "def run():\n"
        " found = []\n"
        " for fd in range(3, 64):\n"
        "  try: os.fstat(fd); found.append(fd)\n"
        "  except OSError: pass\n"
        " return len(found)\n"
    )
    assert (await run_tool(source)).value == 1


async def test_host_files_do_not_even_exist_for_a_tool(run_tool, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("s3cr3t")
    os.chmod(secret, 0o644)
    result = await run_tool(
        "import os\ndef run(path): return os.path.exists(path)", path=str(secret)
    )
    assert result.value is False
