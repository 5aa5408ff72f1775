"""What a check may not do: it would fail, or mean something else, where it is judged apart.

CONTRIBUTING.md has the rules with their reasons. Each finding names the cell, the line and the way
that is open.
"""

import ast
import builtins
from collections.abc import Iterator

from nbformat import NotebookNode

from autograder.answers import grading
from autograder.judge.interface import CLASS, FUNCTION, Interface

ATTRIBUTES = {
    "allclose": "it broadcasts; use checks.close or torch.testing.assert_close",
    "isclose": "it broadcasts; use checks.close or torch.testing.assert_close",
    "stride": "data cross as values; test no strides",
    "is_contiguous": "data cross as values; test no strides",
    "data_ptr": "data cross as values; test no views",
    "untyped_storage": "data cross as values; test no views",
    "_base": "data cross as values; test no views",
    "_version": "data cross as values; compare with a copy made before the call",
    "register_forward_hook": "a hook stays on this side; test what a call gives",
    "register_forward_pre_hook": "a hook stays on this side; test what a call gives",
    "register_full_backward_hook": "a hook stays on this side; test gradients",
    "gradgradcheck": "second derivatives do not cross",
    "func": "torch.func does not cross; use backward",
    "__dict__": "attributes do not cross as a dict; read them by name",
    "__code__": "code does not cross; test what a call gives",
}
MODULES = {"inspect", "gc", "dis"}
TYPES = {"bool", "dict", "float", "int", "list", "str", "tuple"}


def faults(notebook: NotebookNode) -> Iterator[str]:
    """Name what the graded cells of a source notebook do outside of the rules."""
    interface = Interface.of_source(notebook)
    known = {*dir(builtins), *interface.names, "display", "get_ipython"}
    local: set[str] = set()  # functions that only the judge has
    for cell in notebook.cells:
        name = grading(cell).get("grade_id")
        if cell.cell_type != "code" or name not in interface.set_up | interface.judged:
            continue
        tree = ast.parse(cell.source)
        known |= _defined(tree)
        if name in interface.judged:
            local |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
            check = _Check(interface, known, local)
            check.visit(tree)
            for line, text in sorted(set(check.found)):
                yield f"{name} line {line}: {text}"


class _Check(ast.NodeVisitor):
    """Collects what one cell does wrong."""

    def __init__(self, interface: Interface, known: set[str], local: set[str]):
        self.interface, self.known, self.local = interface, known, local
        self.found: list[tuple[int, str]] = []

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load) and node.id not in self.known:
            self._add(node, f"no locked cell and no solution cell defines {node.id}")

    def visit_Assert(self, node: ast.Assert) -> None:
        test = node.test
        if isinstance(test, ast.UnaryOp) and isinstance(test.operand, ast.Compare):
            comparison = test.operand.ops[0]
            if isinstance(comparison, ast.Lt | ast.LtE | ast.Gt | ast.GtE):
                self._add(node, "NaN passes `assert not a > b`; write `assert a <= b`")
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if node.attr in ATTRIBUTES:
            self._add(node, f".{node.attr}: {ATTRIBUTES[node.attr]}")
        self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            if alias.name in MODULES:
                self._add(node, f"{alias.name} sees the proxy, not the answer")

    def visit_Compare(self, node: ast.Compare) -> None:
        sides = [node.left, *node.comparators]
        for operator, left, right in zip(node.ops, sides, sides[1:], strict=False):
            identity = isinstance(operator, ast.Is | ast.IsNot)
            if identity and not (_is_plain(left) or _is_plain(right)):
                self._add(node, "data cross as values; test no identity")
        self.generic_visit(node)

    def visit_keyword(self, node: ast.keyword) -> None:
        if node.arg == "create_graph":
            self._add(node.value, "second derivatives do not cross")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        arguments = [*node.args, *[keyword.value for keyword in node.keywords]]
        remote = self.interface.names.get(name) in (FUNCTION, CLASS)
        for argument in arguments if remote or name == "fit" else ():
            local = isinstance(argument, ast.Name) and argument.id in self.local
            if isinstance(argument, ast.Lambda) or local:
                self._add(
                    argument, f"{name} gets a function of a check; define it in a set-up cell"
                )
        self.generic_visit(node)

    def _add(self, node: ast.AST, text: str) -> None:
        self.found.append((node.lineno, text))


def _defined(tree: ast.Module) -> set[str]:
    """Give every name that a cell binds anywhere in it."""
    names = {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            names.add(node.name)
    return names


def _is_plain(node: ast.expr) -> bool:
    """Say whether comparing with this by `is` asks for no identity of data."""
    if isinstance(node, ast.Call):
        return getattr(node.func, "id", "") == "type"
    return isinstance(node, ast.Constant) or getattr(node, "id", "") in TYPES
