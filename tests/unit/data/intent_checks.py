"""Checks of the bundled tools and task templates ("intents"), shared by their test files.

A check returns the list of what is wrong, each entry naming the intent, so that a test asserts that
the list is empty and a failure shows everything at once.
"""

import datetime as dt
import functools
import hashlib
import importlib.util
import json
import random
import re
import string
from pathlib import Path
from types import ModuleType
from typing import Any

DATA = Path(__file__).resolve().parents[3] / "data"
TOOLS = DATA / "toolenv" / "tools"
INTENTS = DATA / "instructions" / "intents"
VOCABULARIES = DATA / "instructions" / "vocabularies"

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")
_MINIMUM_PHRASINGS = {
    "G1": {"train": 14, "dev": 2, "test": 3},
    "G2": {"train": 10, "dev": 1, "test": 2},
    "G3": {"train": 10, "dev": 1, "test": 2},
}
_TRANSFER_PHRASINGS = 5
_MINIMUM_OPEN_VALUES = 60
_SLOT_KEYS = {
    "number": {"minimum", "maximum", "decimals"},
    "integer": {"minimum", "maximum"},
    "numbers": {"count_minimum", "count_maximum", "minimum", "maximum"},
    "choice": {"values"},
    "vocabulary": {"name"},
    "words": {"minimum", "maximum"},
    "date": {"minimum_year", "maximum_year"},
}


@functools.cache
def load_module(tool: str) -> ModuleType:
    """The `api.py` of a tool given as `Category/tool`, imported from its path."""
    path = TOOLS / tool / "api.py"
    spec = importlib.util.spec_from_file_location("bundled_" + tool.replace("/", "_"), path)
    assert spec is not None and spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.cache
def load_documents() -> dict[str, dict[str, Any]]:
    """Every API document of the bundled tools by its address `Category/tool/api`."""
    documents = {}
    for path in sorted(TOOLS.glob("*/*.json")):
        for api in json.loads(path.read_text(encoding="utf-8"))["api_list"]:
            documents[f"{path.parent.name}/{path.stem}/{api['name']}"] = api
    return documents


@functools.cache
def load_vocabulary(name: str) -> list[str]:
    """The strings of one vocabulary."""
    values: list[str] = json.loads((VOCABULARIES / f"{name}.json").read_text(encoding="utf-8"))
    return values


@functools.cache
def load_intents(name: str) -> list[dict[str, Any]]:
    """The intents of `data/instructions/intents/<name>.json`."""
    data = json.loads((INTENTS / f"{name}.json").read_text(encoding="utf-8"))
    intents: list[dict[str, Any]] = data["intents"]
    return intents


@functools.cache
def train_words() -> frozenset[str]:
    """Every word of every train phrasing of every intent file, lower-case."""
    words: set[str] = set()
    for path in INTENTS.glob("*.json"):
        for intent in load_intents(path.stem):
            for phrasing in intent["phrasings"].get("train", []):
                words.update(_words(phrasing))
    return frozenset(words)


def seeded(intent: dict[str, Any], round_: int = 0) -> random.Random:
    """A random generator that depends on the intent's id only, so that failures repeat."""
    digest = hashlib.sha256(f"{intent['intent_id']}/{round_}".encode()).digest()
    return random.Random(int.from_bytes(digest[:8], "big"))


