"""The bundled task templates of part A are well formed and their plans really work.

Part A is measurement, finance, time, mathematics and chemistry. The words of dev and test phrasings
are looked up in the train phrasings of every bundled template, because the bundled model learns its
vocabulary from those alone.
"""

import datetime as dt
import importlib.util
import json
import random
import re
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

DATA = Path(__file__).parents[3] / "data"
TOOLS = DATA / "toolenv" / "tools"
INTENTS = DATA / "instructions" / "intents"
CATEGORIES = ("Measurement", "Finance", "Time", "Mathematics", "Chemistry")
STEMS = sorted(
    {path.stem for category in CATEGORIES for path in (TOOLS / category).glob("*.json")}
    & {path.stem for path in INTENTS.glob("*.json")}
) + ["multi_a"]
MINIMUM_COUNTS = {True: (14, 2, 3), False: (10, 1, 2)}  # by "is a one-call template"
PLACEHOLDER = re.compile(r"\{(\w+)\}")


def _intents(stem: str) -> list[dict]:
    return json.loads((INTENTS / f"{stem}.json").read_text(encoding="utf-8"))["intents"]


OURS = [pytest.param(intent, id=intent["intent_id"]) for stem in STEMS for intent in _intents(stem)]


@cache
def _document(api: str) -> tuple[dict, set[str], set[str]]:
    """API document, its required and its allowed parameter names."""
    category, tool, name = api.split("/")
    apis = json.loads((TOOLS / category / f"{tool}.json").read_text(encoding="utf-8"))["api_list"]
    document = next(entry for entry in apis if entry["name"] == name)
    required = {parameter["name"] for parameter in document["required_parameters"]}
    optional = {parameter["name"] for parameter in document["optional_parameters"]}
    return document, required, required | optional


