"""Plans: calls that the model writes down before any of them is made, and their execution.

Source: Xu et al. 2023 (ReWOO), section 2.1 (Planner, Worker); Kim et al. 2023 (LLMCompiler),
sections 3.1 to 3.3 (Function Calling Planner, Task Fetching Unit, Executor).
Deviations: arguments are JSON, since our functions have named parameters; results come from earlier
lines only, so a plan has no cycles; a call whose input does not exist is not made, and says so.
"""

import asyncio
import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

from pydantic import JsonValue

from services.contracts.llm import Completion, Message, MessageToolCall
from services.contracts.toolbench.functions import FINISH
from services.contracts.toolenv import MAX_ARGUMENTS_CHARS
from services.planner.actions import Outcome
from services.planner.arguments import read_arguments
from services.planner.prompts.planning import UNREADABLE_PLAN
from services.planner.search.chain import Chain
from services.planner.search.evidence import PATH, EvidenceError, filled, references

MAX_TASKS: Final = 32
"""Steps of one plan."""
_MAX_SHOWN_PLAN_CHARS: Final = 4_000
_END: Final = frozenset({"join", FINISH})
_DECODER: Final = json.JSONDecoder(strict=False)  # a line break inside a string is meant
_TAIL: Final = " \t\r\f\v)];.,"
"""What may stand behind a step's arguments on their line."""


class Notation(NamedTuple):
    """How a method's plans number their steps and refer to results."""

    step: re.Pattern[str]
    """Number and function of a step, up to the bracket before its arguments."""
    reference: re.Pattern[str]
    """Number and path of a reference."""
    bare: re.Pattern[str]
    """A reference as a value without quotes: what stands before it, and the reference."""
    label: str
    """Stands before a number."""
    may_be_text: bool
    """A reference to a step that does not exist is plain text, as in `$20`."""


def _notation(*, step: str, reference: str, label: str, may_be_text: bool) -> Notation:
    reference += PATH
    return Notation(
        re.compile(step + r"[ \t]*([\w.-]{1,256})[\[(]", re.MULTILINE),
        re.compile(reference),
        re.compile(r"([:\[,][ \t]*)(" + reference + r")(?=[ \t]*[,}\]])"),
        label,
        may_be_text,
    )


REWOO: Final = _notation(
    step=r"#E(\d{1,3})[ \t]*[=:]", reference=r"#E(\d{1,3})(?!\d)", label="#E", may_be_text=False
)
COMPILER: Final = _notation(
    step=r"^[ \t>*`-]{0,16}\$?(\d{1,3})[.):=]",
    reference=r"\$(\d{1,3})(?!\d|\.\d)",
    label="$",
    may_be_text=True,
)


class PlanError(ValueError):
    """The reply is no plan; the text tells the model why."""


@dataclass(frozen=True, slots=True)
class Task:
    """One call of a plan."""

    number: int
    function: str
    arguments: dict[str, JsonValue]
    needs: frozenset[int]
    """Steps whose results it uses: earlier ones of its plan, or steps of earlier plans."""
    problem: str = ""
    """Why it can never be made; empty when it can."""


class Plan(NamedTuple):
    """A plan that was read."""

    text: str
    tasks: tuple[Task, ...]
    """In the order written, which respects their needs."""


class _Line(NamedTuple):
    """A step as it was written."""

    number: int
    function: str
    arguments: dict[str, JsonValue]


async def write_plan(
    chain: Chain, question: str, notation: Notation, *, known: Collection[int] = ()
) -> Plan:
    """Ask for a plan; one that cannot be read is asked for once more, with what is wrong with it.

    Args:
        chain: Whose instruction is planned for.
        question: Says how a plan looks.
        notation: Reads it.
        known: See `read_plan`.

    Raises:
        PlanError: The second one cannot be read either.
        BudgetSpent: A budget allows no further call.
    """

    def is_readable(text: str) -> bool:
        try:
            read_plan(text, notation, known=known)
        except PlanError:
            return False
        return True

    text = await chain.ask("plan", question, is_readable=is_readable)
    try:
        return read_plan(text, notation, known=known)
    except PlanError as exc:
        shown = text[:_MAX_SHOWN_PLAN_CHARS]
        again = question + UNREADABLE_PLAN.format(problem=exc, plan=shown)
    return read_plan(await chain.ask("plan", again, is_readable=is_readable), notation, known=known)


def read_plan(text: str, notation: Notation, *, known: Collection[int] = ()) -> Plan:
    """Read a plan from a reply. Words between the steps are skipped; `join` and Finish end it.

    Args:
        text: The model's reply.
        notation: How steps and references look.
        known: Steps of earlier plans, whose results may be used.

    Raises:
        PlanError: There is no step, a number stands twice, arguments cannot be read, or there are
            more than `MAX_TASKS` steps.
    """
    lines = list(_lines(text, notation))
    later = {line.number for line in lines}
    if len(later) < len(lines):
        raise PlanError("a number stands before two steps")
    tasks, usable = [], set(known) - later
    for line in lines:
        tasks.append(_task(line, notation, usable=usable, later=later))
        usable.add(line.number)
        later.remove(line.number)
    return Plan(text, tuple(tasks))


