"""Which function a called name means."""

import json

from hypothesis import given
from hypothesis import strategies as st

from services.contracts.apis import ApiRef
from services.contracts.compat import NONE, TOOLBENCH
from services.planner.action_space import ActionSpace, build_action_space
from tests.fakes.planner_ports import HELLO, HELLO_NAME, OTHER, OTHER_NAME, document, number

BOTH = (document(HELLO), document(OTHER))


def toolbench() -> ActionSpace:
    return build_action_space(BOTH, compat=TOOLBENCH)


def names(space: ActionSpace) -> list[str]:
    return [schema.name for schema in space.schemas]


def test_functions_keep_their_order_and_finish_is_last() -> None:
    assert names(toolbench()) == [HELLO_NAME, OTHER_NAME, "Finish"]


def test_a_suffix_means_the_first_function_that_ends_with_it_in_toolbench_mode() -> None:
    space = toolbench()
    assert [space.find(name).api for name in ("r_for_hello_world", "world", "")] == [
        OTHER,
        HELLO,
        HELLO,
    ]


def test_a_longer_name_that_comes_first_wins_over_the_exact_one() -> None:
    longer = ApiRef(category="Customized", tool="hello_world", api="another")
    space = build_action_space((document(longer), document(OTHER)), compat=TOOLBENCH)
    assert space.find(OTHER_NAME).api == longer


def test_a_suffix_of_finish_means_nothing() -> None:
    assert toolbench().find("nish") is None


def test_only_whole_names_count_otherwise() -> None:
    space = build_action_space(BOTH, compat=NONE)
    assert space.find("world") is None
    assert space.find(HELLO_NAME).api == HELLO


def test_an_unknown_name_is_answered_as_the_reference_answers_it() -> None:
    assert toolbench().unknown_function("nope") == (
        '{"error": "No such function name: nope", "response": ""}'
    )


def test_near_names_are_offered_otherwise() -> None:
    text = build_action_space(BOTH, compat=NONE).unknown_function("get_hello")
    assert json.loads(text)["error"] == (
        f"No such function name: get_hello. Did you mean {HELLO_NAME}?"
    )


def test_each_api_is_offered_once_and_under_its_own_name_outside_toolbench_mode() -> None:
    long_one = ApiRef(category="A", tool="t" * 40, api="x" + "a" * 40)
    long_two = ApiRef(category="A", tool="t" * 40, api="y" + "a" * 40)
    documents = [document(long_one), document(long_one), document(long_two)]
    space = build_action_space(documents, compat=NONE)
    first, second, _ = names(space)
    assert space.apis == {first: long_one, second: long_two}
    assert max(len(first), len(second)) <= 64
    reordered = build_action_space(documents[::-1], compat=NONE)
    assert reordered.apis == space.apis


def test_a_call_by_another_spelling_is_refused_with_a_hint() -> None:
    space = build_action_space(BOTH, compat=NONE)
    spelling = HELLO_NAME.upper()
    assert space.find(spelling) is None
    assert f"Did you mean {HELLO_NAME}" in space.unknown_function(spelling)


def test_toolbench_mode_shows_its_own_shape() -> None:
    documents = (document(HELLO, optional_parameters=(number("n"),)),)
    shown = build_action_space(documents, compat=TOOLBENCH).schemas[0].parameters
    assert shown == {"type": "object", "properties": {}, "required": [], "optional": []}


@given(st.text(max_size=300))
def test_any_name_at_all_gets_a_json_answer(name: str) -> None:
    for compat in (NONE, TOOLBENCH):
        space = build_action_space(BOTH, compat=compat)
        assert json.loads(space.unknown_function(name))["response"] == ""
        space.find(name)
