"""Expressions: what a user's function computes, as `ferroshuffle.bytecode` reads it.

An expression is evaluated as Python evaluates it: from left to right, a conditional's branches only
where they are taken. A part that stands in two places is one object, computed once. So arguments
that change by being looked at (iterators, a dict with ``__missing__``) are not what an expression
is for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ferroshuffle.node import Node

CALLABLE_BUILTINS = frozenset({"abs", "len", "max", "min"})

# Operators that make something of two operands; others tell something about them.
FOLDING = frozenset("+-*&|^")
IN_PLACE = frozenset(f"{each}=" for each in FOLDING)

# Methods of the builtin types that change their object. They return None, so `or` goes on.
CHANGING_METHODS = frozenset({"add", "append", "extend", "update"})
# Those that give a new object.
PURE_METHODS = frozenset({"copy", "intersection", "lower", "union"})


class Expression(Node):
    """What a function computes, or a part of it."""

    def parts(self) -> list[Expression]:
        """Return the expressions that this one is made of, from left to right."""
        held = [each for field in vars(self).values() for each in _each(field)]
        return [each for each in held if isinstance(each, Expression)]


def _each(field: Any) -> tuple[Any, ...]:
    return field if isinstance(field, tuple) else (field,)


class Argument(Expression):
    """The argument at a position of the call, from 0."""

    index: int


class Constant(Expression):
    """A value that is the same in each call. Equal only to one that nothing tells from it."""

    value: Any

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Constant):
            return NotImplemented
        return _is_same(self.value, other.value)

    def __hash__(self) -> int:
        return hash(type(self.value))


def _is_same(one: Any, other: Any) -> bool:
    if one is other or type(one) is not type(other):
        return one is other
    if type(one) is tuple:
        return len(one) == len(other) and all(map(_is_same, one, other))
    if type(one) is float:
        return bool(one == other) and one.hex() == other.hex()
    return type(one) in {int, str, bytes} and bool(one == other)


class Item(Expression):
    """``of[index]``; where `of` is unpacked to `unpacked` names, it has exactly so many items.

    What is unpacked may be anything that can be iterated, of which this is the item at `index`.
    """

    of: Expression
    index: Expression
    unpacked: int | None = None


class Build(Expression):
    """A new `kind` of container, of ``tuple``, ``list`` and ``set``."""

    kind: str
    items: tuple[Expression, ...]


class Operation(Expression):
    """An operator between or before its operands.

    `operator` is spelt as in Python: ``+``, ``<``, ``is not``, ``in``; ``-`` and ``not`` with one
    operand too. ``+=`` and its like may change their first operand, which other parts of an
    expression may look at: where they are not the whole result, they may be taken for ``+`` and
    its like of objects that cannot change, and for nothing else.
    """

    operator: str
    operands: tuple[Expression, ...]


class Call(Expression):
    """A call of the builtin `name`: one of those in `CALLABLE_BUILTINS`."""

    name: str
    arguments: tuple[Expression, ...]


class Method(Expression):
    """A call of a method, whose meaning depends on what the object is."""

    of: Expression
    name: str
    arguments: tuple[Expression, ...]


class Conditional(Expression):
    """``then if test else other``; ``a or b`` is ``a if a else b``, with one `a` in both places."""

    test: Expression
    then: Expression
    other: Expression


class Reading(Node):
    """What a function does.

    First the methods that it calls for what they change, in their order, then its result.
    """

    changes: tuple[Method, ...]
    result: Expression

    @property
    def roots(self) -> tuple[Expression, ...]:
        """All that it does."""
        return (*self.changes, self.result)

    @property
    def outcomes(self) -> tuple[Expression, ...]:
        """What is in its result, and what it puts into the objects that it changes."""
        return (self.result, *(each for change in self.changes for each in change.arguments))


def all_parts(*roots: Expression, but: Expression | None = None) -> Iterator[Expression]:
    """Yield expressions and their parts, each once, without `but` and what that is made of."""
    seen: set[int] = set()
    todo = list(roots)
    while todo:
        each = todo.pop()
        if id(each) not in seen and (but is None or each != but):
            seen.add(id(each))
            yield each
            todo.extend(each.parts())
