"""Finds and removes the marks of `services.toolenv.authoring` in a module's source."""

import ast
from collections.abc import Iterator
from typing import Final

AUTHORING: Final = "services.toolenv.authoring"
_MARK = "api"


class Marks:
    """The marks of one module: decorators, and the imports that bring them in."""

    def __init__(self, module: ast.Module) -> None:
        self._imports: list[ast.Import | ast.ImportFrom] = []
        self._names: set[str] = set()
        for node in ast.walk(module):
            if isinstance(node, ast.ImportFrom | ast.Import):
                self._note(node)
        self._decorators = [
            decorator
            for node in module.body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            for decorator in node.decorator_list
            if self._is_mark(decorator)
        ]

    def of(self, function: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.expr | None:
        """The decorator that marks a function, `None` when none does."""
        return next((d for d in function.decorator_list if self._is_mark(d)), None)

    def removed(self, source: str) -> str:
        """The source without the marks; every line keeps its number."""
        lines = source.split("\n")
        for node in self._decorators:
            for number in range(node.lineno, _end(node) + 1):
                lines[number - 1] = ""
        for statement in self._imports:
            for number in range(statement.lineno, _end(statement) + 1):
                lines[number - 1] = ""
            lines[statement.lineno - 1] = " " * statement.col_offset + "pass"
        return "\n".join(lines)

    def not_removable(self, source: str) -> Iterator[int]:
        """Lines on which a mark stands together with something else."""
        lines = [line.encode() for line in source.split("\n")]  # offsets are in bytes
        for node in (*self._decorators, *self._imports):
            before = lines[node.lineno - 1][: node.col_offset].strip()
            after = lines[_end(node) - 1][node.end_col_offset or 0 :].strip()
            if before not in (b"", b"@") or (after and not after.startswith(b"#")):
                yield node.lineno

    def _note(self, node: ast.Import | ast.ImportFrom) -> None:
        before = len(self._names)
        for alias in node.names:
            if isinstance(node, ast.Import):
                if alias.name == AUTHORING:
                    self._names.add(f"{alias.asname or AUTHORING}.{_MARK}")
            elif node.module == AUTHORING and alias.name == _MARK:
                self._names.add(alias.asname or _MARK)
            elif f"{node.module}.{alias.name}" == AUTHORING:
                self._names.add(f"{alias.asname or alias.name}.{_MARK}")
        if len(self._names) > before:
            self._imports.append(node)

    def _is_mark(self, decorator: ast.expr) -> bool:
        node = decorator.func if isinstance(decorator, ast.Call) else decorator
        return bool(self._names) and _dotted(node) in self._names


def _dotted(node: ast.expr) -> str:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def _end(node: ast.expr | ast.stmt) -> int:
    return node.end_lineno or node.lineno
