"""`MappedValues` gives what PySpark's `mapValues` makes of the same records."""

from __future__ import annotations

import pickle
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from pyspark.resultiterable import ResultIterable
from pyspark.util import fail_on_stopiteration

from ferroshuffle import shuffle
from ferroshuffle.spark.values import _READERS, ValueMap
from tests.compat.aggregators import COLLECT
from tests.conftest import NO_LIMIT_MIB


def on_stock(records: Iterable[Any], function: Callable[[Any], Any]) -> Iterator[Any]:
    """Return what `mapValues` does with a partition's records."""
    return map(fail_on_stopiteration(lambda record: (record[0], function(record[1]))), records)


def outcomes(mapped: Iterator[Any], steps: int = 50) -> list[Any]:
    """Return what each step comes to, errors included, going on behind them."""
    found: list[Any] = []
    for _ in range(steps):
        try:
            found.append(next(mapped))
        except StopIteration:
            found.append("end")
        except Exception as error:
            found.append((type(error), str(error)))
    return found


def third(value: Any) -> Any:
    if value == 3:
        raise ValueError(f"not {value}")
    if value == 5:
        raise StopIteration("enough")
    return [value]


RECORDS: dict[str, Callable[[], Iterable[Any]]] = {
    "tuples": lambda: [(n, n) for n in range(8)],
    "lists": lambda: [[n, n] for n in range(8)],
    "longer": lambda: [(n, n, n) for n in range(8)],
    "texts": lambda: ["ab", "cd", "é3"],
    "too short": lambda: [(1,), (2, 2), (), "x", [7]],
    "no sequences": lambda: [1, None, {0: 1, 1: 3}, {}, (4, 4)],
    "dict items": lambda: {"a": 1, "b": 3}.items(),
    "a range of none": lambda: range(0),
    "an iterator that fails": lambda: (pickle.loads(b"x") if n == 2 else (n, n) for n in range(4)),
}


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize("function", [third, str, len, list, sum, type])
def test_records_are_mapped_as_in_stock(name, function):
    expected = outcomes(on_stock(RECORDS[name](), function))
    assert outcomes(ValueMap(function)(RECORDS[name]())) == expected


class Stops:
    """A record of which one part cannot be had."""

    def __init__(self, part: int) -> None:
        self.part = part

    def __getitem__(self, part: int) -> int:
        if part == self.part:
            raise StopIteration("no such part")
        return part

    def __len__(self) -> int:
        raise StopIteration("no length")

    def __repr__(self) -> str:
        return f"Stops({self.part})"

    def __iter__(self) -> Iterator[int]:
        return iter([self.part])


@pytest.mark.parametrize("function", [set, len, list])
def test_a_stop_iteration_is_never_the_end(function):
    def records() -> list[Any]:
        return [(1, [1]), Stops(0), Stops(1), (2, Stops(0)), (3, [3])]

    expected = outcomes(on_stock(records(), function), 6)
    assert outcomes(ValueMap(function)(records()), 6) == expected
    expected = outcomes(on_stock(on_stock(records(), ResultIterable), function), 6)
    assert outcomes(ValueMap(function)(ValueMap(ResultIterable)(records())), 6) == expected
    with pytest.raises(RuntimeError, match="StopIteration") as caught:
        list(ValueMap(function)([Stops(1)]))
    assert isinstance(caught.value.__context__, StopIteration)
    assert caught.value.__cause__ is None


def test_what_is_no_iterable_or_function_raises_what_it_does_in_stock():
    with pytest.raises(TypeError, match="not iterable"):
        ValueMap(str)(5)
    assert outcomes(ValueMap(None)([(1, 1)]), 1) == outcomes(on_stock([(1, 1)], None), 1)


@pytest.mark.parametrize("make", [on_stock, lambda records, f: ValueMap(f)(records)])
def test_a_function_may_read_on(make):
    mapped: list[Iterator[Any]] = []

    def reads_on(value: int) -> Any:
        return (value, next(mapped[0], None)) if value % 3 == 0 else value

    mapped.append(make(iter([(n, n) for n in range(5)]), reads_on))
    assert list(mapped[0]) == [(0, (0, (1, 1))), (2, 2), (3, (3, (4, 4)))]


