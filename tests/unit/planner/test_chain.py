"""Words in replies that the methods with questions read."""

import pytest

from services.planner.search.chain import begins_with, listed


@pytest.mark.parametrize("text", ["DONE", "done.", "**Done**: all of it", "> done\nand more"])
def test_a_first_word_is_found_under_its_ornaments(text: str) -> None:
    assert begins_with(text, "done")


@pytest.mark.parametrize("text", ["", "not done", "undone", "doneness", "I am done"])
def test_another_first_word_is_another(text: str) -> None:
    assert not begins_with(text, "done")


def test_a_list_is_read_whatever_its_marks() -> None:
    text = "Tasks:\n1. one\n 2) two\n- three\n* four\n1.5 no entry\n\nThat is all."
    assert listed(text, most=9) == ["one", "two", "three", "four"]


def test_a_list_is_bounded() -> None:
    text = "1. " + "x" * 10_000 + "\n" + "- y\n" * 10_000
    entries = listed(text, most=3)
    assert [len(entry) for entry in entries] == [500, 1, 1]
