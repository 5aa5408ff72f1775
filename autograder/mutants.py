"""Mutants: the reference solution with one small change each, of which the checks must notice all.

Where no change can be told from the reference by its results, the mutant is equivalent;
tests/answers/<stem>/mutants.toml lists those, a line each: "what the line became" = "reason".
"""

import ast
import copy
import hashlib
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from nbformat import NotebookNode

from autograder import notebooks
from autograder.answers import Answer, fill, grading, imports, solution_cells
from autograder.course import Course
from autograder.errors import AnswerError
from autograder.judge.interface import Interface
from autograder.sandbox import Limits, Sandbox, can_isolate
from autograder.submission import NOT_RUN

GOAL = 0.95
MOST = 500
ANY = "any"  # which cell a mutant loses does not matter
# A mutant that hangs or crashes is noticed by that; what it would do afterwards is not asked.
LIMITS = Limits(cell_seconds=20, notebook_seconds=60, restarts=0)

OPERATORS = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
    ast.MatMult: (ast.Mult,),
    ast.FloorDiv: (ast.Mult, ast.Mod),
    ast.Mod: (ast.FloorDiv,),
    ast.Pow: (ast.Mult,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
    ast.LShift: (ast.RShift,),
    ast.RShift: (ast.LShift,),
}
COMPARISONS = {
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
}
COMMUTATIVE = (ast.Add, ast.Mult, ast.BitAnd, ast.BitOr, ast.BitXor)
SYMMETRIC = {"transpose", "swapaxes"}  # the same axes in another order are the same
OPPOSITES = {"min": "max", "max": "min", "any": "all", "all": "any", "tril": "triu"}
OPPOSITES |= {"triu": "tril", "ones": "zeros", "zeros": "ones", "sum": "mean", "mean": "sum"}
# Parts of a statement that change no result, or only the text of an error.
LEFT_ALONE = {"annotation", "returns", "decorator_list", "bases", "msg"}


@dataclass(frozen=True)
class Verdict:
    """What became of one mutant."""

    answer: Answer
    lost: tuple[str, ...]  # the graded cells that noticed it

    @property
    def killed(self) -> bool:
        return bool(self.lost)


@dataclass(frozen=True)
class Result:
    """What the checks of one problem notice."""

    total: int
    killed: int
    survivors: list[Answer] = field(default_factory=list)  # that nobody has judged
    equivalent: dict[str, str] = field(default_factory=dict)  # name: reason
    stale: list[str] = field(default_factory=list)  # entries of mutants.toml, and why each is

    @property
    def share(self) -> float:
        """How much of what can be noticed is."""
        possible = self.total - len(self.equivalent)
        return self.killed / possible if possible else 1.0


def make(course: Course, stem: str) -> list[Answer]:
    """Make every mutant of a problem's reference solution."""
    notebook = notebooks.read(course.source(stem))
    reference = {cell.metadata.nbgrader.grade_id: cell.source for cell in solution_cells(notebook)}
    made, count = [], Counter()
    for grade_id, source in reference.items():
        for line, old, new, text in changes(source):
            count[new] += 1
            name = new if count[new] == 1 else f"{new} ({count[new]})"
            why = f"line {line} was: {old}"
            made.append(Answer(stem, name, why, ANY, {**reference, grade_id: text}))
    return made


def sample(made: list[Answer], most: int = MOST) -> list[Answer]:
    """Choose at most so many, in order; the choice depends on nothing but the mutants' names."""

    def digest(answer: Answer) -> str:
        return hashlib.sha256(answer.name.encode()).hexdigest()

    chosen = set(sorted(map(digest, made))[:most])
    return [answer for answer in made if digest(answer) in chosen]


def grade(
    course: Course, stem: str, made: Iterable[Answer], sandbox: Sandbox | None = None
) -> Iterator[Verdict]:
    """Run each mutant through the graded cells and yield what they say.

    A sandbox that is given stays open, so that several problems share its start.
    Raises: AnswerError where the reference itself loses a cell.
    """
    notebook, files = bare(notebooks.read(course.source(stem))), course.files(stem)
    apart = {
        "interface": Interface.of_source(notebook),
        "own": files,
        "limits": LIMITS,
        "to_first_loss": True,
    }
    if sandbox is None:
        imported = imports(notebook)
        with Sandbox(isolate=can_isolate() is None, imports=imported) as sandbox:
            yield from grade(course, stem, made, sandbox)
        return
    lost = notebooks.reasons(sandbox.run(notebook, files, **apart).notebook)
    if lost:
        raise AnswerError(f"{stem}: the reference itself loses {', '.join(lost)}")
    for answer in made:
        done = sandbox.run(fill(notebook, answer), files, **apart).notebook
        lost = notebooks.reasons(done).items()
        yield Verdict(answer, tuple(name for name, why in lost if not why.startswith(NOT_RUN)))


