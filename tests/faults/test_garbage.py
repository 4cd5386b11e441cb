"""Cycles through a merger are collected, and mergers come and go without a trace."""

from __future__ import annotations

import gc
import os
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ferroshuffle import shuffle
from tests.conftest import NO_LIMIT_MIB, open_files
from tests.faults.children import run

COLLECT = (lambda v: [v], lambda c, v: c.append(v) or c, lambda a, b: a.extend(b) or a)


class Thing:
    """Something to refer to, weakly as well."""

    other: Any = None


def merger(*functions: Any, kind: Any = shuffle.ExternalMerger) -> Any:
    return kind(shuffle.Aggregator(*(functions or COLLECT)), NO_LIMIT_MIB)


def through_a_value(kind: Any) -> Thing:
    thing = Thing()
    thing.other = merger(kind=kind)
    thing.other.mergeValues([(1, thing)])
    return thing


def through_a_combiner() -> Thing:
    thing = Thing()
    thing.other = merger()
    thing.other.mergeCombiners([(1, thing)])
    return thing


def through_a_key() -> Thing:
    thing = Thing()
    thing.other = merger()
    thing.other.mergeValues([(thing, 1)])
    return thing


def through_a_function() -> Thing:
    thing = Thing()
    thing.other = merger(lambda v: (v, thing), lambda c, v: c, lambda a, b: a)
    thing.other.mergeValues([(1, 1)])
    return thing


def through_a_function_after_a_spill() -> Thing:
    thing = Thing()
    thing.other = merger(lambda v: v, lambda c, v: (thing, c), lambda a, b: (thing, a))
    thing.other.mergeValues([(1, 1)])
    thing.other._spill()
    return thing


def through_items() -> Thing:
    thing = Thing()
    held = merger()
    held.mergeValues([(1, thing), (2, thing)])
    thing.other = held.items()
    next(thing.other)
    return thing


def through_items_of_runs() -> Thing:
    thing = Thing()
    held = merger(lambda v: v, lambda c, v: v, lambda a, b: thing)
    for _ in range(2):
        held.mergeValues([(1, 1), (2, 2)])
        held._spill()
    held.mergeValues([(1, thing), (3, thing)])
    thing.other = held.items()
    next(thing.other)
    return thing


def through_a_list() -> Thing:
    thing = Thing()
    thing.other = shuffle.ExternalList([thing])
    return thing


def through_a_sorter_s_result() -> Thing:
    class Eager(shuffle.ExternalSorter):
        def _next_limit(self) -> float:
            return self.memory_limit

    thing = Thing()
    thing.other = iter(Eager(0).sorted(range(500), key=lambda n: (n, thing)[0]))
    next(thing.other)
    return thing


def through_an_attribute() -> Thing:
    thing = Thing()
    thing.other = merger()
    thing.other.note = thing
    return thing


CYCLES: dict[str, Callable[[], Thing]] = {
    "a value": lambda: through_a_value(shuffle.ExternalMerger),
    "a value of a group": lambda: through_a_value(shuffle.ExternalGroupBy),
    "a combiner": through_a_combiner,
    "a key": through_a_key,
    "a function": through_a_function,
    "a function, spilled": through_a_function_after_a_spill,
    "items": through_items,
    "items of runs": through_items_of_runs,
    "a list": through_a_list,
    "a sorter's result": through_a_sorter_s_result,
    "an attribute": through_an_attribute,
}


@pytest.mark.parametrize("name", sorted(CYCLES))
def test_a_cycle_is_collected(name: str) -> None:
    gone = weakref.ref(CYCLES[name]())
    gc.collect()
    assert gone() is None


def test_collecting_in_the_middle_of_merging_does_no_harm() -> None:
    def collect_now(combiner: list[Any], value: Any) -> list[Any]:
        gc.collect()
        return [*combiner, value]

    held = merger(lambda v: [v], collect_now, lambda a, b: (gc.collect() and a + b) or a + b)
    for start in range(2):
        held.mergeValues((n % 20, [n]) for n in range(start, 60))
        held._spill()
        held.mergeCombiners((n, [[n]]) for n in range(20))
    assert sorted(len(value) for _, value in held.items()) == [7] + [8] * 19


