"""An error of user code at any stage comes through, and dropping the merger then leaks nothing.

The leak check is `conftest.py`'s, which runs after every test.
"""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ferroshuffle import shuffle
from tests.conftest import NO_LIMIT_MIB, open_files


class Fault(Exception):
    pass


class Trigger:
    """Raises at the n-th pull, once it is armed."""

    left = -1

    @classmethod
    def arm(cls, pulls: int) -> None:
        cls.left = pulls

    @classmethod
    def pull(cls) -> None:
        cls.left -= 1
        if cls.left == 0:
            raise Fault


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    Trigger.arm(-1)
    yield
    Trigger.arm(-1)


class Key:
    """A key of which one operation may be the fault."""

    faulty = ""

    def __init__(self, number: int) -> None:
        self.number = number

    def _meet(self, operation: str) -> None:
        if self.faulty == operation:
            Trigger.pull()

    def __hash__(self) -> int:
        self._meet("hash")
        return self.number % 7

    def __eq__(self, other: object) -> bool:
        self._meet("eq")
        return isinstance(other, Key) and self.number == other.number

    def __lt__(self, other: Key) -> bool:
        self._meet("lt")
        return self.number < other.number

    def __getstate__(self) -> int:
        self._meet("getstate")
        return self.number

    def __setstate__(self, number: int) -> None:
        self._meet("setstate")
        self.number = number or 0

    def __reduce__(self) -> Any:
        self._meet("reduce")
        return type(self), (0,), self.__getstate__()


class KeyOfHash(Key):
    faulty = "hash"


class KeyOfEq(Key):
    faulty = "eq"


class KeyOfLt(Key):
    faulty = "lt"


class KeyOfReduce(Key):
    faulty = "reduce"


class KeyOfSetstate(Key):
    faulty = "setstate"


KEYS = {"hash": KeyOfHash, "eq": KeyOfEq, "reduce": KeyOfReduce, "setstate": KeyOfSetstate}


def collecting(**faulty: bool) -> shuffle.Aggregator[Any, Any]:
    def create(value: Any) -> list[Any]:
        if faulty.get("create"):
            Trigger.pull()
        return [value]

    def merge_value(combiner: list[Any], value: Any) -> list[Any]:
        if faulty.get("value"):
            Trigger.pull()
        combiner.append(value)
        return combiner

    def merge_combiners(left: list[Any], right: list[Any]) -> list[Any]:
        if faulty.get("combiners"):
            Trigger.pull()
        return left + right

    return shuffle.Aggregator(create, merge_value, merge_combiners)


MERGERS = [shuffle.ExternalMerger, shuffle.ExternalGroupBy]


def steps(merger: Any, key: Callable[[int], Any], limit: float) -> None:
    """Merge, spill and read back: every stage that a merger has."""
    merger.memory_limit = limit
    for start in range(0, 200, 40):
        merger.mergeValues((key(n % 30), n) for n in range(start, start + 40))
        merger.mergeCombiners((key(n % 30), [n]) for n in range(start, start + 40))
        if start != 80:
            merger._spill()
    for _, group in merger.items():
        assert len(list(group)) in (12, 13, 14)


@pytest.mark.parametrize("kind", MERGERS)
@pytest.mark.parametrize("limit", [0, NO_LIMIT_MIB])
@pytest.mark.parametrize("stage", ["create", "value", "combiners", *KEYS])
def test_an_error_at_every_point_comes_through_and_the_merger_can_be_dropped(
    kind: Any, limit: float, stage: str
) -> None:
    seen = 0
    pulls = 1
    while True:
        merger = kind(collecting(**{stage: True}), limit, partitions=3, batch=20)
        Trigger.arm(pulls)
        try:
            steps(merger, KEYS.get(stage, int), limit)
        except Fault:
            seen += 1
        else:
            break
        pulls += 1 + pulls // 4
    assert seen >= 8, "the stage was hardly reached"


def _every_stage(merger: Any, key: Callable[[int], Any]) -> None:
    merger.mergeValues((key(n), "faulty") for n in range(50, 80))
    merger.mergeValues((key(n % 50), "faulty") for n in range(50))
    merger.mergeCombiners((key(n), ["faulty"]) for n in range(50))
    merger._spill()
    list(merger.items())


