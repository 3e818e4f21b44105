"""Shortens a conversation that the model's context does not hold.

Only what is sent is shortened; the tree keeps its histories whole. Calls and their answers stay
together, since servers refuse an answer without its call.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import chain
from typing import Final, Protocol

from services.contracts.llm import Message

_OLD_OBSERVATION_CHARS: Final = 400  # its beginning says what it is, its end how it went on
_LEAST_OBSERVATION_CHARS: Final = 80
_LEAST_WORDS_CHARS: Final = 400
_LEAST_QUESTION_CHARS: Final = 2_000  # what is asked for stands at its ends
_OBSERVATIONS: Final = frozenset({"tool"})
_WORDS: Final = frozenset({"assistant", "user"})
_MARK_CHARS: Final = 40  # of the mark in a trimmed text, at most
_TAIL_PART: Final = 4  # an answer's beginning says more than its end

TokensOf = Callable[[Message], float]
"""About how many tokens a message takes."""


class Compaction(Protocol):
    """A policy for conversations that are too long. Stateless."""

    def shorten(
        self, messages: tuple[Message, ...], *, excess_tokens: float, tokens_of: TokensOf
    ) -> tuple[Message, ...]:
        """The conversation with at least `excess_tokens` less, or as short as the policy allows.

        The opening (up to the instruction, which is the first user message) is kept as it is, every
        call keeps its answers, and the last message stays the last one.
        """
        ...


class OldestFirst:
    """See `Compaction`: what is oldest matters least.

    In turn, until it is enough: old observations are trimmed, whole old steps are left out with one
    line in their place, the last step's own observations are trimmed, then the words that are left:
    replies and what the search said, a question that stands last after all others.
    """

    def shorten(
        self, messages: tuple[Message, ...], *, excess_tokens: float, tokens_of: TokensOf
    ) -> tuple[Message, ...]:
        """See `Compaction.shorten`."""
        opening, steps = _split(messages)
        n_dropped, excess = _shorten_steps(steps, excess_tokens, tokens_of)
        line = [_left_out(n_dropped)] if n_dropped else []
        own = _n_kept(opening)
        rest = [*opening[own:], *line, *chain.from_iterable(steps[n_dropped:])]
        if not rest:
            return messages
        last = [rest.pop()]
        excess -= _trim(rest, excess, tokens_of, _WORDS, least_chars=_LEAST_WORDS_CHARS)
        _trim(last, excess, tokens_of, _WORDS, least_chars=_LEAST_QUESTION_CHARS)
        return (*opening[:own], *rest, *last)


def _shorten_steps(
    steps: list[list[Message]], excess: float, tokens_of: TokensOf
) -> tuple[int, float]:
    """Trim the observations of steps in place; how many steps to leave out, and what is left over.

    What trimming would save is reckoned first: only what stays is worth the work.
    """
    if not steps:
        return 0, excess
    old, n_dropped = steps[:-1], 0
    savable = [sum(_savable(message, tokens_of) for message in step) for step in old]
    left = sum(savable)
    if left < excess:
        excess += tokens_of(_left_out(len(steps)))
    while left < excess and n_dropped < len(old):
        left -= savable[n_dropped]
        excess -= sum(map(tokens_of, old[n_dropped]))
        n_dropped += 1
    for step in old[n_dropped:]:
        excess -= _trim(step, excess, tokens_of, least_chars=_OLD_OBSERVATION_CHARS)
    excess -= _trim(steps[-1], excess, tokens_of, least_chars=_LEAST_OBSERVATION_CHARS)
    return n_dropped, excess


def trimmed(text: str, *, kept_chars: int) -> str:
    """Head and tail of a text with a mark between them; never longer than the text.

    Args:
        text: Any text.
        kept_chars: Characters to keep, >= 1: three quarters at the beginning, the rest at the end.
    """
    missing = len(text) - kept_chars
    if missing <= 0:
        return text
    tail = kept_chars // _TAIL_PART
    cut = f"{text[: kept_chars - tail]} [... {missing} characters left out ...] "
    cut += text[len(text) - tail :]
    return cut if len(cut) < len(text) else text


def _split(messages: Sequence[Message]) -> tuple[Sequence[Message], list[list[Message]]]:
    """The opening, and the steps, which each begin with an assistant message."""
    steps: list[list[Message]] = []
    n_opening = 0
    for message in messages:
        if message.role == "assistant":
            steps.append([message])
        elif steps:
            steps[-1].append(message)
        else:
            n_opening += 1
    return messages[:n_opening], steps


def _n_kept(opening: Sequence[Message]) -> int:
    """How many messages of an opening are the run's own, up to the instruction."""
    for index, message in enumerate(opening, start=1):
        if message.role == "user":
            return index
    return len(opening)


def _savable(message: Message, tokens_of: TokensOf) -> float:
    """About how many tokens trimming an old observation saves."""
    kept = _OLD_OBSERVATION_CHARS + _MARK_CHARS
    if message.role != "tool" or not message.content or len(message.content) <= kept:
        return 0.0
    return tokens_of(message) * (1 - kept / len(message.content))


def _trim(
    step: list[Message],
    excess: float,
    tokens_of: TokensOf,
    roles: Collection[str] = _OBSERVATIONS,
    *,
    least_chars: int,
) -> float:
    """Trim texts of these roles as far as needed, in place; returns the tokens saved."""
    saved = 0.0
    for index, message in enumerate(step):
        needed = excess - saved
        if message.role not in roles or not message.content or needed <= 0:
            continue
        tokens = tokens_of(message)
        share = max(1.0 - needed / tokens, 0.0)
        kept = max(int(share * len(message.content)) - 2 * _MARK_CHARS, least_chars)
        text = trimmed(message.content, kept_chars=kept)
        step[index] = message.model_copy(update={"content": text})
        saved += tokens - tokens_of(step[index])
    return saved


def _left_out(n_steps: int) -> Message:
    return Message(role="user", content=f"[{n_steps} earlier steps are left out here.]")


def paired(messages: Iterable[Message]) -> tuple[Message, ...]:
    """The conversation without calls that have no answer in their step."""
    opening, steps = _split(tuple(messages))
    return (*opening, *chain.from_iterable(map(_with_answered_calls, steps)))


def _with_answered_calls(step: list[Message]) -> list[Message]:
    asked, rest = step[0], step[1:]
    answered = {message.tool_call_id for message in rest}
    calls = tuple(call for call in asked.tool_calls if call.id in answered)
    if len(calls) == len(asked.tool_calls):
        return step
    return [asked.model_copy(update={"tool_calls": calls}), *rest]