def test_values_die_as_soon_as_nobody_needs_them() -> None:
    held = merger(lambda v: v, lambda c, v: v, lambda a, b: b)
    first, second = Thing(), Thing()
    dead = weakref.ref(first)
    held.mergeValues([("a", first), ("a", second)])
    del first
    assert dead() is None
    alive = weakref.ref(second)
    del second
    assert alive() is not None
    del held
    assert alive() is None


def test_records_are_not_kept() -> None:
    class Pair(tuple):
        pass

    records = [Pair((n, n)) for n in range(10)]
    held = merger()
    held.mergeValues(records)
    counts = [len(gc.get_referrers(record)) for record in records]
    assert max(counts) <= 2  # the list of records and the loop
    assert len(list(held.items())) == 10


def test_ten_thousand_mergers_come_and_go() -> None:
    def cycle(count: int) -> None:
        for _ in range(count):
            held = merger()
            held.mergeValues([(n % 5, n) for n in range(20)])
            next(held.items())
            list(shuffle.ExternalSorter(NO_LIMIT_MIB).sorted([2, 1]))

    cycle(3_000)
    gc.collect()
    before, files = resident_kib(), open_files()
    cycle(10_000)
    gc.collect()
    assert resident_kib() - before < 4_096
    assert open_files() == files


def test_a_thousand_mergers_that_spill_come_and_go(local_dirs: list[Path]) -> None:
    class Eager(shuffle.ExternalSorter):
        def _next_limit(self) -> float:
            return self.memory_limit

    def cycle(count: int) -> None:
        for turn in range(count):
            held = merger(kind=[shuffle.ExternalMerger, shuffle.ExternalGroupBy][turn % 2])
            for _ in range(2):
                held.mergeValues([(n % 5, n) for n in range(20)])
                held._spill()
            if turn % 3:
                reading = held.items()
                next(reading)
            if not turn % 10:
                next(iter(Eager(0).sorted(range(250))))

    cycle(300)
    gc.collect()
    before, files = resident_kib(), open_files()
    cycle(1_000)
    gc.collect()
    assert resident_kib() - before < 4_096
    assert open_files() == files


def resident_kib() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE") // 1024


@pytest.mark.parametrize("kind", [shuffle.ExternalMerger, shuffle.ExternalGroupBy])
@pytest.mark.parametrize("way", ["drop", "close", "error"])
def test_a_reader_left_half_way_frees_the_runs(kind: Any, way: str, local_dirs: list[Path]) -> None:
    held = merger(kind=kind)
    for _ in range(3):
        held.mergeValues((n, n) for n in range(200))
        held._spill()
    reading = held.items()
    next(reading)
    if way == "close":
        reading.close()
        assert list(reading) == []
    elif way == "error":
        with pytest.raises(TypeError):
            sum(reading)  # type: ignore[arg-type]
    del reading
    assert not any(target.startswith(str(local_dirs[0].parent)) for target in open_files())
    held.mergeValues([("new", 1)])  # an emptied merger can be used again


def test_memory_is_given_back_after_a_spill(local_dirs: list[Path]) -> None:
    run(
        """
        from ferroshuffle import shuffle
        merger = shuffle.ExternalMerger(shuffle.SimpleAggregator(max), 1 << 30)
        before = shuffle.get_used_memory()
        merger.mergeValues((n, n + 0.5) for n in range(1_000_000))
        grown = shuffle.get_used_memory() - before
        assert grown > 25, grown
        merger._spill()
        kept = shuffle.get_used_memory() - before
        assert kept < grown / 3, (grown, kept)
        """
    )


class Word(str):
    """A key or value of which nobody else holds another reference."""


