"""Reads a model's reply: what it calls, with which arguments, and whether that can be carried out.

A reply whose text is merely untidy is used, tidied; one whose arguments cannot be read, or that was
cut off, is worth asking for again; one that names no function or breaks its schema is answered with
an observation. A reply without a call is a thought and is left alone.

Source: interop 3.1, 4.3 and 4.6. The reference takes replies as they come, which
`Compat.no_reply_repair` reproduces; of its repairs only the cut of a dotted name to its last part
is kept, where that names a function.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from pydantic import JsonValue

from services.contracts.compat import Compat
from services.contracts.llm import Completion, Message, MessageToolCall
from services.contracts.planner import ReplyReading
from services.contracts.toolbench.functions import FINISH
from services.contracts.toolenv import CallStatus
from services.planner.action_space import ActionSpace, Function
from services.planner.arguments import read_arguments, written
from services.planner.finish import run_finish
from services.planner.schema_check import SchemaCheck, schema_check

MAX_CALLS_PER_REPLY: Final = 64  # model output is hostile: a reply may not start an endless chain
MAX_REPAIRS: Final = 2
"""Times a model is asked again for one step."""
LONGER: Final = 2
"""A reply that was cut off may have so many times the tokens when it is asked for again."""

_CORRECTION: Final = (
    "Your last reply was not used: the arguments of {name} could not be read ({problem}). They "
    "began with {shown}. Reply again from the start. Write the arguments as one JSON object, with "
    "double quotes and nothing after it."
)
_CUT_OFF: Final = "the reply was cut off before its arguments ended; make it shorter"
_MAX_SHOWN_CHARS: Final = 200
_MAX_NAME_CHARS: Final = 256  # a name that is longer is not tidied
_ORNAMENTS: Final = " \t\r\n\"'`*"
_SPOKEN: Final = re.compile(
    r"^[ \t*`#]*Action[ \t]*:[ \t*`\"']*([^\s*`\"'():]{1,256})[^\n]{0,40}\n"
    r"[\s*`#]*Action[ \t_]Input[ \t]*:[ \t*`]*",
    re.IGNORECASE | re.MULTILINE,
)
_TAG: Final = "<tool_call>"
_FENCED: Final = re.compile(r"\A\s*```[a-z]*\s*")
# Of several calls in one reply, the worst one names the reply.
_WORST_FIRST: Final[tuple[ReplyReading, ...]] = (
    "truncated",
    "unreadable_arguments",
    "unknown_function",
    "schema_violation",
    "repaired",
)


class Reading(NamedTuple):
    """A reply as the search uses it."""

    message: Message
    """With tidied names and mended arguments; at most `MAX_CALLS_PER_REPLY` calls."""
    kind: ReplyReading
    refusals: tuple[str, ...] = ()
    """Why each call cannot be carried out, for the model; empty text where it can."""
    hidden: frozenset[int] = frozenset()
    """Calls whose arguments are no JSON: later requests show `{}` instead, because servers refuse
    conversations with such calls in them."""
    is_usable: bool = True
    """False when the reply is worth asking for again."""
    correction: Message | None = None
    """What to tell the model then; `None` where only its room was too small."""

    def shown(self) -> Message:
        """The message as later requests carry it."""
        if not self.hidden:
            return self.message
        calls = tuple(
            call.model_copy(update={"arguments": "{}"}) if index in self.hidden else call
            for index, call in enumerate(self.message.tool_calls)
        )
        return self.message.model_copy(update={"tool_calls": calls})


@dataclass(frozen=True, slots=True)
class _Call:
    call: MessageToolCall
    kind: ReplyReading
    refusal: str = ""
    is_json: bool = True


class Reader:
    """Reads the replies of one run. Never raises for what a reply holds."""

    def __init__(self, space: ActionSpace, compat: Compat) -> None:
        """Bind the functions that may be called; `compat` decides how much is mended."""
        self._space = space
        self._compat = compat
        self._checks: dict[str, SchemaCheck] = {}

    def read(self, completion: Completion) -> Reading:
        """What a reply says."""
        message = completion.message
        if len(message.tool_calls) > MAX_CALLS_PER_REPLY:
            first = message.tool_calls[:MAX_CALLS_PER_REPLY]
            message = message.model_copy(update={"tool_calls": first})
        is_cut = completion.finish_reason == "length"
        if self._compat.no_reply_repair:
            return Reading(message, self._kind_as_it_is(message, is_cut=is_cut))
        spoken = None if message.tool_calls else self._spoken(message)
        message = spoken or message
        if not message.tool_calls:
            return Reading(message, "truncated" if is_cut else "no_action", is_usable=not is_cut)
        calls = _distinct([self._call(call, is_cut=is_cut) for call in message.tool_calls])
        is_tidied = spoken is not None or len(calls) < len(message.tool_calls)
        kind = _worst([call.kind for call in calls], is_tidied=is_tidied)
        tidy = _identified([one.call for one in calls])
        if tidy != message.tool_calls:
            message = message.model_copy(update={"tool_calls": tidy})
        if is_cut and kind in {"well_formed", "repaired"}:
            kind = "truncated"  # used all the same: what was cut off came after the calls
        return Reading(
            message,
            kind,
            refusals=tuple(one.refusal for one in calls),
            hidden=frozenset(n for n, one in enumerate(calls) if not one.is_json),
            is_usable=all(one.kind not in {"truncated", "unreadable_arguments"} for one in calls),
            correction=_correction(calls),
        )

    def refusal(self, call: MessageToolCall) -> str:
        """Why a call that the search put together cannot be carried out; empty when it can."""
        if self._compat.no_reply_repair:
            return ""
        return self._call(call, is_cut=False).refusal

    def _kind_as_it_is(self, message: Message, *, is_cut: bool) -> ReplyReading:
        """The class of a reply of which nothing is mended."""
        if is_cut:
            return "truncated"
        if not message.tool_calls:
            return "no_action"
        kinds = [self._plain_kind(call) for call in message.tool_calls]
        return _worst(kinds, is_tidied=False)

    def _plain_kind(self, call: MessageToolCall) -> ReplyReading:
        arguments = read_arguments(call.arguments)
        if arguments.fields is None or arguments.is_mended:
            return "unreadable_arguments"
        known = call.name == FINISH or self._space.find(call.name) is not None
        return "well_formed" if known else "unknown_function"

    def _call(self, call: MessageToolCall, *, is_cut: bool) -> _Call:
        function = self._function(call.name)
        name = function.schema.name if function is not None else call.name
        arguments = read_arguments(call.arguments)
        read = call
        if name != call.name or arguments.is_mended:
            read = call.model_copy(update={"name": name, "arguments": arguments.text})
        if function is None:
            # The action runner tells the near names; what it was called with does not matter.
            return _Call(call, "unknown_function", is_json=arguments.fields is not None)
        if is_cut and not (arguments.fields is not None and arguments.is_whole):
            return _Call(call, "truncated", _CUT_OFF, is_json=False)
        if arguments.fields is None:
            return _Call(read, "unreadable_arguments", arguments.problem, is_json=False)
        if function.api is None:
            return _finish(read, is_tidied=read is not call)
        return self._checked(function, read, arguments.fields, is_tidied=read is not call)

    def _checked(
        self,
        function: Function,
        call: MessageToolCall,
        fields: dict[str, JsonValue],
        *,
        is_tidied: bool,
    ) -> _Call:
        if self._compat.toolbench_prompts:  # the schema shown is ToolBench's, which binds nothing
            return _Call(call, "repaired" if is_tidied else "well_formed")
        check = self._checks.get(call.name)
        if check is None:
            check = self._checks[call.name] = schema_check(function.schema.parameters)
        checked = check.check(fields)
        if checked.problem:
            return _Call(call, "schema_violation", checked.problem)
        if checked.is_converted:
            call = call.model_copy(update={"arguments": written(checked.fields)})
        return _Call(call, "repaired" if is_tidied or checked.is_converted else "well_formed")

    def _function(self, name: str) -> Function | None:
        """The function of that name, else of the tidied one: quotes, `()` and prefixes removed."""
        found = self._space.find(name)
        if found is not None or len(name) > _MAX_NAME_CHARS:
            return found
        bare = name.strip(_ORNAMENTS).removesuffix("()").strip(_ORNAMENTS)
        for tidied in (bare, bare.rpartition(".")[2]):
            found = self._space.find(tidied) if tidied else None
            if found is not None:
                return found
        return None

    def _spoken(self, message: Message) -> Message | None:
        """The reply whose text holds a call that the server did not take out; the first one.

        Only the name of a function makes text a call: prose about actions stays a thought.
        """
        text = message.content or ""
        found = _SPOKEN.search(text)
        if found is not None:
            name, start, arguments = found[1], found.start(), text[found.end() :]
        else:
            tagged = _tagged(text)
            if tagged is None:
                return None
            name, start, arguments = tagged
        if self._function(name) is None:
            return None
        thought = text[:start].strip().removeprefix("Thought:").strip()
        call = MessageToolCall(id="", name=name, arguments=arguments)
        return message.model_copy(update={"content": thought, "tool_calls": (call,)})


def _tagged(text: str) -> tuple[str, int, str] | None:
    """Name, place and arguments of a call that was written as one JSON object."""
    start = text.find(_TAG)
    fence = _FENCED.match(text)
    at = start + len(_TAG) if start >= 0 else fence.end() if fence else 0
    start = max(start, 0)
    if not text[at:].lstrip().startswith("{"):
        return None
    fields = read_arguments(text[at:]).fields or {}
    name, arguments = fields.get("name"), fields.get("arguments", fields.get("parameters"))
    if not isinstance(name, str):
        return None
    return name, start, arguments if isinstance(arguments, str) else json.dumps(arguments)


def _finish(call: MessageToolCall, *, is_tidied: bool) -> _Call:
    """Finish says itself what is wrong with its arguments."""
    status = run_finish(call.arguments, repair=False).status
    if status is CallStatus.INVALID_ARGUMENTS:
        return _Call(call, "schema_violation")
    return _Call(call, "repaired" if is_tidied else "well_formed")


def _distinct(calls: Sequence[_Call]) -> list[_Call]:
    """Each call once: models that call in parallel repeat themselves."""
    found: dict[tuple[str, str], _Call] = {}
    for one in calls:
        found.setdefault((one.call.name, one.call.arguments), one)
    return list(found.values())


def _identified(calls: Sequence[MessageToolCall]) -> tuple[MessageToolCall, ...]:
    """The calls with ids that are not empty and differ, as servers demand of a conversation."""
    used: set[str] = set()
    found = []
    for index, call in enumerate(calls):
        wanted = call.id or f"call_{index}"
        unique, n = wanted, 0
        while unique in used:
            n += 1
            unique = f"{wanted}_{n}"
        used.add(unique)
        found.append(call if unique == call.id else call.model_copy(update={"id": unique}))
    return tuple(found)


def _worst(kinds: Sequence[ReplyReading], *, is_tidied: bool) -> ReplyReading:
    for kind in _WORST_FIRST:
        if kind in kinds:
            return kind
    return "repaired" if is_tidied else "well_formed"


def _correction(calls: Sequence[_Call]) -> Message | None:
    for one in calls:
        if one.kind == "unreadable_arguments":
            text = _CORRECTION.format(
                name=one.call.name,
                problem=one.refusal,
                shown=json.dumps(one.call.arguments[:_MAX_SHOWN_CHARS], ensure_ascii=False),
            )
            return Message(role="user", content=text)
    return None


def in_unicode(completion: Completion) -> Completion:
    """The completion without halves of surrogate pairs, which nothing can write down."""
    message = completion.message
    texts = [message.content or ""]
    for call in message.tool_calls:
        texts += (call.id, call.name, call.arguments)
    if all(text.isascii() or _is_unicode(text) for text in texts):
        return completion
    content = None if message.content is None else _cleaned(message.content)
    calls = tuple(
        MessageToolCall(
            id=_cleaned(call.id), name=_cleaned(call.name), arguments=_cleaned(call.arguments)
        )
        for call in message.tool_calls
    )
    cleaned = message.model_copy(update={"content": content, "tool_calls": calls})
    return completion.model_copy(update={"message": cleaned})


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _cleaned(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
