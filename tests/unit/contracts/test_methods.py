"""Method names."""

import pytest

from services.contracts.errors import InvalidArgument
from services.contracts.methods import parse_method


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("CoT@1", "CoT@1"),
        ("CoT@5", "CoT@5"),
        ("react", "CoT@1"),
        ("ReAct", "CoT@1"),
        ("cot", "CoT@1"),
        ("dfsdt", "DFS_woFilter_w2"),
        ("DFSDT", "DFS_woFilter_w2"),
        ("DFS_woFilter_w3", "DFS_woFilter_w3"),
    ],
)
def test_names_and_aliases_are_understood(name: str, canonical: str) -> None:
    assert parse_method(name).name == canonical


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("NOPE", "'NOPE'"),
        ("", "''"),
        ("CoT@0", "0 is not within 1..100"),
        ("CoT@101", "101 is not within 1..100"),
        ("DFS_woFilter_w17", "17 is not within 1..16"),
        ("CoT@1\n", "unknown method"),
        ("CoT@" + "9" * 5000, "unknown method"),
        ("CoT@٣", "unknown method"),
    ],
)
def test_a_bad_name_is_refused_with_what_to_use_instead(name: str, said: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        parse_method(name)
    assert said in refused.value.detail
