"""CREATOR: the model makes the tool that it lacks, calls it, and mends it until it works.

Source: Qian et al. 2023 (CREATOR), section 3: creation of a documented tool, by abstract reasoning
about the kind of problem; decision, code that calls the tool for this problem; execution; and
rectification of either by the error, at most three times, the bound of the authors' code
(`rectify_limit`). As in the paper the program uses created tools only: it runs in the sandbox,
without network, and neither it nor the model calls the run's functions. An instruction that needs
data which only an API has is for another method.

Deviations: the decision returns its result, where the paper's prints it, and the model puts the
final answer into words; code that is no Python is told as an error without being executed, and its
correction counts as one of the three. After an answer the model writes tests of the tool; with
those that pass it is offered to the catalogue (`RunEnded.proposal`), where the paper transfers
tools between similar problems (section 6).
"""

import json
from functools import partial
from typing import ClassVar, Final

from services.contracts.errors import ServiceError
from services.contracts.llm import Message, MessageToolCall
from services.contracts.planner import ToolProposal
from services.contracts.toolenv import CallStatus, Trial
from services.planner.actions import Outcome
from services.planner.budget import BudgetSpent
from services.planner.prompts.creation import ANSWER, CREATE, DECIDE, RECTIFY, TEST
from services.planner.search.base import Search, Shape
from services.planner.search.chain import Chain
from services.planner.search.expansion import Expansion
from services.planner.search.program import MAIN, Code, CodeError, Program, WrittenTest, read_code
from services.planner.tree import Node

MAX_RECTIFICATIONS: Final = 3
MAX_TESTS: Final = 3
EXECUTE: Final = "execute_code"
"""Name under which executions stand in the trajectory; no function of a catalogue bears it."""
_MAX_NAME_CHARS: Final = 100  # of a trial's function
_MAX_CODE_TOKENS: Final = 2_048  # a run's replies are bounded for steps, which are shorter


class Creator:
    """See `SearchMethod`: the model writes a tool, runs it in the sandbox, and mends it."""

    shape: ClassVar[Shape] = "chains"
    width: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """See `SearchMethod.name`."""
        return "CREATOR"

    async def run(self, search: Search) -> None:
        """See `SearchMethod.run`.

        Raises:
            FailedPrecondition: The tool environment has no sandbox, or the model writes no code.
        """
        search.require_free_answers(self.name)
        chain = Chain(search, search.plant())
        workshop = _Workshop(chain)
        await workshop.create()
        outcome = await workshop.execute("decide", DECIDE)
        for _ in range(MAX_RECTIFICATIONS):
            if outcome.status is CallStatus.OK:
                break
            outcome = await workshop.execute("rectify", RECTIFY)
        if outcome.status is CallStatus.OK:
            executed = chain.leaf
            await chain.answer(await chain.ask("answer", ANSWER))
            if chain.leaf.is_terminal:
                search.found.proposal = await workshop.proposal(executed)
        else:
            await chain.give_up(f"No program worked; the last one ended with {outcome.status}.")
        await chain.close()


class _Workshop:
    """The program of one run while it is written."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._search = chain.search
        self._program = Program()
        self._executions = 0
        self._expansion: Expansion | None = None  # of the latest execution

    async def create(self) -> None:
        """Let the model write the tool; what is wrong with it shows when it is executed."""
        chain = self._chain
        chain.tell(CREATE)
        text = await self._written("create", chain.leaf, chain.leaf.history.shown())
        self._take(text)
        await chain.think(text)

    async def execute(self, purpose: str, question: str) -> Outcome:
        """Let the model write what is missing or wrong, and run the program."""
        chain, search = self._chain, self._search
        chain.tell(question)
        text = await self._written(purpose, chain.leaf, chain.leaf.history.shown())
        problem = self._take(text) or self._program.problem
        self._executions += 1
        call = _call(f"execute_{self._executions}", {"attempt": self._executions})
        trial = Trial(source=self._program.source, function=MAIN)
        expansion = self._expansion = await chain.begin(Message(role="assistant", content=text))
        outcome = await expansion.act(
            call,
            known=search.actions.refused(f"not run: {problem}") if problem else None,
            by=partial(search.actions.try_code, trial),
        )
        chain.leaf = expansion.add(chain.leaf, text, call, outcome)
        return outcome

    async def proposal(self, executed: Node) -> ToolProposal | None:
        """The tool with the tests that it passes; `None` when it passes none.

        The run is answered: a budget or a service that fails now takes nothing but the offer away.

        Args:
            executed: Where the program's result stands.
        """
        question = Message(role="user", content=TEST.format(most=MAX_TESTS))
        messages = (*executed.history.shown(), question)
        try:
            code = read_code(await self._written("test", executed, messages))
            tests = [test for test in code.tests if self._is_test(test)][:MAX_TESTS]
            outcomes = await self._search.together(
                [partial(self._outcome_of, test, code) for test in tests]
            )
        except (BudgetSpent, ServiceError, CodeError):
            return None
        passed = [
            test.source
            for test, outcome in zip(tests, outcomes, strict=True)
            if outcome.status is CallStatus.OK
        ]
        if not passed:
            return None
        return ToolProposal(
            name=self._program.functions[0],
            source=f"{self._program.tool}\n",
            tests="\n\n\n".join(filter(None, [code.imports, *passed])) + "\n",
            failed_tests=len(tests) - len(passed),
            instruction=self._search.instruction,
        )

    def _is_test(self, test: WrittenTest) -> bool:
        """Whether a test can be called by its name, and could fail because of the tool."""
        is_callable = test.name.isascii() and len(test.name) <= _MAX_NAME_CHARS
        return is_callable and test.has_assert and bool(test.names & {*self._program.functions})

    async def _outcome_of(self, test: WrittenTest, code: Code) -> Outcome:
        source = self._program.with_test("\n\n".join(filter(None, [code.imports, test.source])))
        trial = Trial(source=source, function=test.name)
        assert self._expansion is not None, "a tool is tested after its execution"
        return await self._expansion.act(
            _call(test.name, {"test": test.name}),
            by=partial(self._search.actions.try_code, trial),
        )

    async def _written(self, purpose: str, node: Node, messages: tuple[Message, ...]) -> str:
        search = self._search
        completion = await search.deliberate(
            purpose,
            messages,
            node=node,
            tools=search.policy.tools,  # they stand at the head of the prompt, which is shared
            max_tokens=_MAX_CODE_TOKENS,
            is_readable=_is_code,
        )
        return completion.message.content or ""

    def _take(self, text: str) -> str:
        """Take over what a reply wrote; returns why it cannot be, or an empty text."""
        try:
            self._program = self._program.revised(read_code(text))
        except CodeError as exc:
            return str(exc)
        return ""


def _is_code(text: str) -> bool:
    try:
        read_code(text)
    except CodeError:
        return False
    return True


def _call(call_id: str, arguments: dict[str, str | int]) -> MessageToolCall:
    return MessageToolCall(id=call_id, name=EXECUTE, arguments=json.dumps(arguments))


METHODS = {"creator": lambda _: Creator()}