@pytest.mark.parametrize("stage", ["create", "value", "combiners", "hash", "eq", "reduce"])
def test_after_an_error_before_reading_the_rest_can_be_merged_and_read(stage: str) -> None:
    for pulls in (1, 2, 5, 9):
        merger = shuffle.ExternalMerger(collecting(**{stage: True}), NO_LIMIT_MIB, partitions=3)
        key = KEYS.get(stage, int)
        merger.mergeValues((key(n), "before") for n in range(50))
        Trigger.arm(pulls)
        with pytest.raises(Fault):
            _every_stage(merger, key)
        Trigger.arm(-1)
        if merger.spills == 0:
            merger.mergeValues((key(n), "after") for n in range(50))
            merger._spill()
            result = {getattr(k, "number", k): group for k, group in merger.items()}
            assert all(result[n][0] == "before" and result[n][-1] == "after" for n in range(50))


def test_after_an_error_while_reading_back_no_item_is_wrong_or_twice(
    local_dirs: list[Path],
) -> None:
    merger = shuffle.ExternalMerger(collecting(combiners=True), NO_LIMIT_MIB, partitions=5)
    for value in range(2):
        merger.mergeValues((n, value) for n in range(100))
        merger._spill()
    Trigger.arm(30)
    reading = merger.items()
    result: list[Any] = []
    with pytest.raises(Fault):
        result.extend(reading)
    result.extend(reading)  # which may give the rest, or nothing as a generator would
    keys = {key for key, _ in result}
    assert sorted(result) == [(key, [0, 1]) for key in sorted(keys)]
    assert keys <= set(range(100))
    del reading
    assert not any(target.startswith(str(local_dirs[0].parent)) for target in open_files())


@pytest.mark.parametrize("limit", [0, NO_LIMIT_MIB])
def test_an_error_of_less_than_in_a_sorter(limit: float) -> None:
    items = [KeyOfLt(n * 31 % 500) for n in range(500)]

    class Eager(shuffle.ExternalSorter):
        def _next_limit(self) -> float:
            return self.memory_limit

    seen, pulls = 0, 1
    while True:
        Trigger.arm(pulls)
        try:
            result = [item.number for item in Eager(limit).sorted(iter(items))]
        except Fault:
            seen += 1
        else:
            assert result == sorted(n * 31 % 500 for n in range(500))
            break
        pulls += 1 + pulls // 3
    assert seen >= 8


def _fill_and_read(held: Any, make: Callable[[int], Any]) -> None:
    for n in range(350):
        held.append(make(n))
    list(held)


@pytest.mark.parametrize("operation", [KeyOfReduce, KeyOfSetstate])
def test_an_error_of_pickling_in_a_sorter_and_in_a_list(operation: Any) -> None:
    class Eager(shuffle.ExternalSorter):
        def _next_limit(self) -> float:
            return self.memory_limit

    class Small(shuffle.ExternalList):
        LIMIT = 5

    for pulls in (1, 7, 120, 260):
        Trigger.arm(pulls)
        with pytest.raises(Fault):
            list(Eager(0).sorted([operation(n) for n in range(350)]))
        held = Small([])
        Trigger.arm(pulls)
        with pytest.raises(Fault):
            _fill_and_read(held, operation)


@pytest.mark.parametrize("kind", MERGERS)
def test_an_iterator_that_raises_after_spills(kind: Any) -> None:
    def source() -> Iterator[Any]:
        yield from ((n, n) for n in range(5_000))
        raise Fault

    merger = kind(collecting(), 1, partitions=3, batch=100)
    with pytest.raises(Fault):
        merger.mergeValues(source())
    assert merger.spills >= 1
    assert sorted((key, list(group)) for key, group in merger.items()) == [
        (n, [n]) for n in range(5_000)
    ]


def test_a_generator_input_is_closed_when_a_function_raises() -> None:
    closed = []

    def source() -> Iterator[Any]:
        try:
            while True:
                yield 1, 1
        finally:
            closed.append(True)

    merger = shuffle.ExternalMerger(collecting(value=True), NO_LIMIT_MIB)
    Trigger.arm(3)
    with pytest.raises(Fault):
        merger.mergeValues(source())
    gc.collect()
    assert closed == [True]


