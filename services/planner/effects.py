"""What the calls of one run did to the world, and which observations stand for further ones.

Branches of a search tree are thoughts, but their calls are deeds: a search that goes back has not
undone what it did. The ledger knows every call that was carried out, and answers four questions.

- Does an earlier observation stand for this call? For a read, and for an idempotent change, the
  one of another branch does, unless something of the same tool was changed since. On its own path a
  call is made again: whoever polls a status wants to see it change.
- Was this change made already? A change that a repetition would make again is made once in a run.
- Which changes does nothing rely on any more, because their branches were abandoned?
- Which of them stand, because they could not be undone?

Source: Yao et al. 2023 (Tree of Thoughts) and ToolLLM's DFSDT assume that a state can be gone back
to; the ledger and the inverse calls are sagas after Garcia-Molina and Salem 1987, section 2.
"""

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from pydantic import JsonValue

from services.contracts.apis import ApiDocument, ApiRef, SideEffect
from services.contracts.compat import Compat
from services.contracts.errors import Unavailable
from services.contracts.toolbench.names import api_identifier
from services.contracts.toolenv import CallStatus, Observation
from services.planner.tree import Node

_REFUSALS: Final = frozenset(
    {
        CallStatus.INVALID_ARGUMENTS,
        CallStatus.TOOL_ERROR,
        CallStatus.UNAUTHORIZED,
        CallStatus.UNSUBSCRIBED,
        CallStatus.BLOCKED,
    }
)
"""Nothing was done, and the same call would be refused again."""
_NOT_NOW: Final = frozenset({CallStatus.TOO_MANY_REQUESTS, CallStatus.RATE_LIMITED})
"""Nothing was done, and the same call may be made later."""
_LASTING: Final = _REFUSALS | {CallStatus.OK}
_NEVER: Final = -1  # an era that no tool is in
_INTERRUPTED: Final = (
    "the run was interrupted during this call; whether it took effect is not known, and it was "
    "not made again"
)

CallKey = tuple[ApiRef, str]
"""Calls that are equal: the API, and `canonical` arguments."""


class Site(NamedTuple):
    """Where in the run a call is made."""

    call_id: int
    node: Node
    """The call's action input, or the node whose expansion makes it."""
    expansion: int
    expanded: Node
    """The node whose expansion makes it."""


class Seen(NamedTuple):
    """What came of a call, and when."""

    observation: Observation
    era: int
    """What the tool's changes were counted as then; nobody's, when something else changed it
    meanwhile."""


class NotMadeError(Unavailable):
    """A change was not made, because nothing could be written down of its beginning."""


@dataclass(slots=True, eq=False, kw_only=True)
class Deed:
    """A call that was carried out."""

    document: ApiDocument
    arguments: str
    """The model's text."""
    site: Site | None
    observation: Observation
    era: int
    """See `Seen.era`."""
    relying: set[Node] = field(default_factory=set)
    """Where its observation stands."""
    told: set[Node] = field(default_factory=set)
    """Below these the model knows that it was not undone."""
    undo_was_tried: bool = False

    @property
    def key(self) -> CallKey:
        """See `CallKey`."""
        return self.document.ref, canonical(self.arguments)


class Ledger:
    """The calls of one run."""

    def __init__(self, compat: Compat) -> None:
        self._compat = compat
        self._deeds: dict[CallKey, list[Deed]] = defaultdict(list)
        self._changes: list[Deed] = []
        self._eras: Counter[tuple[str, str]] = Counter()
        self._turns: dict[CallKey, asyncio.Lock] = defaultdict(asyncio.Lock)

    def shares(self, effect: SideEffect) -> bool:
        """Whether equal calls of such an API may share one observation."""
        if effect is SideEffect.READ:
            return not self._compat.repeat_equal_calls
        if effect is SideEffect.IDEMPOTENT and self._compat.repeat_equal_calls:
            return False
        return not self._compat.execute_writes_freely

    @asynccontextmanager
    async def turn(self, document: ApiDocument, arguments: str) -> AsyncIterator[None]:
        """Equal calls that may share an observation enter the block one after the other."""
        if not self.shares(document.side_effect):
            yield
            return
        async with self._turns[document.ref, canonical(arguments)]:
            yield

    def standing_for(self, document: ApiDocument, arguments: str, node: Node | None) -> Deed | None:
        """The deed whose observation stands for a call; `None` when the call must be made.

        Of a change that must not be made twice it is that change, wherever it was made.

        Args:
            document: The API.
            arguments: The model's text.
            node: Where the call is made, see `Site.node`.
        """
        effect = document.side_effect
        if not self.shares(effect):
            return None
        deeds = self._deeds[document.ref, canonical(arguments)]
        if effect in (SideEffect.WRITE, SideEffect.IRREVERSIBLE):
            once = next((deed for deed in reversed(deeds) if _may_have_changed(deed)), None)
            if once is not None:
                return once
        if deeds and _is_above(set().union(*(deed.relying for deed in deeds)), node):
            return None
        era = self._eras[_tool(document)]
        return next((deed for deed in reversed(deeds) if _still_holds(deed, era)), None)

    async def observe(self, document: ApiDocument, work: Awaitable[Observation]) -> Seen:
        """Carry out a call; what was seen of its tool before a change is out of date from then on.

        A change counts at both of its ends: what is seen meanwhile may be of before or after it.
        """
        tool, change = _tool(document), int(document.side_effect is not SideEffect.READ)
        self._eras[tool] += change
        began = self._eras[tool]
        try:
            observation = await work
        finally:
            self._eras[tool] += change
        ended = self._eras[tool]
        return Seen(observation, ended if ended == began + change else _NEVER)

    def enter(self, deed: Deed) -> None:
        """Keep what came of a call."""
        effect = deed.document.side_effect
        if self.shares(effect):
            self._deeds[deed.key].append(deed)
        if self._compat.execute_writes_freely or effect is SideEffect.READ:
            return
        if _may_have_changed(deed):
            self._changes.append(deed)

    def adopt(
        self, document: ApiDocument, arguments: str, observation: Observation, *, node: Node
    ) -> None:
        """Enter a change of the run that this one was forked from: not made again, nor undone.

        Each of the forked run's trees has it on its path; in the ledger it is one deed.

        Args:
            document: The API.
            arguments: The model's text.
            observation: As the path shows it.
            node: Its action input in one of the trees.
        """
        known = self.standing_for(document, arguments, None)
        if known is not None:
            known.relying.add(node)
            return
        self.enter(
            Deed(
                document=document,
                arguments=arguments,
                site=None,
                observation=observation,
                era=_NEVER,
                relying={node},
            )
        )

    def abandon(self, nodes: Collection[Node]) -> list[Deed]:
        """The changes on which only these nodes relied, newest first."""
        left = []
        for deed in reversed(self._changes):
            if deed.relying.intersection(nodes):
                deed.relying.difference_update(nodes)
                if not deed.relying:
                    left.append(deed)
        return left

    def everywhere(self) -> set[Node]:
        """Every node that relies on a change."""
        return {node for deed in self._changes for node in deed.relying}

    def undone(self, deed: Deed) -> None:
        """A change is no more; the same call would make it anew."""
        self._changes.remove(deed)
        if deed in self._deeds[deed.key]:
            self._deeds[deed.key].remove(deed)

    def untold(self, node: Node) -> list[Deed]:
        """Changes of abandoned branches that stand, and of which no history down to `node` tells.

        They count as told from now on.
        """
        if not self._changes:
            return []
        above = set(node.ancestors())
        found = [
            deed
            for deed in self._changes
            if deed.site is not None and not deed.relying and not deed.told.intersection(above)
        ]
        for deed in found:
            deed.told.add(node)
        return found