def sample_slots(intent: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """One value for every slot: int or float for numbers, else str; honours `differs_from`."""
    values: dict[str, Any] = {}
    for name, slot in intent["slots"].items():
        value = _sample(slot, rng)
        while value == values.get(slot.get("differs_from", ""), object()):
            value = _sample(slot, rng)
        values[name] = value
    return values


def run_plan(intent: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """The values and all that the plan binds; AssertionError when a step fails altogether."""
    known = dict(values)
    for step in intent["plan"]:
        outcomes = [_try_call(call, known) for call in step["calls"]]
        successes = [outcome for outcome in outcomes if isinstance(outcome, dict)]
        assert successes, f"{intent['intent_id']} with {known}: {outcomes}"
        known.update(successes[0])
    return known


def alternative_disagreements(intent: dict[str, Any], values: dict[str, Any]) -> list[str]:
    """Steps whose successful alternatives differ by more than one part in 1000."""
    known, wrong = dict(values), []
    for step in intent["plan"]:
        bound = [
            b for b in (_try_call(call, known) for call in step["calls"]) if isinstance(b, dict)
        ]
        wrong += [
            f"{intent['intent_id']}: {bound[0]} or {b}"
            for b in bound[1:]
            if not _alike(bound[0], b)
        ]
        known.update(bound[0])
    return wrong


def answer_problems(intent: dict[str, Any], known: dict[str, Any]) -> list[str]:
    """Answer values that are not bound, not of their kind, or stand in a slot already."""
    answer, name, wrong = intent["answer"], intent["intent_id"], []
    for key in answer["numbers"]:
        if not isinstance(known.get(key), int | float):
            wrong.append(f"{name}: answer number {key!r} is {known.get(key)!r}")
    slots = " | ".join(str(known[slot]) for slot in intent["slots"])
    for key in answer["contains"]:
        if not isinstance(known.get(key), str) or re.search(rf"\b{re.escape(known[key])}\b", slots):
            wrong.append(f"{name}: answer text {key!r} is {known.get(key)!r} with slots {slots!r}")
    return wrong


def structure_problems(intent: dict[str, Any], stem: str) -> list[str]:
    """What is wrong with an intent's id, group, slots, plan and answer."""
    name, wrong = intent["intent_id"], []
    if not name.startswith(stem + "."):
        wrong.append(f"{name}: the id must start with {stem!r}")
    if not intent["answer"]["numbers"] and not intent["answer"]["contains"]:
        wrong.append(f"{name}: the answer has nothing to check")
    for slot_name, slot in intent["slots"].items():
        wrong += [f"{name}: {text}" for text in _slot_problems(slot_name, slot, intent["slots"])]
    return wrong + _plan_problems(intent) + _group_problems(intent)


def phrasing_problems(intent: dict[str, Any]) -> list[str]:
    """Phrasings that are too few, repeated, or do not hold each slot exactly once and no digits."""
    name, phrasings, wrong = intent["intent_id"], intent["phrasings"], []
    needed = {"transfer": _TRANSFER_PHRASINGS}
    if "transfer" not in phrasings:
        needed = _MINIMUM_PHRASINGS[intent["group"]]
    wrong += [
        f"{name}: {len(phrasings.get(split, []))} {split} phrasings, need {count}"
        for split, count in needed.items()
        if len(phrasings.get(split, [])) < count
    ]
    texts = [text for split in phrasings.values() for text in split]
    wrong += [f"{name}: repeated {text!r}" for text in sorted(set(texts)) if texts.count(text) > 1]
    for text in texts:
        if sorted(_PLACEHOLDER.findall(text)) != sorted(intent["slots"]):
            wrong.append(f"{name}: {text!r} must hold each of {sorted(intent['slots'])} once")
        if any(c in string.digits for c in _PLACEHOLDER.sub("", text)):
            wrong.append(f"{name}: {text!r} holds digits")
    return wrong


def unknown_words(intent: dict[str, Any]) -> list[str]:
    """Words of dev and test phrasings that no train phrasing of any intent uses."""
    texts = intent["phrasings"].get("dev", []) + intent["phrasings"].get("test", [])
    words = {word for text in texts for word in _words(text)}
    return [f"{intent['intent_id']}: {word!r}" for word in sorted(words - train_words())]


def document_problems(tool: str) -> list[str]:
    """Where a tool's document and its `api.py` differ or break the naming and length rules."""
    document = json.loads((TOOLS / f"{tool}.json").read_text(encoding="utf-8"))
    stem = tool.rsplit("/", 1)[-1]
    wrong = []
    if not stem == document["tool_name"] == document["standardized_name"]:
        wrong.append(f"{tool}: tool_name and standardized_name must be {stem!r}")
    for api in document["api_list"]:
        parameters = [p["name"] for p in api["required_parameters"] + api["optional_parameters"]]
        function = getattr(load_module(tool), api["name"], None)
        code = getattr(function, "__code__", None)
        if code is None or list(code.co_varnames[: code.co_argcount]) != parameters:
            wrong.append(
                f"{tool}/{api['name']}: api.py has no function with parameters {parameters}"
            )
        if not 2 <= len(api["description"].split()) <= 12:
            wrong.append(f"{tool}/{api['name']}: description needs 2 to 12 words")
    return wrong


def _words(phrasing: str) -> list[str]:
    return _WORD.findall(_PLACEHOLDER.sub(" ", phrasing).lower())


def _sample(slot: dict[str, Any], rng: random.Random) -> Any:
    kind = slot["kind"]
    if kind == "number":
        value = round(rng.uniform(slot["minimum"], slot["maximum"]), slot["decimals"])
        return value if slot["decimals"] else int(value)
    if kind == "integer":
        return rng.randint(slot["minimum"], slot["maximum"])
    if kind == "numbers":
        count = rng.randint(slot["count_minimum"], slot["count_maximum"])
        return ", ".join(str(rng.randint(slot["minimum"], slot["maximum"])) for _ in range(count))
    if kind == "choice":
        return rng.choice(slot["values"])
    if kind == "vocabulary":
        return rng.choice(load_vocabulary(slot["name"]))
    if kind == "words":
        count = rng.randint(slot["minimum"], slot["maximum"])
        return " ".join(rng.sample(load_vocabulary("words"), count))
    first = dt.date(slot["minimum_year"], 1, 1)
    last = dt.date(slot["maximum_year"], 12, 31)
    return (first + dt.timedelta(days=rng.randint(0, (last - first).days))).isoformat()


def _fill(template: str, known: dict[str, Any]) -> Any:
    whole = _PLACEHOLDER.fullmatch(template)
    if whole is not None:
        return known[whole[1]]
    return _PLACEHOLDER.sub(lambda match: str(known[match[1]]), template)


def _try_call(call: dict[str, Any], known: dict[str, Any]) -> dict[str, Any] | str:
    """What the call binds, or its error's text."""
    tool, api = call["api"].rsplit("/", 1)
    arguments = {key: _fill(value, known) for key, value in call["arguments"].items()}
    try:
        result = getattr(load_module(tool), api)(**arguments)
    except (ValueError, LookupError, RuntimeError) as error:
        return f"{api}: {error}"
    return {name: result[field] for name, field in call["bind"].items()}


def _alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(
        abs(one[key] - value) <= 1e-3 * abs(value)
        if isinstance(value, int | float)
        else one[key] == value
        for key, value in other.items()
    )


def _slot_problems(name: str, slot: dict[str, Any], slots: dict[str, Any]) -> list[str]:
    kind = slot["kind"]
    if kind not in _SLOT_KEYS:
        return [f"slot {name!r} has kind {kind!r}, known are {sorted(_SLOT_KEYS)}"]
    expected = _SLOT_KEYS[kind] | {"kind"}
    optional = {"differs_from"} | ({"closed"} if kind == "choice" else set())
    wrong = []
    if not expected <= set(slot) <= expected | optional:
        wrong.append(f"slot {name!r} has keys {sorted(slot)}, needs {sorted(expected)}")
    if slot.get("differs_from", name) not in slots:
        wrong.append(f"slot {name!r} differs from the unknown slot {slot['differs_from']!r}")
    values = slot["values"] if kind == "choice" else []
    values = load_vocabulary(slot["name"]) if kind == "vocabulary" else values
    if values and len(set(values)) != len(values):
        wrong.append(f"slot {name!r} repeats values")
    if values and not slot.get("closed") and len(values) < _MINIMUM_OPEN_VALUES:
        wrong.append(
            f"slot {name!r} is open with {len(values)} values, needs {_MINIMUM_OPEN_VALUES}"
        )
    return wrong


def _plan_problems(intent: dict[str, Any]) -> list[str]:
    name, known, wrong = intent["intent_id"], set(intent["slots"]), []
    for step in intent["plan"]:
        binds = {frozenset(call["bind"]) for call in step["calls"]}
        if len(binds) != 1:
            wrong.append(f"{name}: the alternatives of a step bind different names")
        for call in step["calls"]:
            wrong += [f"{name}: {text}" for text in _call_problems(call, known)]
        known |= set().union(*binds)
    used = set(_PLACEHOLDER.findall(intent["answer"]["text"]))
    used |= set(intent["answer"]["numbers"]) | set(intent["answer"]["contains"])
    return wrong + [f"{name}: the answer uses the unknown {key!r}" for key in sorted(used - known)]


def _call_problems(call: dict[str, Any], known: set[str]) -> list[str]:
    document = load_documents().get(call["api"])
    if document is None:
        return [f"no document of {call['api']!r}"]
    required = {p["name"] for p in document["required_parameters"]}
    allowed = required | {p["name"] for p in document["optional_parameters"]}
    wrong = []
    if not required <= set(call["arguments"]) <= allowed:
        wrong.append(f"{call['api']} gets {sorted(call['arguments'])}, needs {sorted(required)}")
    placeholders = {
        key for text in call["arguments"].values() for key in _PLACEHOLDER.findall(text)
    }
    return wrong + [
        f"{call['api']} uses the unknown {key!r}" for key in sorted(placeholders - known)
    ]


def _group_problems(intent: dict[str, Any]) -> list[str]:
    """G1: one tool; G2: several steps in one category; G3: several categories."""
    firsts = [step["calls"][0]["api"].split("/") for step in intent["plan"]]
    categories = {category for category, _, _ in firsts}
    group = "G3" if len(categories) > 1 else "G2" if len(firsts) > 1 else "G1"
    tools = {tool for _, tool, _ in firsts}
    if intent["group"] == group or (intent["group"] == "G1" and len(tools) == 1):
        return []
    return [f"{intent['intent_id']}: group {intent['group']} but the plan is {group}"]


def uses_earlier_result(intent: dict[str, Any]) -> bool:
    """Whether an argument of a later step is bound by an earlier one."""
    bound: set[str] = set()
    for step in intent["plan"]:
        texts = [text for call in step["calls"] for text in call["arguments"].values()]
        if bound & {key for text in texts for key in _PLACEHOLDER.findall(text)}:
            return True
        bound |= set(step["calls"][0]["bind"])
    return False
