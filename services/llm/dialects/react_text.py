"""Reads ReAct text (`Thought: … Action: … Action Input: …`) into a message, piece by piece.

The message depends on the text alone, not on how it was split: a decision is taken only when the
characters that settle it are there, and none of the markers can reach over the end of the JSON.
"""

import re
from collections.abc import Iterator
from enum import StrEnum

from services.contracts.llm import Message, MessageToolCall

# Models vary case, spaces and emphasis. Nothing may be optional after a colon: what is read would
# depend on how the text was split.
_LEAD = r"[ \t*#]{0,4}"
_COLON = r"[ *]{0,3}:"
_THOUGHT = re.compile(rf"\A{_LEAD}Thought{_COLON}\**", re.IGNORECASE)
_ACTION = rf"(?:\A|\n){_LEAD}Action{_COLON}"
_INPUT = rf"Action[ _-]?Input{_COLON}"
# Roles and steps that a model writes when it goes on to imagine what happens after its call.
_NEXT_TURN = rf"\n{_LEAD}(?:Thought|Action|Observation|Function|User|System|Assistant){_COLON}"
_IMAGINED = re.compile(rf"\n{_LEAD}Observation{_COLON}", re.IGNORECASE)
_AGAIN = re.compile(rf"\n{_LEAD}Action{_COLON}", re.IGNORECASE)
_FENCE = re.compile(r"`{0,3}[A-Za-z]{0,10}\s*")
_LONGEST_MARKER_CHARS = 24  # a search resumes this far back, so that no split hides a marker
_MAX_NAME_CHARS = 256  # four times what a function name may have
_ORNAMENTS = " \t\r\n*`"


class _State(StrEnum):
    THOUGHT = "thought"
    ACTION = "action"
    INPUT = "input"
    JSON = "json"
    DONE = "done"


