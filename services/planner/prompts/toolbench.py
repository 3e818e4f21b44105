"""Prompts with the structure of ToolBench's (interop 4.1, 1.4, 5.4), in our own words.

A ToolLLaMA checkpoint wants the exact texts it was trained with. They are not part of the product;
`published` reads them from a file that the user has, and they become the profile `toolllama`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from services.contracts.apis import ApiDocument
from services.contracts.llm import FunctionSchema
from services.contracts.toolbench.functions import (
    FINAL_ANSWER_DESCRIPTION,
    FINISH_DESCRIPTION,
    finish_function,
    tool_summary,
)
from services.planner.prompts.base import Candidate

TASK_MARK: Final = "{task_description}"
CANDIDATES_MARK: Final = "{previous_candidate}"

_SYSTEM: Final = """You are an agent that solves tasks with tools, which you use as functions.
Work in steps. In each step, think about where you stand, then call one function. \
Its result is your new situation; think again and go on until the task is done.
Keep in mind:
1. What a call changed stays changed. To start over, say that you give up and restart.
2. Keep every thought to five sentences or fewer.
3. You may try several ways; test one idea at a time.
The task:
{task_description}"""
_HEADER: Final = """Use the functions to serve the user's request with current facts.
1. Always end by calling Finish. The final answer must tell the user all that was asked for. \
If that is impossible, or the functions keep failing, call Finish with give_up_and_restart.
2. Call functions by their own names, never by the name of their tool.
These are the tools:
"""
_DIVERSITY: Final = """This is not your first attempt in this situation: what you did before \
did not lead to an answer. These are the actions already taken from here:
{previous_candidate}
Think about why they failed, then take an action that is different from every one of them."""


@dataclass(frozen=True, slots=True)
class ToolBenchTexts:
    """The long texts, with the reference's place holders."""

    system: str = _SYSTEM
    """Contains `{task_description}`."""
    header: str = _HEADER
    """Stands before the numbered tools; ends with a newline."""
    diversity: str = _DIVERSITY
    """Contains `{previous_candidate}`."""
    finish: str = FINISH_DESCRIPTION
    """What the model is told of Finish."""
    final_answer: str = FINAL_ANSWER_DESCRIPTION
    """What it is told of Finish's parameter `final_answer`."""


class ToolBenchPrompts:
    """See `PromptProfile`."""

    version = 1

    def __init__(self, texts: ToolBenchTexts | None = None, *, name: str = "toolbench") -> None:
        self._texts = texts or ToolBenchTexts()
        self._name = name

    @property
    def name(self) -> str:
        """See `PromptProfile.name`."""
        return self._name

    @property
    def texts(self) -> Mapping[str, str]:
        """See `PromptProfile.texts`."""
        return asdict(self._texts)

    def system(self, documents: Sequence[ApiDocument]) -> str:
        """See `PromptProfile.system`."""
        task = self._texts.header + tool_summary(documents)
        return self._texts.system.replace(TASK_MARK, task)

    def user(self, instruction: str) -> str:
        """See `PromptProfile.user`; framed by a newline and `Begin!`."""
        return f"\n{instruction}\nBegin!\n"

    def diversity(self, candidates: Sequence[Candidate], *, observation: str) -> str:
        """See `PromptProfile.diversity`; indented JSON with the reference's keys."""
        tried = [
            {
                "name": candidate.name,
                "arguments": candidate.arguments,
                "function_output": candidate.observation,
                "mento-carlo-action-value": 0.0,  # the reference's spelling; always zero
            }
            for candidate in candidates
        ]
        listed = json.dumps(tried, indent=2) + "\n"
        if observation:
            listed += f"again, your former observation: {observation}\n"
        return self._texts.diversity.replace(CANDIDATES_MARK, listed)

    def finish(self) -> FunctionSchema:
        """See `PromptProfile.finish`."""
        texts = self._texts
        return finish_function(
            description=texts.finish, final_answer_description=texts.final_answer
        )