@cache
def _module(category: str, tool: str) -> ModuleType:
    path = TOOLS / category / tool / "api.py"
    spec = importlib.util.spec_from_file_location(f"{category}_{tool}_api", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def _vocabulary(name: str) -> list[str]:
    return json.loads(
        (DATA / "instructions" / "vocabularies" / f"{name}.json").read_text(encoding="utf-8")
    )


def _date(slot: dict, rng: random.Random) -> str:
    first = dt.date(slot["minimum_year"], 1, 1).toordinal()
    last = dt.date(slot["maximum_year"], 12, 31).toordinal()
    return dt.date.fromordinal(rng.randint(first, last)).isoformat()


def _numbers(slot: dict, rng: random.Random) -> str:
    count = rng.randint(slot["count_minimum"], slot["count_maximum"])
    return ", ".join(str(rng.randint(slot["minimum"], slot["maximum"])) for _ in range(count))


DRAWS = {
    "number": lambda slot, rng: round(
        rng.uniform(slot["minimum"], slot["maximum"]), slot["decimals"]
    ),
    "integer": lambda slot, rng: rng.randint(slot["minimum"], slot["maximum"]),
    "numbers": _numbers,
    "choice": lambda slot, rng: rng.choice(slot["values"]),
    "vocabulary": lambda slot, rng: rng.choice(_vocabulary(slot["name"])),
    "date": _date,
}


def _slot_values(intent: dict, rng: random.Random) -> dict[str, object]:
    """Random values in the order of the slots, drawn again until "differs_from" holds."""
    values: dict[str, object] = {}
    for name, slot in intent["slots"].items():
        value = DRAWS[slot["kind"]](slot, rng)
        while "differs_from" in slot and value == values[slot["differs_from"]]:
            value = DRAWS[slot["kind"]](slot, rng)
        values[name] = value
    return values


def _filled(template: str, values: dict[str, object], typed: set[str]) -> object:
    """An argument: the JSON number of a numeric slot alone, else text."""
    whole = PLACEHOLDER.fullmatch(template)
    if whole and whole[1] in typed:
        return values[whole[1]]
    return template.format(**values)


def _outcome(call: dict, values: dict[str, object], typed: set[str]) -> dict[str, object] | None:
    """What the call binds, or None when the tool fails."""
    category, tool, name = call["api"].split("/")
    arguments = {key: _filled(text, values, typed) for key, text in call["arguments"].items()}
    try:
        result = getattr(_module(category, tool), name)(**arguments)
    except (ValueError, LookupError, RuntimeError):
        return None
    assert len(json.dumps(result)) <= 120
    return {bound: result[field] for bound, field in call["bind"].items()}


def _executed(intent: dict, values: dict[str, object]) -> list[list[dict[str, object]]]:
    """Per step, the bindings of every alternative that worked; extends `values` by the first."""
    kinds = intent["slots"].items()
    typed = {name for name, slot in kinds if slot["kind"] in ("number", "integer")}
    steps = []
    for step in intent["plan"]:
        outcomes = [_outcome(call, values, typed) for call in step["calls"]]
        steps.append([outcome for outcome in outcomes if outcome is not None])
        values.update(next(iter(steps[-1]), {}))
    return steps


def _words(phrasing: str) -> set[str]:
    return set(re.findall(r"[A-Za-z]+", PLACEHOLDER.sub(" ", phrasing).lower()))


@cache
def _train_words() -> set[str]:
    words: set[str] = set()
    for path in INTENTS.glob("*.json"):
        for intent in _intents(path.stem):
            words.update(*map(_words, intent["phrasings"].get("train", [])))
    return words


def _phrasings(intent: dict) -> list[str]:
    return [text for texts in intent["phrasings"].values() for text in texts]


def test_there_are_enough_intents_and_ids_are_unique() -> None:
    ids = [parameter.values[0]["intent_id"] for parameter in OURS]
    assert len(set(ids)) == len(ids)
    assert sum(intent_id.startswith("multi_a.") for intent_id in ids) >= 12


def test_at_least_half_of_the_multi_step_intents_pass_a_result_on() -> None:
    def passes_on(intent: dict) -> bool:
        texts = [
            text for s in intent["plan"][1:] for c in s["calls"] for text in c["arguments"].values()
        ]
        return bool(set(PLACEHOLDER.findall(" ".join(texts))) - set(intent["slots"]))

    multi = _intents("multi_a")
    assert sum(map(passes_on, multi)) * 2 >= len(multi)


def test_every_api_is_used_by_an_intent() -> None:
    plans = [step for p in OURS for step in p.values[0]["plan"]]
    used = {call["api"] for step in plans for call in step["calls"]}
    documented = {
        f"{category}/{path.stem}/{api['name']}"
        for category in CATEGORIES
        for path in (TOOLS / category).glob("*.json")
        for api in json.loads(path.read_text(encoding="utf-8"))["api_list"]
    }
    assert used == documented


@pytest.mark.parametrize("intent", OURS)
def test_phrasings_hold_every_slot_once_and_no_other_digit(intent: dict) -> None:
    for phrasing in _phrasings(intent):
        assert sorted(PLACEHOLDER.findall(phrasing)) == sorted(intent["slots"]), phrasing
        assert not re.search(r"\d", PLACEHOLDER.sub("", phrasing)), phrasing


@pytest.mark.parametrize("intent", OURS)
def test_phrasings_are_distinct_and_numerous_enough(intent: dict) -> None:
    texts = _phrasings(intent)
    counts = [len(intent["phrasings"][split]) for split in ("train", "dev", "test")]
    minimum = MINIMUM_COUNTS[len(intent["plan"]) == 1]
    assert len(set(texts)) == len(texts)
    assert all(count >= least for count, least in zip(counts, minimum, strict=True))


@pytest.mark.parametrize("intent", OURS)
def test_dev_and_test_phrasings_use_only_words_of_train_phrasings(intent: dict) -> None:
    held_out = intent["phrasings"]["dev"] + intent["phrasings"]["test"]
    assert set().union(*map(_words, held_out)) - _train_words() == set()


@pytest.mark.parametrize("intent", OURS)
def test_calls_match_the_documents_and_use_known_placeholders(intent: dict) -> None:
    known = set(intent["slots"])
    for step in intent["plan"]:
        assert len(step["thought"].split()) <= 6
        for call in step["calls"]:
            document, required, allowed = _document(call["api"])
            assert required <= set(call["arguments"]) <= allowed
            assert set(PLACEHOLDER.findall(" ".join(call["arguments"].values()))) <= known
            assert set(call["bind"]) == set(step["calls"][0]["bind"])
            assert set(call["bind"].values()) <= set(document["template_response"])
        known |= set(step["calls"][0]["bind"])
    assert set(PLACEHOLDER.findall(intent["answer"]["text"])) <= known


@pytest.mark.parametrize("intent", OURS)
def test_the_answer_is_checked_against_bound_values_it_states(intent: dict) -> None:
    bound = {name for step in intent["plan"] for c in step["calls"] for name in c["bind"]}
    checked = set(intent["answer"]["numbers"]) | set(intent["answer"]["contains"])
    assert checked
    assert checked <= bound & set(PLACEHOLDER.findall(intent["answer"]["text"]))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("intent", OURS)
def test_the_plan_binds_its_fields_for_random_slot_values(intent: dict, seed: int) -> None:
    values = _slot_values(intent, random.Random(f"{intent['intent_id']} {seed}"))
    steps = _executed(intent, values)
    assert all(steps), values
    assert all(outcomes.count(outcomes[0]) == len(outcomes) for outcomes in steps), values
    answer = intent["answer"]["text"].format(**values)
    numbers = [values[name] for name in intent["answer"]["numbers"]]
    assert all(isinstance(number, (int, float)) and str(number) in answer for number in numbers)


@pytest.mark.parametrize(
    ("name", "api"),
    [
        ("cities", "Time/world_clock/city_time_zone"),
        ("elements", "Chemistry/periodic_table/element_symbol"),
        ("formulas", "Chemistry/molar_mass/molar_mass"),
    ],
)
def test_every_entry_of_a_vocabulary_is_known_to_its_tool(name: str, api: str) -> None:
    category, tool, function = api.split("/")
    entries = _vocabulary(name)
    results = [getattr(_module(category, tool), function)(entry) for entry in entries]
    assert len(set(entries)) == len(results) >= 60
