"""Workloads that call the shuffle module directly, in one process, without Spark.

Input is the same in every run. Rows without a limit read a list made before the clock starts.
Rows with one read a chain of C iterators instead, the same on both sides, because a list of
records would exceed the limit before the work begins; making those records is inside the clock.
The row about what a record takes reads such a chain as well: the merger alone holds the records.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from itertools import islice, repeat
from operator import itemgetter, mod
from typing import Any

from measured import Answer, Run, resident_set

SEED = 20140725

# A memory limit in MiB that no machine reaches.
UNLIMITED = 1 << 30

# Among so many keys two of a few million records are hardly ever equal.
DISTINCT = 1 << 60

# The numbers that sets are made of.
SET_VALUES = 1_000

# How many sorted records lie between two that go into the answer.
SORTED_STRIDE = 997


def random_keys(records: int, keys: int) -> Iterator[int]:
    """Return `records` numbers below `keys`, made by C code as they are asked for."""
    draw = random.Random(SEED).getrandbits
    return map(mod, map(draw, repeat(60, records)), repeat(keys))


def as_str(key: int) -> str:
    """Return a text key, as fresh as an unpickled one: no shared object, no hash kept."""
    return f"key-{key}"


def as_tuple(key: int) -> tuple[int, int]:
    """Return a key of two fields, the first with many ties."""
    return (key % 1000, key)


def as_str_and_int(key: int) -> tuple[str, int]:
    """Return a key of a text, which many keys share, and a number."""
    return (f"key-{key % 1000}", key // 1000)


def answer_of(items: Iterable[tuple[Any, int]]) -> Answer:
    """Return how many keys there are and the sum of what they hold."""
    values = [value for _, value in items]
    return [len(values), sum(values)]


def merge_values(run: Run, keys: int, key: Callable[[int], Any]) -> Answer:
    """`mergeValues` over a list of (key, int) pairs, `lambda a, b: a + b`."""
    pairs = list(zip(map(key, random_keys(run.records, keys)), range(run.records), strict=True))
    aggregator = run.shuffle.SimpleAggregator(lambda a, b: a + b)
    merger = run.shuffle.ExternalMerger(aggregator, UNLIMITED)
    with run.clock():
        merger.mergeValues(pairs)
    return answer_of(merger.items())


def average_values(run: Run, keys: int) -> Answer:
    """`mergeValues` over a list of (int, int) pairs, to a sum and a count a key.

    `lambda v: (v, 1)` and `lambda c, v: (c[0] + v, c[1] + 1)`: the map side of an average.
    """
    pairs = list(zip(random_keys(run.records, keys), range(run.records), strict=True))
    aggregator = run.shuffle.Aggregator(
        lambda v: (v, 1),
        lambda c, v: (c[0] + v, c[1] + 1),
        lambda a, b: (a[0] + b[0], a[1] + b[1]),
    )
    merger = run.shuffle.ExternalMerger(aggregator, UNLIMITED)
    with run.clock():
        merger.mergeValues(pairs)
    totals, counts = zip(*map(itemgetter(1), merger.items()), strict=True)
    return [len(totals), sum(totals), sum(counts)]


def list_aggregator(run: Run) -> Any:
    """Return the aggregator `groupByKey` makes: one value to a list, append, extend."""

    def append(values: list[int], value: int) -> list[int]:
        values.append(value)
        return values

    def extend(values: list[int], others: list[int]) -> list[int]:
        values.extend(others)
        return values

    return run.shuffle.Aggregator(lambda value: [value], append, extend)


def append_values(run: Run, keys: int) -> Answer:
    """`mergeValues` over a list of (int, int) pairs, appending to a list a key."""
    pairs = list(zip(random_keys(run.records, keys), range(run.records), strict=True))
    merger = run.shuffle.ExternalMerger(list_aggregator(run), UNLIMITED)
    with run.clock():
        merger.mergeValues(pairs)
    return answer_of((key, sum(values)) for key, values in merger.items())


def read_groups(run: Run, keys: int) -> Answer:
    """`mergeValues` over a list of (int, int) pairs, appending to a list a key, and `items()`.

    Of every list the length is taken, and its values are looked at one by one.
    """
    pairs = list(zip(random_keys(run.records, keys), range(run.records), strict=True))
    merger = run.shuffle.ExternalMerger(list_aggregator(run), UNLIMITED)
    total, squares = 0, 0
    with run.clock():
        merger.mergeValues(pairs)
        for _, values in merger.items():
            squares += len(values) ** 2
            total += sum(values)
    return hash((total, squares))


def set_values(run: Run, keys: int) -> Answer:
    """`mergeValues` over a list of (int, int) pairs, adding values below 1,000 to a set a key.

    `lambda v: {v}` and `lambda s, v: s.add(v) or s`.
    """
    values = (at % SET_VALUES for at in range(run.records))
    pairs = list(zip(random_keys(run.records, keys), values, strict=True))
    aggregator = run.shuffle.Aggregator(
        lambda v: {v}, lambda s, v: s.add(v) or s, lambda a, b: a | b
    )
    merger = run.shuffle.ExternalMerger(aggregator, UNLIMITED)
    with run.clock():
        merger.mergeValues(pairs)
    return answer_of((key, sum(values)) for key, values in merger.items())


def merge_distinct(run: Run) -> Answer:
    """`mergeValues` over streamed (int, int) pairs with distinct keys, then `items()` drained."""
    pairs = zip(random_keys(run.records, DISTINCT), range(run.records), strict=True)
    aggregator = run.shuffle.SimpleAggregator(lambda a, b: a + b)
    merger = run.shuffle.ExternalMerger(aggregator, run.limit)
    with run.clock():
        merger.mergeValues(pairs)
        total: int = sum(map(itemgetter(1), merger.items()))
    run.count_spilled()
    return total


def hold_distinct(run: Run) -> Answer:
    """`mergeValues` over streamed (int, int) pairs with distinct keys, `lambda a, b: a + b`.

    Nobody else holds the pairs, so what the resident set has grown by at the end is the merger's.
    """
    pairs = zip(random_keys(run.records, DISTINCT), range(run.records), strict=True)
    aggregator = run.shuffle.SimpleAggregator(lambda a, b: a + b)
    merger = run.shuffle.ExternalMerger(aggregator, UNLIMITED)
    before = resident_set()
    with run.clock():
        merger.mergeValues(pairs)
    run.result.held = resident_set() - before
    return answer_of(merger.items())


def group_values(run: Run, keys: int) -> Answer:
    """`ExternalGroupBy.mergeValues` over streamed (int, int) pairs, then `items()` drained.

    `len` of each group is taken.
    """
    grouper = run.shuffle.ExternalGroupBy(list_aggregator(run), run.limit)
    pairs = zip(random_keys(run.records, keys), range(run.records), strict=True)
    with run.clock():
        grouper.mergeValues(pairs)
        answer = group_sizes(grouper.items())
    run.count_spilled()
    return answer


def group_combiners(run: Run, keys: int) -> Answer:
    """`ExternalGroupBy.mergeCombiners` over streamed (int, [int]) pairs, then `items()` drained.

    This is the reduce side of `groupByKey`. `len` of each group is taken.
    """
    grouper = run.shuffle.ExternalGroupBy(list_aggregator(run), run.limit)
    pairs = zip(random_keys(run.records, keys), map(list, zip(range(run.records))), strict=True)
    with run.clock():
        grouper.mergeCombiners(pairs)
        answer = group_sizes(grouper.items())
    run.count_spilled()
    return answer


def group_sizes(items: Iterable[tuple[Any, Any]]) -> Answer:
    """Return the sum of the squared group sizes, which a wrongly split group would change."""
    sizes: Iterator[int] = map(len, map(itemgetter(1), items))
    squares: Iterator[int] = map(pow, sizes, repeat(2))
    return sum(squares)


def sort_pairs(run: Run, key: Callable[[int], Any]) -> Answer:
    """`ExternalSorter.sorted` with `key=lambda kv: kv[0]` over (key, int) pairs, drained.

    The pairs are in random order; a list without a limit, streamed with one.
    """
    pairs: Iterable[tuple[Any, int]]
    pairs = zip(map(key, random_keys(run.records, 1 << 32)), range(run.records), strict=True)
    if run.limit is None:
        pairs = list(pairs)
    sorter = run.shuffle.ExternalSorter(run.limit or UNLIMITED)
    with run.clock():
        ordered = map(itemgetter(1), sorter.sorted(pairs, key=lambda kv: kv[0]))
        answer = list(islice(ordered, 0, None, SORTED_STRIDE))
    run.count_spilled()
    # Hashes of ints do not depend on the process.
    return hash(tuple(answer))


def reduce_by(run: Run, keys: int) -> Answer:
    """`cytoolz.reduceby(0, f, pairs, 0)` against `mergeValues` over a list of (key, pair).

    `f = lambda total, pair: total + pair[1]` on both sides.
    """
    pairs = list(zip(random_keys(run.records, keys), range(run.records), strict=True))

    add = lambda total, pair: total + pair[1]  # noqa: E731 (the row is about a lambda)

    if run.side == "cytoolz":
        cytoolz = import_module("cytoolz")
        with run.clock():
            reduced = cytoolz.reduceby(0, add, pairs, 0)
        return answer_of(reduced.items())

    keyed = list(zip(map(itemgetter(0), pairs), pairs, strict=True))
    merger = run.shuffle.ExternalMerger(run.shuffle.Aggregator(itemgetter(1), add, add), UNLIMITED)
    with run.clock():
        merger.mergeValues(keyed)
    return answer_of(merger.items())


def import_module_alone(run: Run) -> Answer:
    """Import the shuffle module in a process that has imported `pyspark.daemon`.

    That is the parent of every worker. It has loaded `pyspark.shuffle` already, which is therefore
    forgotten first.
    """
    import_module("pyspark.daemon")
    name = "ferroshuffle.shuffle" if run.side == "ours" else "pyspark.shuffle"
    sys.modules.pop("pyspark.shuffle")
    with run.clock():
        import_module(name)
    return 0