def weigh(course: Course, stem: str, verdicts: list[Verdict]) -> Result:
    """Set what survived against what mutants.toml calls equivalent."""
    known = reasons(course, stem)
    names = {answer.name for answer in make(course, stem)} if known else set()
    stale = [f"{name!r}: there is no such mutant" for name in known if name not in names]
    survivors, equivalent = [], {}
    for verdict in verdicts:
        name = verdict.answer.name
        if verdict.killed and name in known:
            stale.append(f"{name!r}: noticed by {', '.join(verdict.lost)}")
        elif name in known:
            equivalent[name] = known[name]
        elif not verdict.killed:
            survivors.append(verdict.answer)
    killed = sum(verdict.killed for verdict in verdicts)
    return Result(len(verdicts), killed, survivors, equivalent, stale)


def reasons(course: Course, stem: str) -> dict[str, str]:
    """Read which mutants are equivalent, and why.

    Raises: AnswerError where an entry gives no reason.
    """
    path = course.answers(stem) / "mutants.toml"
    known = tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name, reason in known.items():
        if not isinstance(reason, str) or not reason.strip():
            raise AnswerError(f"{stem}, mutants.toml: expected a reason for {name!r}, a string")
    return known


def bare(notebook: NotebookNode) -> NotebookNode:
    """Return a copy with the set-up, solution and graded cells alone: the rest earns no point."""
    notebook = copy.deepcopy(notebook)
    notebook.cells = [cell for cell in notebook.cells if grading(cell)]
    return notebook


def changes(source: str) -> Iterator[tuple[int, str, str, str]]:
    """Yield each change to what stands between the markers, or to all of a text without them.

    A change is its line, the statement before and after (of a block, the first line) and the text.
    """
    tree = ast.parse(source)
    seen = {ast.unparse(tree)}
    lines = solution_lines(source)
    names = Names(tree)
    for place in list(_places(tree)):
        node = place.holder[place.key]
        if node.lineno not in lines:
            continue
        old = _head(place.statement)
        for new in [*_variants(node, names), *names.others(node, place.function)]:
            place.holder[place.key] = new
            text = ast.unparse(tree)
            after = place.statement
            said = f"removed: {old}" if isinstance(after, ast.Pass) else _head(after)
            idle = isinstance(after, ast.Assign) and _same(after.targets[0], after.value)
            place.holder[place.key] = node
            if text not in seen and not idle:  # x = x is the statement removed
                seen.add(text)
                yield node.lineno, old, said, text + "\n"


def solution_lines(source: str) -> set[int]:
    """Number the lines that are for the student to write."""
    inside, found = False, set()
    lines = source.splitlines()
    for number, line in enumerate(lines, start=1):
        if line.strip() in ("### BEGIN SOLUTION", "### END SOLUTION"):
            inside = "BEGIN" in line
        elif inside:
            found.add(number)
    return found if "### BEGIN SOLUTION" in source else set(range(1, len(lines) + 1))


@dataclass(frozen=True)
class Place:
    """A node that may change: what holds it, under which key, and what it is part of."""

    holder: Any
    key: Any
    block: Any  # what holds the statement, and
    index: Any  # under which key
    function: ast.AST | None

    @property
    def statement(self) -> ast.stmt:
        return self.block[self.index]


class Names:
    """Which names stand for values, and where."""

    def __init__(self, tree: ast.AST):
        self.bound = defaultdict(dict)  # function (None outside of all): name: line
        self.attributes = set()  # of self
        for place in _places(tree):
            node, found = place.holder[place.key], self.bound[place.function]
            if isinstance(node, ast.arg):
                found[node.arg] = 0
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.setdefault(node.id, node.lineno)
            elif _of_self(node) and isinstance(node.ctx, ast.Store):
                self.attributes.add(node.attr)

    def others(self, node: ast.AST, function: ast.AST | None) -> Iterator[ast.AST]:
        """Yield the function's other values that could be meant, and the object's."""
        if not isinstance(getattr(node, "ctx", None), ast.Load):
            return
        if _of_self(node) and node.attr in self.attributes:
            for attr in sorted(self.attributes - {node.attr}):
                yield _with(node, attr=attr)
        found = self.bound[function]
        if isinstance(node, ast.Name) and node.id in found and node.id != "self":
            for name, line in found.items():
                if name not in (node.id, "self") and line < node.lineno:
                    yield _with(node, id=name)

    def is_value(self, node: ast.AST) -> bool:
        """Tell x and self.x, which have methods, from torch.nn and self, which have functions."""
        if isinstance(node, ast.Attribute):
            return _of_self(node) or self.is_value(node.value)
        if isinstance(node, ast.Name):
            return node.id != "self" and any(node.id in found for found in self.bound.values())
        return True