class Eager(shuffle.ExternalSorter):
    def _next_limit(self) -> float:
        return self.memory_limit


def _raise(*_: Any) -> Any:
    raise ZeroDivisionError


def _merged(keys: list[Word], values: list[Word]) -> None:
    held = merger()
    held.mergeValues(zip(keys, values, strict=True))
    held.mergeValues(zip(keys, values, strict=True))
    held.mergeCombiners(zip(keys, ([value] for value in values), strict=True))
    assert len(list(held.items())) == len(keys)


def _replaced(keys: list[Word], values: list[Word]) -> None:
    held = merger(lambda v: v, lambda c, v: v, lambda a, b: b)
    for _ in range(3):
        held.mergeValues(zip(keys, values, strict=True))
        held.mergeCombiners(zip(keys, values, strict=True))
    reading = held.items()
    next(reading)


def _spilled(keys: list[Word], values: list[Word]) -> None:
    held = merger()
    for _ in range(3):
        held.mergeValues(zip(keys, values, strict=True))
        held._spill()
    held.mergeValues(zip(keys, values, strict=True))
    assert len(list(held.items())) == len(keys)


def _left_half_way(keys: list[Word], values: list[Word]) -> None:
    held = merger()
    held.mergeValues(zip(keys, values, strict=True))
    held._spill()
    held.mergeValues(zip(keys, values, strict=True))
    reading = held.items()
    next(reading)


def _grouped(keys: list[Word], values: list[Word]) -> None:
    held = shuffle.ExternalGroupBy(shuffle.Aggregator(*COLLECT), 0, partitions=2, batch=7)
    for _ in range(3):
        held.mergeValues(zip(keys, values, strict=True))
    assert sum(len(list(group)) for _, group in held.items()) == 3 * len(values)


def _refused(keys: list[Word], values: list[Word]) -> None:
    held = merger(lambda v: v, _raise, _raise)
    held.mergeValues(zip(keys, values, strict=True))
    for merge in (held.mergeValues, held.mergeCombiners):
        with pytest.raises(ZeroDivisionError):
            merge(zip(keys, values, strict=True))
    with pytest.raises(ZeroDivisionError):
        merger(_raise, _raise, _raise).mergeValues(zip(keys, values, strict=True))
    with pytest.raises(ValueError, match="too many"):
        held.mergeValues((key, value, 1) for key, value in zip(keys, values, strict=True))
    with pytest.raises(TypeError):
        held.mergeValues(([key], value) for key, value in zip(keys, values, strict=True))


def _sorted(keys: list[Word], values: list[Word]) -> None:
    items = list(zip(keys, values, strict=True)) * 4
    for limit in (0, NO_LIMIT_MIB):
        assert len(list(Eager(limit).sorted(items, key=lambda item: item[0]))) == len(items)
        next(iter(Eager(limit).sorted(iter(items))))
        with pytest.raises(ZeroDivisionError):
            list(Eager(limit).sorted(items, key=_raise))


def _listed(keys: list[Word], values: list[Word]) -> None:
    class Small(shuffle.ExternalListOfList):
        LIMIT = 7

    held = Small([])
    for pair in zip(keys, values, strict=True):
        held.append(pair)  # type: ignore[arg-type]
    assert list(held) == [word for pair in zip(keys, values, strict=True) for word in pair]
    next(iter(held))


@pytest.mark.parametrize(
    "use",
    [_merged, _replaced, _spilled, _left_half_way, _grouped, _refused, _sorted, _listed],
    ids=lambda use: use.__name__[1:],
)
def test_every_reference_is_given_back(use: Callable[[list[Word], list[Word]], None]) -> None:
    keys = [Word(f"key {n}") for n in range(60)]
    values = [Word(f"value {n}") for n in range(60)]
    words = [*keys, *values]
    before = [sys.getrefcount(word) for word in words]
    for _ in range(3):
        use(keys, values)
    gc.collect()
    assert [sys.getrefcount(word) for word in words] == before
