"""One chain that a method grows with steps of the model, steps of its own, and questions.

A question sees the conversation of the chain and stands at its end, where it is not kept: the steps
alone are the trajectory, which stays a valid conversation of calls and their answers. Tool output
reaches the model as tool messages only, never inside a question's own words.
"""

import json
import re
from collections.abc import Callable
from itertools import islice
from typing import Final

from services.contracts.llm import Message, MessageToolCall
from services.contracts.toolbench.functions import FINISH, GIVE_ANSWER, GIVE_UP
from services.planner.search.base import Search
from services.planner.search.expansion import Expansion
from services.planner.tree import Node, extend

_ENTRY: Final = re.compile(r"^[ \t>*#]{0,16}(?:\d{1,3}[.):]|[-*•])[ \t]+(\S.{0,499})", re.MULTILINE)
_LEADING_MARKS: Final = re.compile(r"\A[\s*#>`\"'-]+")


class Chain:
    """A chain below a root; it is one of `Found.tries`."""

    def __init__(self, search: Search, root: Node) -> None:
        """Begin at a root.

        Args:
            search: The run.
            root: Of a tree of this chain's own.
        """
        self.search = search
        self._expansions: list[Expansion] = []
        self._before = root  # where the latest step began
        self._place = len(search.found.tries)
        search.found.tries.append(root)

    @property
    def leaf(self) -> Node:
        """Where the chain ends now."""
        return self.search.found.tries[self._place]

    @leaf.setter
    def leaf(self, node: Node) -> None:
        self.search.found.tries[self._place] = node

    @property
    def has_room(self) -> bool:
        """Another round of steps may begin: its first node is not deeper than `max_depth`."""
        return self.leaf.depth < self.search.budget.limits.max_depth

    def tell(self, text: str) -> None:
        """Say something to the model that stays in the conversation."""
        self.leaf.history = extend(self.leaf.history, Message(role="user", content=text))

    async def ask(
        self, purpose: str, question: str, *, is_readable: Callable[[str], bool] | None = None
    ) -> str:
        """The reply to a question about the chain; see `ask`."""
        return await ask(self.search, self.leaf, purpose, question, is_readable=is_readable)

    async def step(self) -> Node:
        """One step of the model's own; see `Expansion.run`."""
        self._before = self.leaf
        self.leaf = await self._expansion().run()
        return self.leaf

    async def go_back(self, reason: str, *, to: Node | None = None) -> None:
        """Leave the steps after a node for good and tell the model why; see `Search.abandon`.

        Args:
            reason: Stays in the conversation.
            to: Where to go on; `None` is where the latest step of the model's began.
        """
        kept = to or self._before
        await self.search.abandon(self.leaf, keep=kept)
        self.leaf = kept
        self.tell(reason)

    async def begin(self, reply: Message) -> Expansion:
        """A step whose reply the method wrote and whose actions it carries out itself."""
        expansion = self._expansion()
        await expansion.begin(reply)
        return expansion

    async def think(self, text: str) -> None:
        """Keep a reply in words; nothing that it may ask for is carried out."""
        expansion = await self.begin(Message(role="assistant", content=text))
        self.leaf = expansion.think(self.leaf, text)

    async def answer(self, text: str) -> None:
        """End with a final answer; without any text it is a give-up."""
        if not text:
            await self.give_up("The model was asked for the answer and gave none.")
            return
        await self._finish(None, {"return_type": GIVE_ANSWER, "final_answer": text})
        self.accept()

    def accept(self) -> None:
        """Let the answer with which the chain ends, if it ends with one, be the run's."""
        answers = self.search.found.answers
        if self.leaf.is_terminal and self.leaf not in answers:
            answers.append(self.leaf)

    async def give_up(self, reason: str) -> None:
        """End without an answer, with the reason as the last thought."""
        self.search.found.give_ups.append(await self._finish(reason, {"return_type": GIVE_UP}))

    async def close(self) -> None:
        """Tell that nothing more is tried on this chain."""
        for expansion in reversed(self._expansions):
            await expansion.close()

    async def _finish(self, thought: str | None, arguments: dict[str, str]) -> Node:
        text = json.dumps(arguments, ensure_ascii=False)
        call = MessageToolCall(id=f"finish_{len(self._expansions)}", name=FINISH, arguments=text)
        reply = Message(role="assistant", content=thought, tool_calls=(call,))
        self.leaf = await self._expansion().follow(reply)
        return self.leaf

    def _expansion(self) -> Expansion:
        expansion = Expansion(self.search, self.leaf, vary=False)
        self._expansions.append(expansion)
        return expansion


async def ask(
    search: Search,
    node: Node,
    purpose: str,
    question: str,
    *,
    is_readable: Callable[[str], bool] | None = None,
) -> str:
    """The reply in words to a question about a trajectory; empty when there was none.

    Args:
        search: The run.
        node: Where the trajectory ends.
        purpose: See `Search.deliberate`.
        question: Stands at the end of the node's conversation.
        is_readable: See `Search.deliberate`.

    Raises:
        BudgetSpent: A budget allows no further call.
        ServiceError: The model cannot work.
    """
    messages = (*node.history.shown(), Message(role="user", content=question))
    # The functions stand at the head of the prompt, which the steps and questions share.
    completion = await search.deliberate(
        purpose, messages, node=node, tools=search.policy.tools, is_readable=is_readable
    )
    return (completion.message.content or "").strip()


def listed(text: str, *, most: int) -> list[str]:
    """The entries of a numbered or dashed list in a reply, at most so many, each cut to a line."""
    return [found[1].strip() for found in islice(_ENTRY.finditer(text), most)]


def begins_with(text: str, word: str) -> bool:
    """Whether a reply's first word is this one, whatever its case and ornaments."""
    rest = _LEADING_MARKS.sub("", text[:200])
    return re.match(rf"{word}\b", rest, re.IGNORECASE) is not None