def test_an_error_in_a_subclass_s_hook_comes_through() -> None:
    class Hooked(shuffle.ExternalMerger):
        def _spill(self) -> None:
            Trigger.pull()
            super()._spill()

    merger = Hooked(collecting(), 1)
    Trigger.arm(1)
    with pytest.raises(Fault):
        merger.mergeValues((n, n) for n in range(3_000))
    assert sorted(merger.items()) == [(n, [n]) for n in range(len(list(merger.items())))]

    class HookedSorter(shuffle.ExternalSorter):
        def _next_limit(self) -> float:
            Trigger.pull()
            return 0

    Trigger.arm(1)
    with pytest.raises(Fault):
        list(HookedSorter(0).sorted(range(1_000)))


class Ends:
    """Raises StopIteration, which would end a loop in silence, once it is `armed`."""

    armed = ""

    def __init__(self, number: int) -> None:
        self.number = number

    def _meet(self, operation: str) -> None:
        if self.armed == operation:
            raise StopIteration(operation)

    def __hash__(self) -> int:
        self._meet("hash")
        return 1

    def __eq__(self, other: Any) -> bool:
        self._meet("eq")
        return self.number == other.number

    def __lt__(self, other: Any) -> bool:
        self._meet("lt")
        return self.number < other.number

    def __setstate__(self, state: dict[str, int]) -> None:
        self._meet("setstate")
        self.__dict__.update(state)


@pytest.fixture
def arm(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    return lambda operation: monkeypatch.setattr(Ends, "armed", operation)


@pytest.mark.parametrize("kind", MERGERS)
@pytest.mark.parametrize("operation", ["hash", "eq", "setstate"])
def test_stop_iteration_of_a_key_while_runs_are_read_does_not_end_the_items(
    kind: Any, operation: str, arm: Callable[[str], None]
) -> None:
    merger = kind(collecting(), NO_LIMIT_MIB, partitions=1)
    for _ in range(2):
        merger.mergeValues((Ends(n), n) for n in range(3))
        merger._spill()
    arm(operation)
    with pytest.raises(RuntimeError, match="StopIteration"):
        list(merger.items())


def test_stop_iteration_of_an_aggregator_without_a_guard_does_not_end_the_items() -> None:
    class Plain:
        createCombiner = staticmethod(lambda value: value)
        mergeValue = staticmethod(max)

        @staticmethod
        def mergeCombiners(left: Any, right: Any) -> Any:
            raise StopIteration

    merger = shuffle.ExternalMerger(Plain(), NO_LIMIT_MIB)  # type: ignore[arg-type]
    for _ in range(2):
        merger.mergeValues([("a", 1), ("b", 2)])
        merger._spill()
    with pytest.raises(RuntimeError, match="StopIteration"):
        list(merger.items())


@pytest.mark.parametrize("operation", ["lt", "key"])
def test_stop_iteration_while_sorted_runs_are_merged_does_not_end_the_sort(
    operation: str, arm: Callable[[str], None]
) -> None:
    class Eager(shuffle.ExternalSorter):
        def _next_limit(self) -> float:
            return self.memory_limit

    def key(item: Ends) -> Ends:
        item._meet("key")
        return item

    items = [Ends(n * 31 % 1_000) for n in range(1_000)]
    result = iter(Eager(0).sorted(items, key=key))
    next(result)
    arm(operation)
    with pytest.raises(RuntimeError, match="StopIteration"):
        list(result)


def test_stop_iteration_as_the_first_of_sorted_runs_are_read_does_not_end_the_sort() -> None:
    class Eager(shuffle.ExternalSorter):
        def _next_limit(self) -> float:
            return self.memory_limit

    calls = itertools.count()

    def key(number: int) -> int:
        if next(calls) >= 1_000:  # all were sorted in their runs by then
            raise StopIteration
        return number

    with pytest.raises(RuntimeError, match="StopIteration"):
        list(Eager(0).sorted(range(1_000), key=key))


def test_stop_iteration_while_a_list_is_read_does_not_end_it(arm: Callable[[str], None]) -> None:
    class Small(shuffle.ExternalList):
        LIMIT = 3

    held = Small([])
    for n in range(7):
        held.append(Ends(n))
    arm("setstate")
    with pytest.raises(RuntimeError, match="StopIteration"):
        list(held)
