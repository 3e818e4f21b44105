"""What a run's model may do: the functions it is shown, and which API each stands for."""

import difflib
import json
from collections.abc import Sequence
from typing import NamedTuple

from services.contracts.apis import ApiDocument, ApiRef
from services.contracts.compat import Compat
from services.contracts.errors import InvalidArgument
from services.contracts.llm import FunctionSchema
from services.contracts.toolbench.functions import (
    FINISH,
    finish_function,
    strict_function,
    toolbench_function,
)
from services.contracts.toolbench.names import distinct_names

_MAX_HINTS = 3
_HINT_CUTOFF = 0.6  # similarity in [0, 1]; below it a hint is more often noise than help
_MAX_SHOWN_NAME_CHARS = 200


class Function(NamedTuple):
    """A function the model may call."""

    schema: FunctionSchema
    api: ApiRef | None
    """`None` for Finish."""


class ActionSpace:
    """The functions of a run, in the order shown, Finish last."""

    def __init__(
        self, documents: Sequence[ApiDocument], *, compat: Compat, finish: FunctionSchema
    ) -> None:
        """Render the documents.

        Args:
            documents: APIs in the order in which they are shown.
            compat: Decides the shape of the schemas and how names are matched.
            finish: The function that ends a trajectory.
        """
        self._compat = compat
        rendered = (
            _as_toolbench(documents, compat) if compat.toolbench_prompts else _as_strict(documents)
        )
        self._functions = (*rendered, Function(finish, None))
        self.documents = tuple(documents)
        self._documents = {document.ref: document for document in documents}

    @property
    def schemas(self) -> tuple[FunctionSchema, ...]:
        """What the model is shown."""
        return tuple(function.schema for function in self._functions)

    @property
    def apis(self) -> dict[str, ApiRef]:
        """Which API each function name stands for; the first one, where two share a name."""
        found: dict[str, ApiRef] = {}
        for function in self._functions:
            if function.api is not None:
                found.setdefault(function.schema.name, function.api)
        return found

    def document_of(self, api: ApiRef) -> ApiDocument | None:
        """The document of an API; `None` when it is not of this action space."""
        return self._documents.get(api)

    def find(self, name: str) -> Function | None:
        """The function a called name means, `None` when there is none.

        With `match_function_suffix` it is the first whose name ends with `name`, so an empty name
        means the first one. Deviation: a proper suffix of `Finish` means nothing, where the
        reference crashes.
        """
        for function in self._functions:
            shown = function.schema.name
            if shown == name:
                return function
            if self._compat.match_function_suffix and shown.endswith(name) and shown != FINISH:
                return function
        return None

    def require(self, name: str) -> None:
        """Refuse a name that means no function.

        Raises:
            InvalidArgument: It names similar ones.
        """
        if self.find(name) is None:
            hint = self._hint(name) or "; `toolwright runs show` lists what was called"
            raise InvalidArgument(f"the run has no function {name[:_MAX_SHOWN_NAME_CHARS]!r}{hint}")

    def unknown_function(self, name: str) -> str:
        """The observation of a call to a name that no function bears."""
        error = f"No such function name: {name}"
        if self._compat.hint_near_names:
            error = f"No such function name: {name[:_MAX_SHOWN_NAME_CHARS]}{self._hint(name)}"
        return json.dumps({"error": error, "response": ""})

    def _hint(self, name: str) -> str:
        asked = name[:_MAX_SHOWN_NAME_CHARS]
        names = [function.schema.name for function in self._functions]
        near = sorted(names, key=lambda shown: _likeness(asked, shown), reverse=True)[:_MAX_HINTS]
        near = [shown for shown in near if _likeness(asked, shown) >= _HINT_CUTOFF]
        return f". Did you mean {' or '.join(near)}?" if near else ""


def _likeness(asked: str, shown: str) -> float:
    """Similarity in [0, 1] to a function's name, or to that without the tool it is for."""
    api = shown.rpartition("_for_")[0]
    return max(
        difflib.SequenceMatcher(None, asked.lower(), text.lower()).ratio()
        for text in (shown, api)
        if text
    )


def _as_toolbench(documents: Sequence[ApiDocument], compat: Compat) -> list[Function]:
    dropped = compat.drop_optional_only_parameters
    return [
        Function(toolbench_function(document, drop_optional_only=dropped), document.ref)
        for document in documents
    ]


def _as_strict(documents: Sequence[ApiDocument]) -> list[Function]:
    """Every API once and under a name of its own, as OpenAI's protocol demands."""
    once = {document.ref: document for document in documents}
    names = distinct_names(once, taken=(FINISH,))
    return [
        Function(strict_function(document, name=names[ref]), ref) for ref, document in once.items()
    ]


def build_action_space(
    documents: Sequence[ApiDocument], *, compat: Compat, finish: FunctionSchema | None = None
) -> ActionSpace:
    """The action space of these documents; Finish in our own words unless it is given."""
    return ActionSpace(documents, compat=compat, finish=finish or finish_function())
