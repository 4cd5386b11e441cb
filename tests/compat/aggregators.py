"""The user's functions that the differential tests run, by what they do with a combiner."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable
from typing import Any

from pyspark.shuffle import Aggregator as StockAggregator
from pyspark.shuffle import ExternalGroupBy as StockGroupBy
from pyspark.shuffle import ExternalMerger as StockMerger
from pyspark.shuffle import ExternalSorter as StockSorter

from ferroshuffle import shuffle
from tests.conftest import NO_LIMIT_MIB

__all__ = [
    "COLLECT",
    "IN_MEMORY",
    "ORDER_KEEPING",
    "UNDER_TEST",
    "StockAggregator",
    "StockGroupBy",
    "StockMerger",
    "StockSorter",
    "ours",
    "stock",
]

Functions = tuple[Callable[[Any], Any], Callable[[Any, Any], Any], Callable[[Any, Any], Any]]

COLLECT: Functions = (lambda v: [v], lambda c, v: c.append(v) or c, lambda a, b: a.extend(b) or a)


def _change_type(combiner: Any, value: Any) -> Any:
    if isinstance(combiner, list):
        return (*combiner, value) if len(combiner) > 2 else [*combiner, value]
    return {"was": combiner, "now": value} if isinstance(combiner, tuple) else [combiner, value]


def _tally(combiner: dict[str, int], value: Any) -> dict[str, int]:
    name = type(value).__name__
    combiner[name] = combiner.get(name, 0) + 1
    return combiner


def _add_tallies(left: dict[str, int], right: dict[str, int]) -> dict[str, int]:
    for name, count in right.items():
        left[name] = left.get(name, 0) + count
    return left


# Associative, and the order of a key's records survives in the result: a spill must not show.
ORDER_KEEPING: dict[str, Functions] = {
    "mutates": COLLECT,
    "pure": (lambda v: (v,), lambda c, v: (*c, v), operator.add),
    "counts": (lambda v: 1, lambda c, v: c + 1, operator.add),
    "keeps_first": (lambda v: v, lambda c, v: c, lambda a, b: a),
    "keeps_last": (lambda v: v, lambda c, v: v, lambda a, b: b),
    "tallies_types": (lambda v: _tally({}, v), _tally, _add_tallies),
    "forgets": (lambda v: None, lambda c, v: None, lambda a, b: None),
    "concatenates_repr": (repr, lambda c, v: c + repr(v), operator.add),
}

IN_MEMORY: dict[str, Functions] = {
    **ORDER_KEEPING,
    "nests": (lambda v: v, lambda c, v: (c, v), lambda a, b: [a, b]),
    "changes_type": (lambda v: [v], _change_type, _change_type),
    "common_bug": (lambda v: [v], lambda c, v: c.append(v), lambda a, b: a.extend(b)),
    "adds_what_adds": (lambda v: v, operator.add, operator.add),
}

# What can be run under any limit.
UNDER_TEST = ORDER_KEEPING if "FERROSHUFFLE_TEST_LIMIT" in os.environ else IN_MEMORY


def ours(
    functions: Functions, memory_limit: float = NO_LIMIT_MIB, **options: Any
) -> shuffle.ExternalMerger[Any, Any, Any]:
    return shuffle.ExternalMerger(shuffle.Aggregator(*functions), memory_limit, **options)


def stock(functions: Functions) -> StockMerger:
    return StockMerger(StockAggregator(*functions), NO_LIMIT_MIB)
