"""What the checks may reach of an answer: the names that its solution cells define.

It is read from the course's own notebook, never from a submission: a signature stands outside of
the solution's markers, so what a name is cannot be changed by an answer.
"""

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from autograder.errors import GradingError

if TYPE_CHECKING:  # a warm process imports no more than a kernel does
    from nbformat import NotebookNode
    from nbgrader.api import Notebook

FUNCTION, CLASS, VALUE = "function", "class", "value"


@dataclass(frozen=True)
class Interface:
    """Names by kind, and the library calls that would be the whole answer."""

    names: dict[str, str] = field(default_factory=dict)
    objects: tuple[str, ...] = ()
    """Functions and methods whose signature says that they give an object, not plain data."""
    by_hand: tuple[str, ...] = ()
    judged: frozenset[str] = frozenset()
    """The grade_ids of the checks, which run in the judge's process alone."""
    set_up: frozenset[str] = frozenset()
    """The grade_ids of the course's own other cells, which run on both sides."""
    changing: tuple[str, ...] = ()
    """Functions and methods whose signature says that they give None: they may change arguments."""

    @classmethod
    def of(cls, solutions: Iterable[str], locked: dict[str, str], judged: Iterable[str]) -> Self:
        """Read the sources of the solution cells, of the locked cells that are not graded, by
        grade_id, and the grade_ids of the checks.
        """
        names: dict[str, str] = {}
        objects: list[str] = []
        changing: list[str] = []
        trees = [tree for text in solutions if (tree := _parsed(text))]
        for node in (node for tree in trees for node in tree.body):
            if isinstance(node, ast.FunctionDef):
                names[node.name] = FUNCTION
            elif isinstance(node, ast.ClassDef):
                names[node.name] = CLASS
            else:
                names |= dict.fromkeys(_assigned(node), VALUE)
        classes = {name for name, kind in names.items() if kind == CLASS} | {"Module"}
        for tree in trees:
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef) and _last_name(node.returns) in classes:
                    objects.append(node.name)
                elif isinstance(node, ast.FunctionDef) and _is_none(node.returns):
                    changing.append(node.name)
        trees = [tree for text in locked.values() if (tree := _parsed(text))]
        by_hand = [name for tree in trees for name in _by_hand(tree)]
        sets = frozenset(judged), frozenset(locked)
        return cls(names, tuple(objects), tuple(by_hand), *sets, tuple(changing))

    @classmethod
    def of_source(cls, notebook: "NotebookNode") -> Self:
        """Read a source notebook."""
        solutions, locked, judged = [], {}, []
        for cell in notebook.cells:
            grading = cell.metadata.get("nbgrader", {})
            if cell.cell_type == "code" and grading.get("solution"):
                solutions.append(cell.source)
            elif cell.cell_type == "code" and grading.get("grade"):
                judged.append(grading["grade_id"])
            elif cell.cell_type == "code" and grading.get("locked"):
                locked[grading["grade_id"]] = cell.source
        return cls.of(solutions, locked, judged)

    @classmethod
    def of_gradebook(cls, notebook: "Notebook") -> Self:
        """Read what nbgrader recorded of a notebook when it was released."""
        code = {cell.name: cell for cell in notebook.source_cells if cell.cell_type == "code"}
        solutions = {cell.name for cell in notebook.solution_cells}
        graded = {cell.name for cell in notebook.grade_cells}
        return cls.of(
            [code[name].source for name in code if name in solutions],
            {
                name: cell.source
                for name, cell in code.items()
                if cell.locked and name not in solutions | graded
            },
            (code.keys() & graded) - solutions,
        )

    @classmethod
    def find(cls, source: Path, recorded: "Notebook") -> Self:
        """Read the source notebook, or where it is not there, what nbgrader recorded of it.

        nbgrader keeps no solution, so names that stand between its markers are missing then.
        """
        if source.is_file():
            from autograder import notebooks

            return cls.of_source(notebooks.read(source))
        return cls.of_gradebook(recorded)

    def data(self) -> dict[str, Any]:
        """Give what the two processes need to know."""
        lists = {name: list(getattr(self, name)) for name in ("objects", "by_hand", "changing")}
        return {"names": self.names, **lists}

    @classmethod
    def told(cls, data: dict[str, Any]) -> Self:
        """Read what `data` gave."""
        lists = {name: tuple(data[name]) for name in ("objects", "by_hand", "changing")}
        return cls(data["names"], **lists)


def _parsed(text: str) -> ast.Module | None:
    try:
        return ast.parse(text)
    except SyntaxError:  # a cell of magics
        return None


def _assigned(node: ast.stmt) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [name.id for target in targets if target for name in ast.walk(target)
            if isinstance(name, ast.Name)]  # fmt: skip


def _is_none(annotation: ast.expr | None) -> bool:
    return isinstance(annotation, ast.Constant) and annotation.value is None


def _last_name(annotation: ast.expr | None) -> str:
    """Give C for the annotations C, "C" and module.C."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return annotation.value.rpartition(".")[2]
    return getattr(annotation, "attr", getattr(annotation, "id", ""))


def _by_hand(tree: ast.Module) -> list[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and _assigned(node) == ["BY_HAND"]:
            try:
                return [str(name) for name in ast.literal_eval(node.value)]
            except ValueError as error:
                raise GradingError("BY_HAND: expected a list of names, written out") from error
    return []
