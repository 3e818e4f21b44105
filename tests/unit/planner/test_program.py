"""Code of a reply in parts."""

import random
import time

import pytest

from services.planner.search.program import CodeError, Program, read_code

ADD = "def add(a, b):\n    return a + b"
MAIN = "def main():\n    return add(1, 2)"


@pytest.mark.parametrize(
    "text",
    [
        ADD,
        f"```python\n{ADD}\n```",
        f"```\n{ADD}\n```",
        f"```py\r\n{ADD}\r\n```",
        f"Sure!\n```Python3\n{ADD}",
        f"```json\n{{}}\n```\nand\n```python\n{ADD}\n```\n```text\nprints 3\n```",
        f"Here you are.\n\n{ADD}\n",
    ],
)
def test_code_is_found_in_and_without_fences(text: str) -> None:
    code = read_code(text)
    assert code.rest == ADD
    assert code.functions == ("add",)


def test_parts_are_told_apart() -> None:
    code = read_code(
        f'```\n"""Sums."""\nimport math\nfrom os import path\nTWO = 2\n{ADD}\n\n'
        f"def _helper():\n    pass\n\n{MAIN}\n\ndef test_it():\n    assert add(1, TWO) == 3\n"
        'print(main())\nresult = main()\nif __name__ == "__main__":\n    main()\n```'
    )
    assert code.functions == ("add",)
    assert code.main == MAIN
    assert code.rest == (
        '"""Sums."""\nimport math\nfrom os import path\nTWO = 2\n\n\n'
        f"{ADD}\n\n\ndef _helper():\n    pass"
    )
    assert code.imports == "import math\nfrom os import path"
    (test,) = code.tests
    assert (test.name, test.has_assert, test.names) == ("test_it", True, {"add", "TWO"})


def test_decorators_and_comments_inside_stay() -> None:
    code = read_code(
        "import functools\n@functools.cache\ndef f(n):\n    return n\n"
        "def g():\n    # why\n    return 1\n"
    )
    assert "@functools.cache\ndef f(n):" in code.rest
    assert "# why" in code.rest


def test_statements_of_one_line_and_wide_letters_are_cut_apart() -> None:
    assert read_code("```\na = 'é'; b = 'ü'\ndef f(): return 'ö'  # ä").rest == (
        "a = 'é'\nb = 'ü'\ndef f(): return 'ö'"
    )


def test_many_statements_are_read_in_linear_time() -> None:
    began = time.process_time()
    read_code("```\n" + "1\n" * 9_999 + "```")
    assert time.process_time() - began < 1.0


def test_code_with_odd_escapes_is_read_without_a_warning() -> None:
    assert read_code("def digits():\n    return '\\d'").functions == ("digits",)


@pytest.mark.parametrize("text", ["", "   ", "no code here", "```json\n{}\n```", "```\n\n```"])
def test_a_reply_without_code_says_so(text: str) -> None:
    with pytest.raises(CodeError, match="holds no Python code"):
        read_code(text)


def test_a_program_keeps_what_a_later_reply_leaves_out() -> None:
    program = Program().revised(read_code(ADD)).revised(read_code(MAIN))
    assert program.source == f"{ADD}\n\n\n{MAIN}\n"
    other = ADD.replace("a + b", "b + a")
    assert program.revised(read_code(other)).source == f"{other}\n\n\n{MAIN}\n"
    assert program.revised(read_code("```\nx = 1")) == program


def test_a_program_says_what_it_lacks() -> None:
    assert Program().problem == "no tool function was written"
    assert Program().revised(read_code(ADD)).problem == "there is no function main()"
    assert Program().revised(read_code(ADD)).revised(read_code(MAIN)).problem == ""


def test_nothing_but_a_code_error_escapes() -> None:
    draw = random.Random(7)
    pieces = ["```", "python\n", ADD, MAIN, "\x00", "\ud800", "(", ")", "'''", "\\", "@", "\n", "é"]
    pieces += ["if x:", "    ", "async def main():", "class A:", "lambda:", ":=", "0" * 5_000]
    n_read = 0
    for _ in range(1_500):
        text = "".join(draw.choices(pieces, k=draw.randrange(12)))
        try:
            read_code(text)
        except CodeError:
            continue
        n_read += 1
    assert n_read > 30
