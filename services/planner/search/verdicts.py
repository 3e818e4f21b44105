"""Reads what a judge decided from the words of its reply.

Every question asks for a form at the end of the reply. That form wins, the last one if there are
several, since a judge that thinks aloud corrects itself; in round brackets it counts least. Only a
reply without it is read by what people say instead: "B is the better one", "I would go with attempt
2". A reply that names candidates and prefers none of them is no verdict: the neutral verdict costs
less than a wrong one. Letters count as capitals that stand alone, because `a` is a word.
"""

import re
from collections.abc import Sequence
from typing import Final

from services.planner.prompts.ranking import BEST_SCORE

_MAX_READ_CHARS: Final = 2_000  # of each end of a reply; the verdict is asked for at its end
_MAX_LINES: Final = 200  # of an imagined plan
_ASIDE: Final = re.compile(r"\([^()\n]*\)")
_LISTED_STEP: Final = re.compile(r"\s*(?:\d{1,3}\s*[.):]|[-*•])\s*\S")

_MARKS: Final = r"[^\w\n.!?;]{0,9}"  # quotes, stars, colons, spaces
_QUOTES: Final = r"[*_\"'`]{0,3}"
_NAME: Final = r"(?i:the\s+)?(?i:(?:attempts?|options?|candidates?|number|no\.)[^\w\n]{0,4})?"
_LINK: Final = r"(?:[^\w\n.!?;]{0,4}\b(?i:is|was|would be|remains|goes to)\b|[*_`\"']*\s?[:=>–—-])"
_GOOD: Final = (
    r"(?i:better|best|stronger|strongest|superior|preferable|ahead|closer|closest|winner"
    r"|(?:more|most) (?:promising|complete|convincing|correct))"
)
_CHOOSE: Final = (
    r"(?<!not )(?<!n't )\b(?i:choose|chose|pick|prefer|select|recommend|favou?r|in favou?r of"
    r"|go(?:es|ing)? (?:with|to)|votes? for)\b"
)
_SO: Final = (
    r"\b(?i:so|hence|thus|therefore|conclusion|overall|finally|it is|it's|it must be)[^\w\n]{1,3}"
    r"(?i:it is\s+|it's\s+)?"
)
_BECAUSE: Final = rf"{_QUOTES}(?:[.:,;)\n]|\s*[–—-]\s|\s+(?i:because|since|as)\b)"


class _Candidates:
    """Reads which of several candidates a reply prefers."""

    def __init__(self, token: str, *, label: str = "") -> None:
        """Compile the forms, the surest first.

        Args:
            token: A candidate's letter or number, as a pattern.
            label: The word before the choice, in the form asked for; without one that form is the
                candidate alone at the end.
        """
        one = rf"(?<![\w.,'’-]){token}(?!\w|[.,]\d)"
        sure = rf"{_NAME}({one})(?!\s*(?:(?i:or)\b|[/&])\s*{_NAME}{one})"
        said = (
            rf"{_CHOOSE}{_MARKS}{sure}",
            rf"(?:{_GOOD}|\b(?i:answer|verdict|choice|decision|vote))"
            rf"(?:\s+(?i:one|attempt|option|candidate))?{_LINK}{_MARKS}{sure}",
            rf"{sure}{_QUOTES}\s+(?i:is|was|looks|seems|appears|did|does|performs|performed)"
            rf"(?:\s+(?!(?i:not|no|less|worse)\b)\w+){{0,3}}?\s+{_GOOD}\b",
            rf"{sure}{_QUOTES}\s+(?i:wins|beats|outperforms)\b",
            rf"\b(?i:worse|weaker|poorer|less \w{{1,20}}) than\s+{sure}",
            rf"{_SO}{sure}\W*\Z",
        )
        forms = [rf"(?:\A|\n|[.!?;]\s)[^\w\n]*(?:boxed\{{)?{_NAME}({one})\W*\Z", "|".join(said)]
        if label:
            forms.insert(0, rf"\b(?i:{label}){_LINK}{_MARKS}{sure}")
        self._forms = [re.compile(form) for form in forms]
        self._leading = re.compile(rf"^[^\w\n]*{_NAME}({one}){_BECAUSE}", re.MULTILINE)

    def read(self, text: str) -> str | None:
        """The preferred candidate's letter or number; `None` when it cannot be told."""
        found = _last_match(self._forms, text)
        if found is not None:
            return next(group for group in found.groups() if group)
        # "B. It has the rate." is a verdict; an entry of a list that has others too is none.
        start = text[:_MAX_READ_CHARS]
        leading = self._leading.findall(start)
        is_first = self._leading.match(start) is not None
        return str(leading[0]) if is_first and len(set(leading)) == 1 else None


