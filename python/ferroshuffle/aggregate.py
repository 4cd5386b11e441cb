"""Aggregates: what a shuffle's three functions make together, as `ferroshuffle.recognize` tells.

An aggregate says how combiners start, how a value is merged into one, and how two are merged. Its
expressions have two arguments: `COMBINER`, which is the combiner or the field of it that they are
about, and `VALUE`, which is the whole value, or in `merge_combiners` the whole other combiner.

It does not hold for everything. What follows is outside; there the user's functions are to be
called, with the combiner as it was before the step, in all its fields. A combiner that they have
made stays outside, whatever its type.

- objects of other types than ``int``, ``float``, ``bool``, ``str``, ``bytes``, ``None``, ``tuple``,
  ``list`` and ``set``, of these exactly;
- a list or set that came in two places, such as two values, or that is in itself;
- a set in which there are items of several types, or a float, at any depth;
- whatever makes a step fail;
- an operator in place, such as ``+=``, within an expression, if its left operand is a list or set;
- a `Fold` of a list or set with anything but another of its own type, or by a method, an item;
- unpacking, or a list made longer by, anything but a tuple or list: the order of a set is its own;
- comparing tuples or lists in which there is a nan, or looking for one in them by ``in``, since
  that goes by which object it is.
"""

from __future__ import annotations

from ferroshuffle.expression import Argument, Expression
from ferroshuffle.node import Node

COMBINER = Argument(0)
VALUE = Argument(1)


class Step(Node):
    """What becomes of a combiner."""


class Keep(Step):
    """It stays as it is."""


class Take(Step):
    """It becomes `value`, whatever it was."""

    value: Expression


class Fold(Step):
    """It becomes ``COMBINER operator value``, or ``value operator COMBINER`` if `is_swapped`.

    `operator` is one of ``+ - * & | ^``, or the name of a method that the left operand is asked
    for. If `is_in_place`, the combiner itself is what is changed, where it is a list or set.
    """

    operator: str
    value: Expression
    is_swapped: bool = False
    is_in_place: bool = False


class Choose(Step):
    """It stays where the truth of `test` is `keeps`, and becomes `value` where it is not.

    ``max`` and ``min`` are this, and ``or`` and ``and``. If `test` is a comparison (``<``, ``<=``,
    ``>``, ``>=``, ``==``, ``!=``) of which one side looks at the combiner, that is the left one. It
    is neither ``is not`` nor ``not in``.
    """

    test: Expression
    keeps: bool
    value: Expression


class Compute(Step):
    """It becomes `result`, which is computed from what it was."""

    result: Expression


class State(Node):
    """A combiner, or a field of one, that is merged by itself.

    It starts as `create`, on which `first` is done.
    """

    create: Expression
    first: Step
    merge_value: Step
    merge_combiners: Step


class Fields(Node):
    """A combiner, or a field of one, that is a tuple of fields, each merged by itself.

    `values` are what becomes this tuple as it is: the value, or parts of it. Values are outside if
    one of these is anything but a tuple of exactly so many fields; so are other combiners.
    """

    fields: tuple[State | Fields, ...]
    values: tuple[Expression, ...]


class Aggregate(Node):
    """What three functions make together.

    If `changes_values`, lists and sets that came as values are changed. It holds for those that
    nobody else sees, each of which came once, such as columns that have just been read.
    Where combiners are merged, those that are given are changed by a `Fold` in place.

    If `is_for_constant_values`, values in which there is a list or set are outside, since one
    object may get into two places; if `is_for_constant_combiners`, such combiners are, at any time.
    """

    combiner: State | Fields
    changes_values: bool
    is_for_constant_values: bool
    is_for_constant_combiners: bool