def interrupted() -> Seen:
    """What is known of a change that began and whose end nobody saw."""
    content = json.dumps({"error": _INTERRUPTED, "response": ""})
    observation = Observation(status=CallStatus.REQUEST_FAILED, content=content, source="error")
    return Seen(observation, _NEVER)


def canonical(arguments: str) -> str:
    """Arguments in a form that is equal when they mean the same: JSON with sorted keys.

    Text that is no JSON stands for itself.
    """
    try:
        return json.dumps(json.loads(arguments), sort_keys=True, separators=(",", ":"))
    except (ValueError, RecursionError):
        return arguments


def is_on_path(deed: Deed, node: Node | None) -> bool:
    """Whether the deed is part of the path that leads to `node`."""
    return _is_above(deed.relying, node)


def _is_above(relying: Collection[Node], node: Node | None) -> bool:
    """Whether the path that leads to `node` has one of these nodes; the nearest one ends it."""
    above = node.parent if node is not None else None
    return above is not None and any(each in relying for each in above.ancestors())


def inverse_arguments(deed: Deed) -> dict[str, JsonValue]:
    """The arguments of the call that undoes a deed, see `InverseCall`.

    Raises:
        ValueError: A value refers to a field that the deed's arguments or response do not have.
    """
    if deed.document.inverse is None:
        raise ValueError(f"no inverse is registered for {deed.document.ref}")
    known = {"$arguments": _arguments(deed), "$response": _response(deed.observation)}
    return {name: _filled(value, known) for name, value in deed.document.inverse.arguments.items()}


def _filled(value: JsonValue, known: dict[str, JsonValue]) -> JsonValue:
    if isinstance(value, dict):
        return {name: _filled(item, known) for name, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, known) for item in value]
    if not isinstance(value, str):
        return value
    source, *fields = value.split(".")
    if source not in known:
        return value
    found = known[source]
    for name in fields:
        if isinstance(found, dict) and name in found:
            found = found[name]
        elif isinstance(found, list) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        else:
            raise ValueError(f"{value!r}: there is no {name!r}")
    return found


def _arguments(deed: Deed) -> JsonValue:
    """The deed's arguments by the names that the model used, and by those of the document."""
    arguments = _parsed(deed.arguments)
    if isinstance(arguments, dict):
        document = deed.document
        for parameter in document.required_parameters + document.optional_parameters:
            shown = api_identifier(parameter.name)
            if shown in arguments:
                arguments.setdefault(parameter.name, arguments[shown])
    return arguments


def _response(observation: Observation) -> JsonValue:
    answer = _parsed(observation.content)
    response = answer.get("response") if isinstance(answer, dict) else None
    if not isinstance(response, str):
        return response
    inner = _parsed(response)  # an API whose answer is a text may have put JSON into it
    return inner if isinstance(inner, dict | list) else response


def _parsed(text: str) -> JsonValue:
    try:
        parsed: JsonValue = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return parsed


def _may_have_changed(deed: Deed) -> bool:
    return deed.observation.status not in _REFUSALS | _NOT_NOW


def _still_holds(deed: Deed, era: int) -> bool:
    return deed.era == era and deed.observation.status in _LASTING


def _tool(document: ApiDocument) -> tuple[str, str]:
    return document.ref.category, document.ref.tool
