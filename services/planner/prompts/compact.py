"""Short prompts for any model that takes function schemas; the bundled small model knows them."""

import json
from collections.abc import Mapping, Sequence
from typing import Final

from services.contracts.apis import ApiDocument
from services.contracts.llm import FunctionSchema
from services.contracts.toolbench.functions import (
    FINAL_ANSWER_DESCRIPTION,
    FINISH_DESCRIPTION,
    finish_function,
)
from services.planner.prompts.base import Candidate

SYSTEM: Final = (
    "Answer the user's instruction by calling functions. "
    "Then call Finish with give_answer and the final answer, "
    "or with give_up_and_restart when this path leads nowhere."
)
DIVERSITY: Final = "These actions were tried here; choose a different one:"
MAX_OUTPUT_CHARS: Final = 200


class CompactPrompts:
    """See `PromptProfile`. Tools are described by their functions only."""

    name = "compact"
    version = 1

    @property
    def texts(self) -> Mapping[str, str]:
        """See `PromptProfile.texts`."""
        return {
            "system": SYSTEM,
            "diversity": DIVERSITY,
            "finish": FINISH_DESCRIPTION,
            "final_answer": FINAL_ANSWER_DESCRIPTION,
        }

    def system(self, documents: Sequence[ApiDocument]) -> str:
        """See `PromptProfile.system`."""
        return SYSTEM

    def user(self, instruction: str) -> str:
        """See `PromptProfile.user`; the bare instruction."""
        return instruction

    def diversity(self, candidates: Sequence[Candidate], *, observation: str) -> str:
        """See `PromptProfile.diversity`; one line, long outputs cut to `MAX_OUTPUT_CHARS`."""
        tried = [
            {
                "name": candidate.name,
                "arguments": candidate.arguments,
                "function_output": candidate.observation[:MAX_OUTPUT_CHARS],
            }
            for candidate in candidates
        ]
        return f"{DIVERSITY} {json.dumps(tried, ensure_ascii=False)}"

    def finish(self) -> FunctionSchema:
        """See `PromptProfile.finish`."""
        return finish_function()
