"""Search methods that an operator adds, with the example of the guide."""

import re
from pathlib import Path

import pytest

from services.contracts.errors import FailedPrecondition, InvalidArgument
from services.contracts.planner import Limits, SolveRequest
from services.contracts.toolenv import CallStatus, Observation, ToolCall
from services.kit.settings import SharedSettings
from services.planner.bootstrap import options_of
from services.planner.search.added import load_searches
from services.planner.search.methods import described
from services.planner.service import PlannerService
from services.planner.settings import PlannerSettings
from tests.fakes.planner_ports import (
    HELLO,
    HELLO_NAME,
    OTHER,
    OTHER_NAME,
    FakeToolEnv,
    ScriptedModel,
    answer,
    end_of,
    events_of,
    give_up,
    reply,
)

pytestmark = pytest.mark.anyio

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "add-a-search.md"


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The guide's file, set as the guide does."""
    code = re.search(r"<<'PYTHON'\n(.*?)^PYTHON$", GUIDE.read_text("utf-8"), re.S | re.M)
    assert code is not None
    file = tmp_path / "first_good.py"
    file.write_text(code[1], encoding="utf-8")
    monkeypatch.setenv("PLANNER_SEARCHES", str(file))
    return file


def planner(model: ScriptedModel, toolenv: FakeToolEnv) -> PlannerService:
    options = options_of(PlannerSettings(), SharedSettings())
    return PlannerService(model=model, toolenv=toolenv, retriever=None, options=options)


def fails_for_other(call: ToolCall) -> Observation:
    error = "no" if call.api == OTHER else ""
    status = CallStatus.TOOL_ERROR if error else CallStatus.OK
    content = f'{{"error": "{error}", "response": "hi"}}'
    return Observation(status=status, content=content, source="custom", latency_s=0.0)


def request(**changes: object) -> SolveRequest:
    values = {"instruction": "greet", "method": "lab.first_good", "apis": (HELLO, OTHER)}
    return SolveRequest.model_validate({**values, "record": True, **changes})


async def test_the_guides_example_keeps_the_first_step_that_works(example: Path) -> None:
    """By hand: two of three steps fail at the root, the third works, and then the answer."""
    model = ScriptedModel(
        [reply((OTHER_NAME, "{}")), give_up(), reply((HELLO_NAME, "{}")), answer("hi")]
    )
    end = end_of(await events_of(planner(model, FakeToolEnv(answers=fails_for_other)), request()))
    assert (end.kind, end.answer, end.llm_calls) == ("answered", "hi", 4)
    tree = end.record["tree"]["tree"]
    assert [child["description"] for child in tree["children"]] == [
        OTHER_NAME,
        "Finish",
        HELLO_NAME,
    ]


async def test_the_guides_example_ends_without_a_step_that_works(example: Path) -> None:
    model = ScriptedModel([give_up()] * 3)
    end = end_of(await events_of(planner(model, FakeToolEnv()), request()))
    assert (end.kind, end.llm_calls) == ("gave_up", 3)


async def test_the_guides_example_keeps_to_the_budget(example: Path) -> None:
    model = ScriptedModel(lambda _: reply((HELLO_NAME, "{}"), thought="again"))
    limits = Limits(max_llm_calls=3, max_depth=100)
    end = end_of(await events_of(planner(model, FakeToolEnv()), request(limits=limits)))
    assert (end.kind, end.llm_calls <= 3) == ("exhausted", True)


def test_an_added_method_is_described(example: Path) -> None:
    methods = planner(ScriptedModel([]), FakeToolEnv()).methods
    (info,) = [info for info in described(methods) if "." in info.example]
    assert info.example == "lab.first_good"
    assert info.about.startswith("Keeps the first of three next steps that works")


async def test_without_the_setting_the_method_is_unknown() -> None:
    bare = planner(ScriptedModel([]), FakeToolEnv())
    with pytest.raises(InvalidArgument, match=r"no method 'lab\.first_good'"):
        await events_of(bare, request())


def test_the_example_has_about_thirty_lines(example: Path) -> None:
    code = [line for line in example.read_text("utf-8").splitlines() if line.strip()]
    assert len(code) <= 32


GOOD = """class Mine:
    name, shape, width = "lab.mine", "tree", 1
    async def run(self, search): ...
METHODS = {"lab.mine": lambda _: Mine()}
"""


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("", "it has no METHODS"),
        ("METHODS = {}", "it has no METHODS"),
        ("METHODS = ['lab.mine']", "it has no METHODS"),
        (GOOD.replace('"lab.mine":', '"mine":'), "'mine' is no name"),
        (GOOD.replace('"lab.mine":', '"CoT@1":'), "'CoT@1' is no name"),
        (GOOD.replace('"lab.mine":', "3:"), "3 is no name"),
        (GOOD.replace("lambda _:", "lambda:"), "'lab.mine' cannot be built: TypeError"),
        (GOOD.replace(" run(", " go("), "'lab.mine' has no run"),
        ("raise RuntimeError('broken')", "it cannot be loaded: RuntimeError: broken"),
        ("def (", "it cannot be loaded: SyntaxError"),
    ],
)
def test_a_file_that_adds_no_method_is_refused_by_name(
    tmp_path: Path, code: str, reason: str
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(code, encoding="utf-8")
    with pytest.raises(FailedPrecondition) as refusal:
        load_searches([str(file)])
    assert refusal.value.detail.startswith(f"search {str(file)!r}: {reason}")


@pytest.mark.parametrize("name", ["nowhere/mine.py", "mine.py", "no_such_package.searches"])
def test_what_is_missing_is_refused_by_name(name: str) -> None:
    with pytest.raises(FailedPrecondition, match=re.escape(f"search {name!r}: it cannot be load")):
        load_searches([name])


def test_a_module_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lab_searches.py").write_text(GOOD, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    (module,) = load_searches(["lab_searches"])
    assert module.METHODS["lab.mine"](1).name == "lab.mine"


def test_two_files_cannot_add_the_same_method(tmp_path: Path) -> None:
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text(GOOD, encoding="utf-8")
    settings = PlannerSettings(searches=(str(tmp_path / "a.py"), str(tmp_path / "b.py")))
    options = options_of(settings, SharedSettings())
    with pytest.raises(FailedPrecondition, match=r"'lab\.mine' of b_\w+ exists already"):
        PlannerService(
            model=ScriptedModel([]), toolenv=FakeToolEnv(), retriever=None, options=options
        )