def _lines(text: str, notation: Notation) -> Iterator[_Line]:
    position = count = 0
    while (head := notation.step.search(text, position)) is not None:
        if head[2] in _END:
            return
        count += 1
        if count > MAX_TASKS:
            raise PlanError(f"it has more than {MAX_TASKS} steps")
        try:
            arguments, position = _arguments(text, head.end(), notation)
        except (ValueError, RecursionError):
            raise PlanError(
                f"the arguments of {notation.label}{head[1]} are no JSON object"
            ) from None
        yield _Line(int(head[1]), head[2], arguments)
    if not count:
        raise PlanError("it has no step of the form asked for")


def _arguments(text: str, start: int, notation: Notation) -> tuple[dict[str, JsonValue], int]:
    """The object that stands at a place, and where it ends; nothing there is an empty object."""
    while start < len(text) and text[start] in " \t\r\n":
        start += 1
    if text[start : start + 1] in (")", "]"):
        return {}, start + 1
    try:
        value, end = _DECODER.raw_decode(text, start)
    except ValueError:
        # What needs mending must stand on one line: where it ends cannot be told otherwise.
        line = text[start : start + MAX_ARGUMENTS_CHARS].split("\n", 1)[0]
        quoted = notation.bare.sub(r'\1"\2"', line)
        mended = read_arguments(quoted.rstrip(_TAIL))
        value, end = mended.fields if mended.is_whole else None, start + len(line)
    if not isinstance(value, dict):
        raise ValueError("no object")
    return value, end


def _task(line: _Line, notation: Notation, *, usable: set[int], later: set[int]) -> Task:
    try:
        named = references(line.arguments, notation.reference)
    except EvidenceError as exc:
        raise PlanError(f"of {notation.label}{line.number}: {exc}") from exc
    wrong = named & later if notation.may_be_text else named - usable
    problem = ""
    if wrong:
        problem = f"{notation.label}{min(wrong)} does not stand before this step"
    needs = frozenset() if wrong else frozenset(named & usable)
    return Task(line.number, line.function, line.arguments, needs, problem)


async def carry_out(
    chain: Chain, plan: Plan, notation: Notation, results: dict[int, Outcome]
) -> None:
    """Make the calls of a plan and put them on the chain, in the plan's order.

    In mode `parallel` a call begins as soon as the results that it needs are there, else one begins
    when the one before it has ended.

    Args:
        chain: Grows by the plan as a thought, and its calls.
        plan: What to do.
        notation: Of its references.
        results: By step, of earlier plans; this plan's are added.

    Raises:
        BudgetSpent: A budget ended the run; calls that had ended are on the chain.
        ServiceError: The tool environment cannot work.
    """
    if not plan.tasks:
        return
    expansion = await chain.begin(Message(role="assistant", content=plan.text))
    ended = {task.number: asyncio.Event() for task in plan.tasks}
    calls: dict[int, MessageToolCall] = {}

    async def work(task: Task) -> None:
        needs = task.needs & ended.keys()
        for number in needs:
            await ended[number].wait()
        try:
            if needs <= calls.keys():  # else a budget refused one of them, and ends the run
                call, refusal = _call(chain, task, notation, results)
                results[task.number] = await expansion.act(call, known=refusal)
                calls[task.number] = call
        finally:
            ended[task.number].set()

    try:
        await chain.search.together([partial(work, task) for task in plan.tasks])
    finally:
        thought: str | None = plan.text
        for task in plan.tasks:
            if task.number in calls:
                call, outcome = calls[task.number], results[task.number]
                chain.leaf = expansion.add(chain.leaf, thought, call, outcome)
                thought = None


def _call(
    chain: Chain, task: Task, notation: Notation, results: dict[int, Outcome]
) -> tuple[MessageToolCall, Outcome | None]:
    """The call of a task; with an outcome, when it cannot be made."""
    refusal = None
    try:
        if task.problem:
            raise EvidenceError(task.problem)
        needed = {number: results[number] for number in task.needs}
        arguments = filled(task.arguments, notation.reference, needed)
        text = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
        text.encode()  # a result may hold half a surrogate pair, which no text may
    except ValueError as exc:
        refusal = chain.search.actions.refused(f"not called: {exc}")
        text = json.dumps(task.arguments)
    call_id = f"call_{chain.leaf.node_id}_{task.number}"
    call = MessageToolCall(id=call_id, name=task.function, arguments=text)
    # Read like a call of a reply, so that a result gets the type that the parameter declares.
    message = Message(role="assistant", tool_calls=(call,))
    reading = chain.search.reader.read(Completion(message=message))
    return reading.message.tool_calls[0], refusal
