"""Plans: aggregates in the form that the engine computes by itself, over columns.

The engine knows numbers, texts and tuples of these. What it is told here is a tree of tuples:

- a combiner is ``("state", create, first, merge_value, merge_combiners)`` or ``("fields", [...])``;
- an operand is ``("value", path)``, a path of tuple indices into the value,
  ``("constant", object)``, ``("list", [operands])`` or ``("set", [operands])``, a new one of
  those, or ``("computed", expression)``, in which there are no fields;
- a step is ``("keep",)``, ``("take", operand)``, ``("add", operand)``, ``("add all", [operands])``,
  one after the other, and ``("add in front", operand)`` for ``+``, ``("extend", operand)`` for
  making a list longer, ``("insert", operand)`` for adding to a set what is in another, or in a
  list, or ``("choose", path, comparison, operand, keeps, value)``, where `path` leads into the
  field, and its general forms ``("choose by", expression, keeps, value)`` and
  ``("compute", expression)``, of which ``|`` of the field and a value may be of sets;
- an expression is ``("field", path)``, ``("value", path)``, ``("constant", object)``,
  ``("apply", function, expression)``, ``("operate", operator, expression, expression)``,
  ``("extreme", is_max, [expressions])`` or ``("if", test, then, other)``.

A sort key, or an item of one, is ``("of", path)``, what is at a path in a record,
``("lower", path)``, a text there in lower case, ``("tuple", [items])`` or
``("computed", expression)``.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from typing import Any

from ferroshuffle import _core
from ferroshuffle.aggregate import (
    COMBINER,
    VALUE,
    Choose,
    Compute,
    Fields,
    Fold,
    Keep,
    State,
    Step,
    Take,
)
from ferroshuffle.expression import (
    IN_PLACE,
    Argument,
    Build,
    Call,
    Conditional,
    Constant,
    Expression,
    Item,
    Method,
    Operation,
    all_parts,
)
from ferroshuffle.recognize import NotRecognized, recognize, recognize_key

_COMPARISONS = frozenset({"<", "<=", ">", ">="})
_OPERATORS = frozenset({"+", "-", "*", "&", "|", "^", "==", "!="}) | _COMPARISONS

# Methods that put something into a list or set: as which step, and the container that the argument
# is the only item of, if it is not one itself.
_OF_LISTS = {
    "append": ("extend", "list"),
    "extend": ("extend", None),
    "add": ("insert", "set"),
    "update": ("insert", None),
    "union": ("insert", None),
}

Path = list[int]
Size = tuple[Path, int]
Plan = tuple[Any, list[Size], list[Size], bool]
SortKey = tuple[tuple[str, Any], list[Size]]


def plan(aggregator: Any, is_sent: bool = False) -> Plan | None:
    """Return the plan of an `Aggregator`, or None where its functions are to be called.

    With the combiner come the places in a value, and in a combiner that is merged into another,
    where there has to be a tuple of so many items, or the plan does not hold; and whether it holds
    where there are lists in either. With `is_sent`, it is for a copy of the aggregator that is made
    now, to be called elsewhere.
    """
    try:
        return _lowered(aggregator, is_sent)
    except (NotRecognized, _NoNativeForm):
        return None


def sort_key(
    function: Callable[[Any], Any], is_of_first: bool = False, is_sent: bool = False
) -> SortKey | None:
    """Return the plan of a key function, or None where it is to be called.

    With it come the places where there has to be a tuple of so many items. With `is_of_first` the
    function is called with the first item of what is sorted. `is_sent` as for `plan`.
    """
    lowering = _Lowering()
    of = Item(VALUE, Constant(0)) if is_of_first else VALUE
    try:
        return _part_of_key(lowering, recognize_key(function, of, is_sent)), lowering.sizes
    except (NotRecognized, _NoNativeForm):
        return None


def _part_of_key(lowering: _Lowering, part: Expression) -> tuple[str, Any]:
    if isinstance(part, Build) and part.kind == "tuple" and part.items:
        return "tuple", [_part_of_key(lowering, item) for item in part.items]
    if isinstance(part, Method) and part.name == "lower" and not part.arguments:
        return "lower", _path(VALUE, part.of, lowering.sizes)
    if isinstance(part, (Argument, Item)):
        return "of", _path(VALUE, part, lowering.sizes)
    return "computed", lowering.expression(part)


def describe_key(
    function: Callable[[Any], Any], is_sent: bool = False
) -> tuple[str | None, str | None]:
    """Return in words what a key function of a sort is recognised as, or else why it is called.

    `is_sent` as for `plan`.

    Examples
    --------
    >>> describe_key(lambda key: (key[1], -key[0]))
    ('order of (key[1], (- key[0]))', None)
    >>> describe_key(hash)
    (None, '`key` calls `hash`, which is not recognised')
    """
    try:
        part = _part_of_key(_Lowering(), recognize_key(function, VALUE, is_sent))
    except NotRecognized as refused:
        return None, str(refused)
    except _NoNativeForm as refused:
        return None, f"{refused}, which has no native form"
    return f"order of {_key_in_words(part)}", None


def _key_in_words(part: tuple[str, Any]) -> str:
    kind, what = part
    if kind == "tuple":
        return f"({', '.join(map(_key_in_words, what))}{',' * (len(what) == 1)})"
    words = _expression(what, "key") if kind == "computed" else _operand(("value", what), "key")
    return f"{words}.lower()" if kind == "lower" else words


def describe(aggregator: Any, is_sent: bool = False) -> tuple[str | None, str | None]:
    """Return in words what an `Aggregator` is recognised as, or else why its functions are called.

    `is_sent` as for `plan`.

    Examples
    --------
    >>> from ferroshuffle.shuffle import Aggregator
    >>> add = lambda a, b: (a[0] + b[0], a[1] + b[1])
    >>> describe(Aggregator(lambda v: (v, 1), lambda c, v: (c[0] + v, c[1] + 1), add))
    ('(sum of value, count)', None)
    >>> describe(Aggregator(lambda v: v, print, add))
    (None, '`mergeValue` calls `print`, which is not recognised')
    """
    try:
        plan = _lowered(aggregator, is_sent)
    except NotRecognized as refused:
        return None, str(refused)
    except _NoNativeForm as refused:
        return None, f"{refused}, which has no native form"
    if not _core.takes_plan(plan):
        return None, "there is a constant of a type that has no column"
    return _in_words(plan[0], []), None


def _in_words(combiner: Any, path: Path) -> str:
    """Return what a combiner is, or the field of it that `path` leads to."""
    if combiner[0] == "fields":
        fields = [_in_words(field, [*path, at]) for at, field in enumerate(combiner[1])]
        return f"({', '.join(fields)}{',' * (len(fields) == 1)})"
    state = combiner[1:]
    known = _well_known(state, ("value", path))
    if known is not None:
        return known
    create, first, merge_value, merge_combiners = state
    start = _operand(create) if first == ("keep",) else f"{_operand(create)} {_step(first)}"
    return f"{start}, then {_step(merge_value)}, merged {_step(merge_combiners)}"


def _well_known(state: tuple[Any, ...], other: Any) -> str | None:
    """Return the name of what many combiners are, whose counterpart is `other`; None for others."""
    create, first, merge_value, merge_combiners = state
    kind, *rest = merge_value
    starts_with_value = first == ("keep",) and rest[:1] == [create]
    starts_empty = first == merge_value
    if first == merge_value == merge_combiners == ("keep",):
        return f"first {_operand(create)}"
    if starts_with_value and state[2:] == (("take", create), ("take", other)):
        return f"last {_operand(create)}"
    if (kind, merge_combiners) == ("add", ("add", other)):
        is_sum = starts_with_value or (starts_empty and _is_int(create, 0))
        words = "count" if _is_int(rest[0], 1) else f"sum of {_operand(rest[0])}"
        return words if is_sum else None
    united: tuple[Any, ...] = ("compute", ("operate", "|", ("field", []), other))
    is_joined = merge_combiners == (kind, other) or (kind, merge_combiners) == ("insert", united)
    if is_joined and kind in {"extend", "insert"}:
        new, items = rest[0]
        is_new = starts_with_value or (starts_empty and create == (new, []))
        is_usual = is_new and new == {"extend": "list", "insert": "set"}[kind]
        return f"{new} of {', '.join(map(_operand, items))}" if is_usual else None
    if kind == "choose" and first == ("keep",):
        _, comparison, _, keeps, _ = rest
        choices: tuple[Any, ...] = tuple(
            ("choose", [], comparison, each, keeps, each) for each in (create, other)
        )
        words = "max" if (comparison in {">", ">="}) == keeps else "min"
        return f"{words} of {_operand(create)}" if state[2:] == choices else None
    return None


def _is_int(operand: Any, number: int) -> bool:
    return operand == ("constant", number) and type(operand[1]) is int


def _step(step: Any) -> str:
    kind, *rest = step
    if kind == "keep":
        return "kept"
    if kind == "add all":
        return "+ " + " + ".join(map(_operand, rest[0]))
    if kind == "compute":
        return f"replaced by {_expression(rest[0])}"
    if kind == "choose by":
        test, keeps, value = rest
        return f"replaced by {_operand(value)} {'unless' if keeps else 'if'} {_expression(test)}"
    if kind == "choose":
        at, comparison, compared, keeps, value = rest
        tested = "it" + "".join(f"[{place}]" for place in at)
        test = f"{tested} {comparison} {_operand(compared)}"
        return f"replaced by {_operand(value)} {'unless' if keeps else 'if'} {test}"
    words = {
        "take": "replaced by",
        "add": "+",
        "add in front": "added in front:",
        "extend": "made longer by",
        "insert": "with what is in",
    }
    return f"{words[kind]} {_operand(rest[0])}"


def _operand(operand: tuple[str, Any], name: str = "value") -> str:
    """Return an operand in words; what a function is called with has that name."""
    kind, what = operand
    if kind == "value":
        return name + "".join(f"[{at}]" for at in what)
    if kind in {"list", "set"}:
        items = ", ".join(map(_operand, what))
        return f"[{items}]" if kind == "list" else f"{{{items}}}" if what else "set()"
    if kind == "computed":
        return _expression(what, name)
    return reprlib.repr(what)


def _expression(whole: tuple[Any, ...], name: str = "value") -> str:
    kind, *rest = whole
    if kind == "field":
        return "it" + "".join(f"[{at}]" for at in rest[0])
    if kind in {"value", "constant"}:
        return _operand((kind, rest[0]), name)
    if kind == "extreme":
        is_max, arguments = rest
        words = ", ".join(_expression(each, name) for each in arguments)
        return f"{'max' if is_max else 'min'}({words})"
    if kind == "apply":
        function, argument = rest[0], _expression(rest[1], name)
        if function == "is None":
            return f"({argument} is None)"
        return f"({function} {argument})" if function in {"-", "not"} else f"{function}({argument})"
    if kind == "if":
        test, then, other = (_expression(each, name) for each in rest)
        return f"({then} if {test} else {other})"
    operator, left, right = rest[0], _expression(rest[1], name), _expression(rest[2], name)
    return f"({left} {operator} {right})"


class _NoNativeForm(Exception):
    """The aggregate is one, but not of those that the engine computes."""


def _lowered(aggregator: Any, is_sent: bool) -> Plan:
    names = ("createCombiner", "mergeValue", "mergeCombiners")
    functions = (getattr(aggregator, name) for name in names)
    # Our aggregators hold their functions within a guard.
    create, merge_value, merge_combiners = (
        getattr(each, "__wrapped__", each) for each in functions
    )
    aggregate = recognize(create, merge_value, merge_combiners, is_sent)
    of_values, of_combiners = _Lowering(), _Lowering()
    combiner = _combiner(aggregate.combiner, of_values, of_combiners)
    holds_for_lists = not (
        aggregate.changes_values
        or aggregate.is_for_constant_values
        or aggregate.is_for_constant_combiners
    )
    return combiner, of_values.sizes, of_combiners.sizes, holds_for_lists


def _combiner(whole: State | Fields, of_values: _Lowering, of_combiners: _Lowering) -> Any:
    if isinstance(whole, Fields):
        for value in whole.values:
            of_values.sizes.append((_path(VALUE, value, of_values.sizes), len(whole.fields)))
        return "fields", [_combiner(each, of_values, of_combiners) for each in whole.fields]
    create, first = whole.create, whole.first
    if isinstance(create, Operation) and create.operator in {"+", "|"} and isinstance(first, Keep):
        zero, *rest = create.operands
        is_plus = create.operator == "+"
        starts = _is_new(zero, "list" if is_plus else "set")
        starts = starts or (is_plus and isinstance(zero, Constant))
        if starts and len(rest) == 1:
            first = Fold(create.operator, rest[0])
            create = zero
    return (
        "state",
        of_values.operand(create),
        of_values.step(first),
        of_values.step(whole.merge_value),
        of_combiners.step(whole.merge_combiners),
    )


class _Lowering:
    """What is said of values, or of combiners that are merged into others."""

    def __init__(self) -> None:
        self.sizes: list[Size] = []

    def operand(self, expression: Expression) -> tuple[str, Any]:
        if isinstance(expression, Constant):
            return "constant", expression.value
        if isinstance(expression, Build) and expression.kind in {"list", "set"}:
            return expression.kind, [self.operand(item) for item in expression.items]
        if isinstance(expression, (Argument, Item)):
            return "value", _path(VALUE, expression, self.sizes)
        return "computed", self.expression(expression)

    def expression(self, whole: Expression) -> tuple[Any, ...]:
        if isinstance(whole, Constant):
            return "constant", whole.value
        if isinstance(whole, (Argument, Item)):
            if _root(whole) == COMBINER:
                return "field", _path(COMBINER, whole, None)
            return "value", _path(VALUE, whole, self.sizes)
        if isinstance(whole, Conditional):
            return "if", *map(self.expression, (whole.test, whole.then, whole.other))
        if isinstance(whole, Call):
            return self._call(whole)
        if isinstance(whole, Operation):
            return self._operation(whole)
        raise _NoNativeForm("something is computed of a value in a way")

    def _call(self, call: Call) -> tuple[Any, ...]:
        arguments = list(map(self.expression, call.arguments))
        if call.name in {"max", "min"} and len(arguments) > 1:
            return "extreme", call.name == "max", arguments
        if call.name in {"abs", "len"} and len(arguments) == 1:
            return "apply", call.name, *arguments
        raise _NoNativeForm(f"`{call.name}` is taken of what is in a value")

    def _operation(self, operation: Operation) -> tuple[Any, ...]:
        operator, operands = operation.operator, operation.operands
        if operator in {"is", "is not"}:
            objects = [each for each in operands if each != Constant(None)]
            if len(objects) != 1:
                raise _NoNativeForm("something is asked of a value by `is`")
            is_none = "apply", "is None", self.expression(objects[0])
            return is_none if operator == "is" else ("apply", "not", is_none)
        parts = list(map(self.expression, operands))
        if len(parts) == 1 and operator in {"-", "not"}:
            return "apply", operator, *parts
        # In place is the same for what an expression is computed of.
        spelt = operator[0] if operator in IN_PLACE else operator
        if len(parts) == 2 and spelt in _OPERATORS:
            return "operate", spelt, *parts
        raise _NoNativeForm(f"`{operator}` is applied to what is in a value")

    def step(self, step: Step) -> tuple[Any, ...]:
        if isinstance(step, Keep):
            return ("keep",)
        if isinstance(step, Take):
            return "take", self.operand(step.value)
        if isinstance(step, Fold):
            return self._fold(step)
        if isinstance(step, Choose):
            return self._choice(step)
        if isinstance(step, Compute):
            added = _added(step.result)
            if added is not None:
                return "add all", list(map(self.operand, added))
            return "compute", self.expression(step.result)
        raise _NoNativeForm("a combiner is merged in a way")

    def _choice(self, step: Choose) -> tuple[Any, ...]:
        value = self.operand(step.value)
        test = step.test
        if isinstance(test, Operation) and test.operator in _COMPARISONS:
            field, compared = test.operands
            is_plain = isinstance(field, (Argument, Item)) and _root(field) == COMBINER
            if is_plain and not _looks_at_combiner(compared):
                path = _path(COMBINER, field, None)
                return "choose", path, test.operator, self.operand(compared), step.keeps, value
        return "choose by", self.expression(test), step.keeps, value

    def _fold(self, step: Fold) -> tuple[Any, ...]:
        if step.operator == "+":
            return "add in front" if step.is_swapped else "add", self.operand(step.value)
        if step.operator == "|" and _is_new(step.value, "set"):
            return "insert", self.operand(step.value)
        if step.operator in _OPERATORS:
            operands = (step.value, COMBINER) if step.is_swapped else (COMBINER, step.value)
            return "compute", self.expression(Operation(step.operator, operands))
        if step.is_swapped or step.operator not in _OF_LISTS:
            raise _NoNativeForm(f"values are merged by `{step.operator}`")
        kind, new = _OF_LISTS[step.operator]
        operand = self.operand(step.value)
        return kind, operand if new is None else (new, [operand])


def _is_new(part: Expression, kind: str) -> bool:
    return isinstance(part, Build) and part.kind == kind


def _added(result: Expression) -> list[Expression] | None:
    """Return what is added to the combiner, one after the other; None where it is no such sum."""
    added: list[Expression] = []
    while isinstance(result, Operation) and result.operator == "+" and len(result.operands) == 2:
        result, last = result.operands
        added.insert(0, last)
    is_sum = result == COMBINER and not any(map(_looks_at_combiner, added))
    return added if is_sum else None


def _root(expression: Expression) -> Expression:
    """Return what an expression is an item of, at any depth."""
    while isinstance(expression, Item):
        expression = expression.of
    return expression


def _looks_at_combiner(expression: Expression) -> bool:
    return any(each == COMBINER for each in all_parts(expression))


def _path(root: Argument, expression: Expression, sizes: list[Size] | None) -> Path:
    """Return the tuple indices that lead from `root` to what an expression is."""
    if expression == root:
        return []
    if not isinstance(expression, Item) or not isinstance(expression.index, Constant):
        raise _NoNativeForm("something is computed from a value")
    index = expression.index.value
    path = _path(root, expression.of, sizes)
    if type(index) is not int or index < 0:
        raise _NoNativeForm("something is computed from a value")
    if expression.unpacked is not None:
        if sizes is None:
            raise _NoNativeForm("a combiner is unpacked")
        sizes.append((path, expression.unpacked))
    return [*path, index]