def _of_self(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    )


def _same(left: ast.AST, right: ast.AST) -> bool:
    return ast.unparse(left) == ast.unparse(right)


def _head(statement: ast.stmt) -> str:
    return ast.unparse(statement).splitlines()[0]


def _places(
    parent: ast.AST, block: Any = None, index: Any = None, function: ast.AST | None = None
) -> Iterator[Place]:
    """Find every node that may change, in the order of the text."""
    if isinstance(parent, ast.Raise) or _is_text(parent):
        return  # an error is checked for its type; a docstring says nothing to the computer
    if isinstance(parent, ast.FunctionDef):
        function = parent
    for name, value in ast.iter_fields(parent):
        if name in LEFT_ALONE:
            continue
        holder, keys = (value, range(len(value))) if isinstance(value, list) else (None, [name])
        holder = vars(parent) if holder is None else holder
        for key in keys:
            child = holder[key]
            if not isinstance(child, ast.AST):
                continue
            inner = (holder, key) if isinstance(child, ast.stmt) else (block, index)
            if hasattr(child, "lineno") and not _is_text(child):
                yield Place(holder, key, *inner, function)
            # A negative number is one number, not the negation of one.
            if not _is_negative(child):
                yield from _places(child, *inner, function)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_negative(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.UnaryOp)
        and isinstance(node.op, ast.USub)
        and isinstance(node.operand, ast.Constant)
    )


def _variants(node: ast.AST, names: Names) -> Iterator[ast.AST]:
    """Yield what could stand in a node's place."""
    match node:
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=value)):
            yield from _numbers(-value)
        case ast.UnaryOp():
            yield node.operand
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value) | float(value)):
            yield from _numbers(value)
        case ast.BinOp():
            for kind in OPERATORS.get(type(node.op), ()):
                yield _with(node, op=kind())
            if not isinstance(node.op, COMMUTATIVE):
                yield _with(node, left=node.right, right=node.left)
            yield from (node.left, node.right)
        case ast.AugAssign():
            for kind in OPERATORS.get(type(node.op), ()):
                yield _with(node, op=kind())
        case ast.Compare(ops=[operator]):
            for kind in COMPARISONS[type(operator)]:
                yield _with(node, ops=[kind()])
        case ast.BoolOp():
            yield _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
            yield from node.values
        case ast.IfExp():
            yield from (node.body, node.orelse)
            if not isinstance(node.test, ast.Compare):
                yield _with(node, test=ast.UnaryOp(ast.Not(), node.test))
        case ast.If():
            yield _with(node, test=ast.Constant(True))
            if node.orelse:  # else it is the statement removed
                yield _with(node, test=ast.Constant(False))
            if not isinstance(node.test, ast.Compare):
                yield _with(node, test=ast.UnaryOp(ast.Not(), node.test))
        case ast.Call():
            yield from _calls(node, names)
        case ast.Attribute(attr=attr) if attr in OPPOSITES:
            yield _with(node, attr=OPPOSITES[attr])
    if isinstance(node, ast.stmt) and not isinstance(node, ast.FunctionDef | ast.ClassDef):
        yield ast.Pass()


def _calls(node: ast.Call, names: Names) -> Iterator[ast.AST]:
    """Yield a call's receiver or first argument without the call, and the arguments in disorder."""
    function = node.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if isinstance(function, ast.Attribute) and names.is_value(function.value):
        yield function.value
    elif node.args and not isinstance(node.args[0], ast.Starred):
        yield node.args[0]
    for place in range(len(node.args) - 1 if name not in SYMMETRIC else 0):
        order = list(node.args)
        order[place], order[place + 1] = order[place + 1], order[place]
        yield _with(node, args=order)


def _numbers(value: float) -> Iterator[ast.expr]:
    for other in (value + 1, value - 1, type(value)(0)):
        number = ast.Constant(abs(other))
        yield ast.UnaryOp(ast.USub(), number) if other < 0 else number


def _with(node: ast.AST, **fields: object) -> ast.AST:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed
