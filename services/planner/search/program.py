"""Programs that a model wrote, in parts: a tool, the code that calls it, tests. Read, never run.

What a reply holds besides definitions is left out where it would run the program a second time:
calls at module level, and the block under `if __name__ == "__main__"`.
"""

import ast
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

MAX_CODE_CHARS: Final = 20_000
"""Longest code of one reply; three of them fit into a trial."""
MAIN: Final = "main"
_TEST: Final = "test_"
_LANGUAGE: Final = re.compile(r"\A[ \t]*([\w+-]{0,20})[ \t]*(?:\r?\n|\Z)")
_OURS: Final = frozenset({"", "python", "py", "python3"})
_FIRST_LINE: Final = re.compile(r"^(?:from|import|def|class|@)\b|^@", re.MULTILINE)


class CodeError(ValueError):
    """The reply holds no usable code; the text tells the model why."""


class WrittenTest(NamedTuple):
    """One `test_*` function."""

    name: str
    source: str
    names: frozenset[str]
    """All that it refers to."""
    has_assert: bool


class Code(NamedTuple):
    """What a reply defines."""

    rest: str
    """Everything but `main` and tests: imports, constants, classes, functions."""
    imports: str
    functions: tuple[str, ...]
    """Public functions of `rest`, in order."""
    main: str
    """The function `main`; empty when there is none."""
    tests: tuple[WrittenTest, ...]


def read_code(text: str) -> Code:
    """The code of a reply, in parts.

    Args:
        text: Code in fences, one or several blocks, the last perhaps not closed; or code alone.

    Raises:
        CodeError: There is none, it is too long, or it is no Python.
    """
    source = _code_in(text).replace("\r\n", "\n").replace("\r", "\n")
    if not source.strip():
        raise CodeError("the reply holds no Python code")
    if len(source) > MAX_CODE_CHARS:
        raise CodeError(f"the code has {len(source)} characters, more than {MAX_CODE_CHARS}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the code that is read, e.g. "\d" in a string
            return _parts(source, ast.parse(source))
    except SyntaxError as exc:
        raise CodeError(f"the code is no Python: {exc.msg}, line {exc.lineno}") from exc
    except (ValueError, RecursionError, MemoryError) as exc:
        reason = str(exc)[:200] or "it is nested too deeply"
        raise CodeError(f"the code is no Python: {reason}") from exc


def _code_in(text: str) -> str:
    """The fenced blocks of a reply; without any, all from the first line that looks like code."""
    blocks = []
    for block in text.split("```")[1::2]:
        language = _LANGUAGE.match(block)
        if language is None or language[1].lower() in _OURS:
            blocks.append(block[language.end() :] if language else block)
    if blocks or "```" in text:
        return "\n\n".join(blocks)
    first = _FIRST_LINE.search(text)
    return text[first.start() :] if first else ""


def _parts(source: str, module: ast.Module) -> Code:
    rest: list[str] = []
    imports: list[str] = []
    functions: list[str] = []
    tests: list[WrittenTest] = []
    main, lines = "", source.split("\n")
    for node in module.body:
        piece = _written(node, lines)
        if isinstance(node, ast.FunctionDef) and node.name == MAIN:
            main = piece if _returns(node) else ""
            if not main:
                raise CodeError(f"{MAIN}() returns nothing")
        elif isinstance(node, ast.FunctionDef) and node.name.startswith(_TEST):
            has_assert = any(isinstance(part, ast.Assert) for part in ast.walk(node))
            tests.append(WrittenTest(node.name, piece, _names(node), has_assert))
        elif not _runs_program(node):
            rest.append(piece)
            if isinstance(node, ast.Import | ast.ImportFrom):
                imports.append(piece)
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                functions.append(node.name)
    return Code(_laid_out(rest), "\n".join(imports), tuple(functions), main, tuple(tests))


def _written(node: ast.stmt, lines: Sequence[str]) -> str:
    """A statement as it was written, with the comments inside; columns count UTF-8 bytes."""
    assert node.end_lineno is not None and node.end_col_offset is not None, "the parser sets both"
    first, column = node.lineno, node.col_offset
    if decorators := getattr(node, "decorator_list", None):
        first, column = decorators[0].lineno, 0
    own = [line.encode() for line in lines[first - 1 : node.end_lineno]]
    own[-1] = own[-1][: node.end_col_offset]
    own[0] = own[0][column:]
    return b"\n".join(own).decode()


def _laid_out(pieces: Sequence[str]) -> str:
    """Statements one below the other; those of several lines stand apart."""
    parts: list[str] = []
    for before, piece in zip(["", *pieces], pieces, strict=False):
        is_apart = "\n" in before or "\n" in piece
        parts += ["\n\n\n" if is_apart else "\n", piece]
    return "".join(parts[1:])


def _runs_program(node: ast.stmt) -> bool:
    """Whether a statement at module level would do more than define something."""
    if isinstance(node, ast.Expr):
        return not isinstance(node.value, ast.Constant)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return False
    return bool(_names(node) & {MAIN, "__name__"})


def _names(node: ast.AST) -> frozenset[str]:
    return frozenset(part.id for part in ast.walk(node) if isinstance(part, ast.Name))


def _returns(function: ast.FunctionDef) -> bool:
    return any(
        isinstance(part, ast.Return) and part.value is not None for part in ast.walk(function)
    )


@dataclass(frozen=True, slots=True)
class Program:
    """A tool and the code that uses it."""

    tool: str = ""
    functions: tuple[str, ...] = ()
    """The tool's public functions."""
    main: str = ""

    def revised(self, code: Code) -> "Program":
        """The program with what a later reply wrote anew; what it leaves out stays."""
        if code.functions:
            main = code.main or self.main
            return Program(code.rest, code.functions, main)
        if code.main:
            return Program(self.tool, self.functions, _joined([code.rest, code.main]))
        return self

    @property
    def problem(self) -> str:
        """Why it cannot be run; empty when it can."""
        if not self.functions:
            return "no tool function was written"
        return "" if self.main else f"there is no function {MAIN}()"

    @property
    def source(self) -> str:
        """As one module."""
        return _joined([self.tool, self.main])

    def with_test(self, test: str) -> str:
        """The tool and a test of it, as one module."""
        return _joined([self.tool, test])


def _joined(parts: Sequence[str]) -> str:
    return "\n\n\n".join(part.strip("\n") for part in parts if part) + "\n"