def test_it_does_not_keep_what_it_has_given_away():
    class Value:
        pass

    alive: list[weakref.ref[Value]] = []

    def records() -> Iterator[Any]:
        for n in range(3):
            value = Value()
            alive.append(weakref.ref(value))
            yield n, value

    mapped = ValueMap(lambda value: [value])(records())
    next(mapped)
    next(mapped)
    assert [value() is None for value in alive] == [True, False]


def grouped(records: Iterable[Any], limit: float = NO_LIMIT_MIB) -> Any:
    """Return a merger of lists, which makes columns of what is typed from the first record on."""
    merger = shuffle.ExternalGroupBy(shuffle.Aggregator(*COLLECT), limit)
    merger.mergeValues(records)
    return merger


GROUPS: dict[str, Callable[[], Iterable[Any]]] = {
    "ints": lambda: ((n % 700, n) for n in range(9_000)),
    "texts": lambda: ((f"key {n % 700}", f"{n}") for n in range(9_000)),
    "floats": lambda: ((n % 7, n / 3) for n in range(9_000)),
    "with None": lambda: ((n % 7 or None, n if n % 5 else None) for n in range(9_000)),
    "tuples": lambda: (((n % 7, "x"), (n, str(n))) for n in range(9_000)),
    "typed at first": lambda: ((n % 7, n if n < 8_000 else 2**80) for n in range(9_000)),
    "one": lambda: [(1, 2)],
    "none": lambda: [],
}


@pytest.fixture
def read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shuffle, "_records_before_typed", 1)


@pytest.mark.usefixtures("read_at_once", "local_dirs")
@pytest.mark.parametrize("limit", [NO_LIMIT_MIB, 1])
@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize("function", [len, list, sum, sorted, set, max, lambda group: len(group)])
def test_groups_are_read_as_they_are_wrapped(name, function, limit):
    def read(mapped: Iterator[Any]) -> Any:
        return sorted(map(repr, outcomes(mapped, 800)))

    wrapped = on_stock(grouped(GROUPS[name](), limit).items(), ResultIterable)
    expected = read(on_stock(wrapped, function))
    items = grouped(GROUPS[name](), limit).items()
    mapped = ValueMap(function)(ValueMap(ResultIterable)(items))
    assert (mapped.records is items) == (function in _READERS)
    assert read(mapped) == expected


@pytest.mark.usefixtures("read_at_once")
def test_what_is_wrapped_is_what_pyspark_makes():
    items = grouped((n % 2, n) for n in range(10)).items()
    for _, group in ValueMap(ResultIterable)(items):
        assert type(group) is ResultIterable
        assert (type(group.data), len(group), group.maxindex, group.index) == (list, 5, 5, 0)
        copy = pickle.loads(pickle.dumps(group))
        assert list(copy) == list(group) == group.data


def test_what_cannot_be_wrapped_still_raises():
    """`ResultIterable` asks for a length; a function behind it might not."""
    records = [(0, [1]), (1, iter([1])), (2, 7), (3, {1: 2}), (4, "ab")]
    expected = outcomes(on_stock(on_stock(records, ResultIterable), list), 8)
    assert outcomes(ValueMap(list)(ValueMap(ResultIterable)(records)), 8) == expected


@pytest.mark.usefixtures("read_at_once")
def test_lengths_of_columns_of_anything_else():
    merger = shuffle.ExternalMerger(shuffle.SimpleAggregator(lambda a, b: a + b), NO_LIMIT_MIB)
    merger.mergeValues((n % 3_000, "x" * (n % 900)) for n in range(9_000))
    expected = [(key, len(text)) for key, text in merger.items()]
    assert list(ValueMap(len)(merger.items())) == expected


@pytest.mark.usefixtures("read_at_once")
def test_lengths_may_be_read_in_part_and_then_by_others():
    mapped = ValueMap(len)(grouped((n % 2_000, n) for n in range(8_000)).items())
    first = [next(mapped) for _ in range(600)]
    assert first + list(mapped) == [(n, 4) for n in range(2_000)]
    assert next(mapped, "end") == "end"
