"""Aggregates: what a shuffle's three functions make together, as `ferroshuffle.recognize` tells.

An aggregate says how combiners start, how a value is merged into one, and how two are merged. Its
expressions have two arguments: `COMBINER`, which is the combiner or the field of it that they are
about, and `VALUE`, which is the whole value, or in `merge_combiners` the whole other combiner.

It holds where the values are of types that columns are made of, and the types are such that each
step succeeds; for anything else, and wherever a step fails, the user's functions are to be called.
"""

from __future__ import annotations

from dataclasses import dataclass

from ferroshuffle.expression import Argument, Expression

COMBINER = Argument(0)
VALUE = Argument(1)


class Step:
    """What becomes of a combiner."""


@dataclass(frozen=True)
class Keep(Step):
    """It stays as it is."""


@dataclass(frozen=True)
class Take(Step):
    """It becomes `value`, whatever it was."""

    value: Expression


@dataclass(frozen=True)
class Fold(Step):
    """It becomes ``COMBINER operator value``, or ``value operator COMBINER`` if `is_swapped`.

    `operator` is one of ``+ - * & | ^``, or the name of a method that the left operand is asked
    for. If `is_in_place`, the left operand itself is what is changed, where it can be.
    """

    operator: str
    value: Expression
    is_swapped: bool = False
    is_in_place: bool = False


@dataclass(frozen=True)
class Choose(Step):
    """It stays where the truth of `test` is `keeps`, and becomes `value` where it is not.

    ``max`` and ``min`` are this, and ``or`` and ``and``. In a comparison the combiner is on the
    left, unless both sides look at it.
    """

    test: Expression
    keeps: bool
    value: Expression


@dataclass(frozen=True)
class Compute(Step):
    """It becomes `result`, which is computed from what it was."""

    result: Expression


@dataclass(frozen=True)
class State:
    """A combiner, or a field of one, that is merged by itself.

    It starts as `create`, on which `first` is done.
    """

    create: Expression
    first: Step
    merge_value: Step
    merge_combiners: Step


@dataclass(frozen=True)
class Fields:
    """A combiner, or a field of one, that is a tuple of fields, each merged by itself.

    `values` are what becomes this tuple as it is: the value, or parts of it. The aggregate holds
    for values of which each of these is a tuple of exactly so many fields.
    """

    fields: tuple[State | Fields, ...]
    values: tuple[Expression, ...]


@dataclass(frozen=True)
class Aggregate:
    """What three functions make together.

    If `changes_values`, objects that came as values are changed, if they can be; it holds where
    nobody else sees them, as when they have just been read. Combiners that are given to be merged
    are changed wherever `merge_combiners` has a step in place.

    Where one object that came with a value may get into two places, the aggregate holds for values
    in which nothing can change: `is_for_constant_values`. Where one that was made on the way may,
    or may be changed and looked at, it holds for such combiners: `is_for_constant_combiners`.
    """

    combiner: State | Fields
    changes_values: bool
    is_for_constant_values: bool
    is_for_constant_combiners: bool