def _last_match(forms: Sequence[re.Pattern[str]], text: str) -> re.Match[str] | None:
    """The last match of the first form that occurs, outside round brackets if it does there."""
    end = text[-_MAX_READ_CHARS:]
    without_asides = _ASIDE.sub(" ", end)
    for form in forms:
        for read in (without_asides, end):
            if matches := list(form.finditer(read)):
                return matches[-1]
    return None


_VOTES: Final = _Candidates("[AB]")
_CHOICES: Final = _Candidates(r"\d{1,3}", label="choice")
_AMOUNT: Final = r"(?<![\w.,-])(\d{1,4}(?:[.,]\d{1,4})?)(?!\w|[.,]\d)"
_SCALE: Final = r"(?:\s*(?:/|(?i:out\s+of|of))\s*(\d{1,4})\b)?"
_SCORE: Final = rf"{_AMOUNT}{_SCALE}(?!\s*(?:-|–|(?i:to|or)\b)\s*\d)"
_OF: Final = rf"{_MARKS}(?:\b(?i:is|of|as|would be)\b{_MARKS})?"
_SCORES: Final = tuple(
    re.compile(form)
    for form in (
        rf"\b(?i:score){_OF}{_SCORE}",
        rf"(?:\A|\n|[.!?;]\s)[^\w\n-]*{_SCORE}\W*\Z",
        rf"{_AMOUNT}\s*(?:/|(?i:out\s+of))\s*(10)\b",
        rf"\b(?i:rating|grade|value){_LINK}{_OF}{_SCORE}",
        r"\b(?i:(?:I|I'd|I would) (?:say|rate|score|grade|give|assign)|deserves|gets|earns)"
        rf"(?:\s+(?i:it|this|the|one|attempt|an?|score|at|as)\b){{0,5}}\s+{_QUOTES}{_SCORE}",
        rf"\A[^\w\n-]*{_SCORE}{_BECAUSE}",
    )
)


def read_vote(text: str, *, strict: bool) -> str | None:
    """`a` or `b`, the better attempt; `None` when the reply prefers neither.

    Args:
        text: The judge's reply.
        strict: Look at the last character only, as the reference does (interop 5.5).
    """
    if strict or len(text.strip()) == 1:
        last = text.strip().lower()[-1:]
        return last if last in {"a", "b"} else None
    vote = _VOTES.read(text)
    return vote.lower() if vote is not None else None


def read_choice(text: str, *, count: int) -> int | None:
    """The chosen number, 1..count; `None` when the reply chooses none of them."""
    number = _CHOICES.read(text)
    return int(number) if number is not None and 1 <= int(number) <= count else None


def read_score(text: str) -> float | None:
    """The score in a reply, 1..`BEST_SCORE`; `None` without one, or when it is out of range.

    A score on another scale, as in `4/5`, is converted to this one.
    """
    found = _last_match(_SCORES, text)
    return _on_scale(*found.groups()) if found is not None else None


def _on_scale(amount: str, scale: str | None) -> float | None:
    score = float(amount.replace(",", "."))
    if scale is not None:
        score *= BEST_SCORE / max(int(scale), 1)
    return score if 1 <= score <= BEST_SCORE else None


def read_steps(text: str) -> int | None:
    """How many steps a reply lists, 1..`_MAX_LINES`; `None` when it lists none."""
    lines = text.splitlines()[:_MAX_LINES]
    return sum(_LISTED_STEP.match(line) is not None for line in lines) or None