class ReactTextParser:
    """See `ReplyParser`.

    Text without a readable action gives a message with the whole text as its content and no call.
    """

    def __init__(self, *, call_id: str, end_text: str | None = "</s>") -> None:
        """Read one reply.

        Args:
            call_id: Id of its call.
            end_text: Text that ends the reply; `None` where the end is no text but a token.
        """
        self._call_id = call_id
        self._action_or_end = _any_of(_ACTION, end_text)
        self._input_or_end = _any_of(_INPUT, end_text)
        self._next_turn = _any_of(_NEXT_TURN, end_text)
        self._end_text = end_text
        self._text = ""
        self._state = _State.THOUGHT
        self._resume = 0
        self._action_marker = 0
        self._action_start = 0
        self._input_marker = 0
        self._input_start: int | None = None
        self._end: int | None = None
        self._depth = 0
        self._quote = ""
        self._before = ""
        self._is_escaped = False

    @property
    def is_complete(self) -> bool:
        """See `ReplyParser.is_complete`."""
        return self._state is _State.DONE

    def feed(self, text: str) -> None:
        """See `ReplyParser.feed`."""
        if self._state is _State.DONE:
            return
        self._text += text
        while self._advance():
            pass

    def _advance(self) -> bool:
        """Take the next decision; False when it needs more text, or none is left."""
        match self._state:
            case _State.THOUGHT:
                return self._find_action()
            case _State.ACTION:
                return self._find_input()
            case _State.INPUT:
                return self._find_value()
            case _State.JSON:
                return self._find_json_end()
            case _State.DONE:
                return False

    def _search(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.search(self._text, self._resume)
        if found is None:
            floor = max(self._action_start, self._input_start or 0)
            self._resume = max(self._resume, floor, len(self._text) - _LONGEST_MARKER_CHARS)
        return found

    def _find_action(self) -> bool:
        found = self._search(self._action_or_end)
        if found is None:
            return False
        if found.group() == self._end_text:
            return self._finish(found.start())
        self._action_marker, self._action_start = found.span()
        self._resume = self._action_start
        self._state = _State.ACTION
        return True

    def _find_input(self) -> bool:
        found = self._search(self._input_or_end)
        if found is None:
            return False
        if found.group() == self._end_text:
            return self._finish(found.start())
        self._input_marker, self._input_start = found.span()
        self._resume = self._input_start
        self._state = _State.INPUT
        return True

    def _find_value(self) -> bool:
        """Whether the input is JSON shows in its first character, a code fence left out."""
        assert self._input_start is not None
        value = self._text[self._input_start :].lstrip(_ORNAMENTS.replace("`", ""))
        if value.startswith("`") and (fence := _FENCE.match(value)) is not None:
            value = value[fence.end() :]
        if value[:1] in ("{", "["):
            self._input_start = self._resume = len(self._text) - len(value)
            self._state = _State.JSON
            return True
        found = self._search(self._next_turn)
        return False if found is None else self._finish(found.start())

    def _find_json_end(self) -> bool:
        found = self._next_turn.search(
            self._text, max(self._resume - _LONGEST_MARKER_CHARS, self._input_start or 0)
        )
        stop = len(self._text) if found is None else found.start()
        for index in range(self._resume, stop):
            if self._closes(self._text[index]):
                return self._finish(index + 1)
        self._resume = len(self._text)
        return False if found is None else self._finish(found.start())

    def _closes(self, char: str) -> bool:
        """Take one character of JSON, or of Python's spelling of it; True when it ends the value.

        An apostrophe opens a string only where one may stand, so that those in words do not.
        """
        if self._quote:
            if self._is_escaped:
                self._is_escaped = False
            elif char == "\\":
                self._is_escaped = True
            elif char == self._quote:
                self._quote = ""
        elif char == '"' or (char == "'" and self._before in "{[,:"):
            self._quote = char
        elif not char.isspace():
            self._depth += (char in "{[") - (char in "}]")
            self._before = char
            return self._depth == 0
        return False

    def _finish(self, end: int) -> bool:
        self._end = end
        self._state = _State.DONE
        return False

    def message(self) -> Message:
        """See `ReplyParser.message`."""
        text = self._text[: self._end]
        call = self._call(text)
        if call is None:
            return Message(role="assistant", content=_without_marker(_IMAGINED.split(text, 1)[0]))
        thought = text[: self._last_action_marker(text)]
        return Message(role="assistant", content=_without_marker(thought), tool_calls=(call,))

    def _last_action_marker(self, text: str) -> int:
        """A model that starts its action line twice means the later one."""
        again = [found.start() for found in self._again(text)]
        return again[-1] if again else self._action_marker

    def _again(self, text: str) -> Iterator[re.Match[str]]:
        return _AGAIN.finditer(text, self._action_start, self._input_marker)

    def _call(self, text: str) -> MessageToolCall | None:
        if self._input_start is None:
            return None
        start = [self._action_start, *(found.end() for found in self._again(text))][-1]
        name = text[start : self._input_marker].strip(_ORNAMENTS)
        if not 0 < len(name) <= _MAX_NAME_CHARS or "\n" in name:
            return None
        arguments = text[self._input_start :].strip()
        return MessageToolCall(id=self._call_id, name=name, arguments=arguments)


def _any_of(pattern: str, end_text: str | None) -> re.Pattern[str]:
    return re.compile(f"(?i:{pattern})|{re.escape(end_text)}" if end_text else f"(?i:{pattern})")


def _without_marker(text: str) -> str:
    return _THOUGHT.sub("", text.strip(), count=1).strip()


class ReferenceReactParser:
    """ToolBench's own reading of the same text, for runs that must equal published ones.

    It looks for each marker once and uses position -1 as if it were one, so malformed text gives a
    call with garbage in it.

    Source: ToolBench `react_parser`, described by its behaviour on well-formed and broken text.
    """

    def __init__(self, *, call_id: str) -> None:
        """Read one reply whose call gets the id `call_id`."""
        self._call_id = call_id
        self._pieces: list[str] = []

    @property
    def is_complete(self) -> bool:
        """Never: all text up to the end of the reply goes into the arguments."""
        return False

    def feed(self, text: str) -> None:
        """See `ReplyParser.feed`."""
        self._pieces.append(text)

    def message(self) -> Message:
        """See `ReplyParser.message`."""
        text = "".join(self._pieces)
        thought = _between(text, "Thought: ", "\nAction: ")
        name = _between(text, "Action: ", "\nAction Input: ")
        arguments = text[text.find("Action Input: ") + len("Action Input: ") :]
        call = MessageToolCall(id=self._call_id, name=name, arguments=arguments)
        return Message(role="assistant", content=thought, tool_calls=(call,))


def _between(text: str, start: str, end: str) -> str:
    return text[text.find(start) + len(start) : text.find(end)]
