"""`mapValues`, which is how PySpark ends `groupByKey`, and what most programs do with groups.

PySpark calls two functions of its own for each record, around the program's. Here the program's is
called directly; and what only reads a group, as `len` and `sum` do, reads it before it is wrapped
in a `ResultIterable`.

A worker imports this module for `ValueMap`, so nothing of PySpark is imported at its top.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterable
from typing import Any

from ferroshuffle import _core

# What gives for the list within a `ResultIterable` what it gives for that, and does not keep it.
_READERS = (len, list, tuple, set, frozenset, sum, min, max, sorted, any, all)


class ValueMap:
    """What is done with the records of one partition.

    Parameters
    ----------
    function : callable
        Makes the new value of a value.
    """

    def __init__(self, function: Callable[[Any], Any]):
        self.function = function

    def __reduce__(self) -> tuple[Any, ...]:
        # By a function's name, in the place of which a worker without ferroshuffle has its own.
        return value_map, (self.function,)

    def __call__(self, records: Iterable[Any]) -> _core.MappedValues:
        """Return (key, new value) of the records."""
        wrap: Any = None
        if type(records) is _core.MappedValues and any(self.function is f for f in _READERS):
            iterable = importlib.import_module("pyspark.resultiterable").ResultIterable
            if records.function is iterable:
                records, wrap = records.records, iterable
        return _core.MappedValues(records, self.function, wrap)


def value_map(function: Callable[[Any], Any]) -> ValueMap:
    """Return the `ValueMap` of a function."""
    return ValueMap(function)


def map_values(stock: Callable[..., Any]) -> Callable[..., Any]:
    """Return the `RDD.mapValues` that takes the place of PySpark's, which is `stock`."""

    @functools.wraps(stock)
    def mapValues(self: Any, f: Callable[[Any], Any]) -> Any:  # noqa: N802
        return self.mapPartitions(ValueMap(f), preservesPartitioning=True)

    return mapValues
