"""How what workers count of a shuffle comes to the driver: by an accumulator of Spark's.

The counters of a task are live objects in the accumulator's value; they become numbers when the
worker sends that value, which it does when the task has ended. A task that fails sends nothing, and
one that is run twice counts twice, as it is with every accumulator in a transformation.

A worker imports this module for `ShuffleMetrics`.
"""

from __future__ import annotations

from typing import Any

from pyspark.accumulators import AccumulatorParam

from ferroshuffle import _core

#: Of as many shuffles counts are kept, those of the newest: a program may make RDDs in a loop.
MOST_SHUFFLES = 1000

#: What is counted of one shuffle, by name; a dict, or in a worker what becomes one.
Counts = dict[str, Any]


class ShuffleMetrics:
    """Where what is counted of one shuffle goes.

    Parameters
    ----------
    number : int
        Of the shuffle; newer ones have greater numbers.
    accumulator : pyspark.Accumulator
        Of all shuffles of a context.
    counters : ferroshuffle._core.Counters, optional
        Of this shuffle in this task; None on the driver, where nothing is counted.
    """

    def __init__(self, number: int, accumulator: Any, counters: _core.Counters | None = None):
        self.number = number
        self.accumulator = accumulator
        self.counters = counters

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (self.number, self.accumulator)


def _arrived(number: int, accumulator: Any) -> ShuffleMetrics:
    """Return the metrics of a shuffle, with counters where this is a worker."""
    if not accumulator._deserialized:
        return ShuffleMetrics(number, accumulator)
    counters = accumulator._value.setdefault(number, _core.Counters())
    return ShuffleMetrics(number, accumulator, counters)


class CountsParam(AccumulatorParam[dict[int, Counts]]):
    """Adds up counts, by shuffle."""

    def zero(self, value: dict[int, Counts]) -> dict[int, Counts]:  # noqa: ARG002
        """Return no counts of no shuffle."""
        return {}

    def addInPlace(  # noqa: N802
        self, value1: dict[int, Counts], value2: dict[int, Counts]
    ) -> dict[int, Counts]:
        """Return the counts of both; the first are left as they are, since others read them."""
        total = dict(value1)
        for number, counts in value2.items():
            total[number] = _sum(total.get(number, {}), counts)
        for number in sorted(total)[:-MOST_SHUFFLES]:
            del total[number]
        return total


def _sum(one: Counts, other: Counts) -> Counts:
    total = {name: one.get(name, 0) + count for name, count in other.items() if name != "cause"}
    return {**total, "cause": one.get("cause") or other.get("cause")}
