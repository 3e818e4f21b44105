import json

import numpy as np

from services.llm.training.augment import drop_words, swap_values
from services.llm.training.corpus import Conversation
from tests.unit.llm.training_conversations import TOOLS, city_record, record


def conversation(item: dict) -> Conversation:
    return Conversation(id=item["id"], tools=TOOLS, messages=item["messages"], trained=(True, True))


def arguments(item: Conversation, index: int) -> dict:
    return json.loads(item.messages[index]["tool_calls"][0]["function"]["arguments"])


def test_swapped_values_stay_consistent_in_the_whole_conversation():
    swapped = swap_values(conversation(record(1)), np.random.default_rng(0))
    made, answer = arguments(swapped, 2), arguments(swapped, 4)["final_answer"]
    instruction = swapped.messages[1]["content"]
    before = arguments(conversation(record(1)), 2)
    assert made["from_unit"] != before["from_unit"]
    assert made["from_unit"] in instruction and made["from_unit"] in answer
    assert made["to_unit"] in instruction and made["to_unit"] in answer
    assert before["from_unit"] not in instruction


def test_numbers_and_keys_are_not_swapped():
    swapped = swap_values(conversation(record(1)), np.random.default_rng(0))
    assert list(arguments(swapped, 2)) == ["value", "from_unit", "to_unit"]
    assert arguments(swapped, 2)["value"] == arguments(conversation(record(1)), 2)["value"]


def test_the_same_seed_swaps_alike():
    first, second = (
        swap_values(conversation(record(1)), np.random.default_rng(5)) for _ in range(2)
    )
    assert first == second


def test_dropping_words_keeps_what_calls_use():
    item = conversation(city_record(0))
    texts = [
        drop_words(item, np.random.default_rng(seed)).messages[0]["content"] for seed in range(60)
    ]
    assert all("New York" in text for text in texts)
    assert len(set(texts)) > 5
