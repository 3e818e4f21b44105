import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from services.llm.training.render import render_conversation
from services.llm.training.tokenizer import load_tokenizer, save_tokenizer
from services.llm.training.vocabulary import tokenizer_texts
from tests.unit.llm.training_conversations import TOOLS, conversations, record, small_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return small_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def tokens(tokenizer, text: str) -> list[str]:
    return tokenizer.encode(text, add_special_tokens=False).tokens


@settings(max_examples=300, deadline=None)
@given(
    st.text(
        alphabet=st.characters(exclude_categories=("Cs",), exclude_characters="\u2581"), max_size=60
    )
)
def test_any_text_round_trips(tokenizer, text):
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == text


@pytest.mark.parametrize(
    "value", ["New York", "miles", "-5.25", "2031-06-04", "4, 8, 15", "#ff00a1"]
)
def test_a_value_has_the_same_tokens_in_the_instruction_and_inside_json(tokenizer, value):
    in_text = tokens(tokenizer, f"What about {value} (now)?")
    in_json = tokens(tokenizer, f'{{"a": "{value}", "b": 1}}')
    alone = tokens(tokenizer, value)
    assert _contains(in_text, alone)
    assert _contains(in_json, alone)


def _contains(whole: list[str], part: list[str]) -> bool:
    return any(whole[i : i + len(part)] == part for i in range(len(whole)))


def test_every_digit_is_a_token(tokenizer):
    assert tokens(tokenizer, "12345") == list("12345")


def test_words_of_phrasings_and_markers_are_single_tokens(tokenizer):
    assert tokens(tokenizer, "length")[0] == "\u2581length"
    assert "\nAction Input: " in tokens(tokenizer, render_conversation(record(1)["messages"]))


def test_open_values_do_not_weigh_like_words(tmp_path):
    items = conversations(tmp_path, 60)
    values = {f"{number} Longish Street" for number in range(60)}
    closed = "\n".join(tokenizer_texts(items))
    assert closed.count("miles") > 60  # a closed set counts as often as it occurs
    assert values.isdisjoint(closed.split("\n"))


def test_the_saved_folder_opens_offline_and_renders_the_same_prompt(tokenizer, tmp_path):
    save_tokenizer(tokenizer, tmp_path)
    messages = record(3)["messages"]
    text = render_conversation(messages, TOOLS, add_generation_prompt=True)
    loaded = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    encoded = loaded.apply_chat_template(messages, tools=list(TOOLS), add_generation_prompt=True)
    expected = load_tokenizer(tmp_path).encode(text, add_special_tokens=False).ids
    assert encoded["input_ids"] == expected
    assert loaded.decode(expected) == text
