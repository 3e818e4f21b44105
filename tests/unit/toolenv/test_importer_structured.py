"""JSON and YAML from strangers: read as JSON values, or refused within bounds."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.toolenv.importers.imported import ToolRefused
from services.toolenv.importers.structured import load_object

BOMB = b"\n".join(
    [b"a0: &a0 [x,x,x,x,x,x,x,x,x]"]
    + [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]".encode() for n in range(1, 12)]
)
MERGES = b"\n".join(
    [b"a0: &a0 {k: v}"]
    + [f"a{n}: &a{n} {{<<: [{','.join([f'*a{n - 1}'] * 9)}]}}".encode() for n in range(1, 12)]
)


def test_yaml_is_read_with_the_types_of_json() -> None:
    text = b"a: [yes, 2020-01-01, 1.5, null, ~, 0x1F, 1:30]\n200: x\n<<: 3\nb: &n {c: 1}\nd: *n"
    assert load_object(text, file="f") == {
        "a": ["yes", "2020-01-01", 1.5, None, None, "0x1F", "1:30"],
        "200": "x",
        "<<": 3,
        "b": {"c": 1},
        "d": {"c": 1},
    }


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (BOMB, "more than 400000 values"),
        (MERGES, "more than 400000 values"),
        (b"a: &a [*a]", "nested deeper"),
        (b"[" * 100_000, "nested too deeply"),
        (b"a: " + b"[" * 100_000, "nested deeper"),
        (b"x" * (9 << 20), "exceed the limit"),
        (b'{"a": "' + b"x" * (10 << 20) + b'"}', "exceed the limit"),
        (b"a: !!python/object/apply:os.system [id]", "could not determine a constructor"),
        (b"a: !!timestamp 2020-01-01", "is not a JSON value"),
        (b'{"a": NaN}', "not a JSON value"),
        (b'{"a": 1e999}', "not a JSON value"),
        (b"a: 1e999", "not a JSON value"),
        (b"a: " + b"9" * 6000, "neither JSON nor YAML"),
        (b"? [a, b]\n: c", "neither JSON nor YAML"),
        (b"1.5: x", "is not text"),
        (b"\xff\xfe", "not UTF-8"),
        (b"\x00", "neither JSON nor YAML"),
        (b"", "holds no object"),
        (b"hello", "holds no object"),
        (b"--- {a: 1}\n--- {b: 2}", "neither JSON nor YAML"),
    ],
)
def test_hostile_texts_are_refused_in_time(text: bytes, named: str) -> None:
    began = time.monotonic()
    with pytest.raises(ToolRefused) as refused:
        load_object(text, file="f")
    assert time.monotonic() - began < 10
    assert named in str(refused.value)
    assert len(str(refused.value)) < 1000


@given(
    st.binary(max_size=200)
    | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))
)
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    try:
        value = load_object(content, file="f")
    except ToolRefused as exc:
        assert exc.refusals
    else:
        assert isinstance(value, dict)
