"""Key functions that are read, and typed values in columns: sorted as by calling, in every way."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ferroshuffle import shuffle
from ferroshuffle.native import sort_key
from tests.compat.aggregators import StockSorter
from tests.compat.exact import exact, outcome
from tests.conftest import NO_LIMIT_MIB

Key = Callable[[Any], Any]


def _second_then_first(record: Any) -> Any:
    first, second, *_ = record[0], record[1]
    return second, first


def _unpacked(record: Any) -> Any:
    first, second, _ = record
    return second, first


def _local(record: Any) -> Any:
    key = record[0]
    return key.lower()


scale = 10**18

# Of records of two parts and a number: as which plans they are read, and these functions.
READ: dict[str, Key] = {
    "first": lambda record: record[0],
    "itemgetter": operator.itemgetter(1),
    "two items": operator.itemgetter(1, 0),
    "both": lambda record: (record[1], record[0]),
    "nested": lambda record: (record[0], (record[1],)),
    "unpacked": _unpacked,
    "negated": lambda record: -record[0],
    "descending, ascending": lambda record: (-record[0], record[1]),
    "scaled": lambda record: record[0] * 10**18,
    "distance": lambda record: abs(record[0] - 3),
    "length": lambda record: len(record[0]),
    "lower": lambda record: record[0].lower(),
    "lower of a local": _local,
    "lower and more": lambda record: (record[0].lower(), record[1]),
    "a choice": lambda record: record[0] if record[0] > record[1] else record[1],
    "constant": lambda record: (1, record[0]),
    "whole": lambda record: record,
}
CALLED: dict[str, Key] = {
    "global": lambda record: record[0] * scale,
    "text": lambda record: str(record[0]),
    "remainder": lambda record: record[0] % 3,
    "starred": _second_then_first,
    "a list": lambda record: [record[0]],
}


def test_which_functions_are_read() -> None:
    read = {name for name, key in (READ | CALLED).items() if sort_key(key) is not None}
    assert read >= READ.keys()
    assert not read & (CALLED.keys() - {"global"})
    assert sort_key(str.lower) == (("lower", []), [])
    assert sort_key(lambda key: key, is_of_first=True) == (("of", [0]), [])
    assert sort_key(_unpacked) == (("tuple", [("of", [1]), ("of", [0])]), [([], 3), ([], 3)])


small = st.integers(-3, 9)
parts: list[st.SearchStrategy[Any]] = [
    small,
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-(2**65), 2**65),
    st.booleans(),
    st.sampled_from([0.0, -0.0, 1.5, -2.5, 1e300]),
    st.sampled_from(["b", "A", "a", "B", "", "ab", "Ab"]),
    st.sampled_from(["\u00e9", "\u00c9", "\u0130", "a", "\ud800"]),
    st.binary(max_size=3),
    st.none(),
    st.none() | small,
    small | st.sampled_from([0.5, 2.0]),
    st.tuples(small, st.sampled_from(["a", "B"])),
    st.lists(small, max_size=2),
]


class Spilling(shuffle.ExternalSorter[Any]):
    """Spills at every look at the memory."""

    def _next_limit(self) -> float:
        return 0


def fresh(records: Iterable[Any]) -> Iterator[Any]:
    """Yield records that nobody else has."""
    for record in records:
        yield (*record,)


@pytest.mark.parametrize("name", sorted(READ | CALLED))
@settings(max_examples=settings.default.max_examples // 3)
@given(
    st.sampled_from(parts).flatmap(lambda part: st.lists(part, min_size=1, max_size=30)),
    st.sampled_from(parts).flatmap(lambda part: st.lists(part, min_size=1, max_size=30)),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_records_are_sorted_as_by_calling(
    name: str, one: list[Any], two: list[Any], reverse: bool, spills: bool, is_shared: bool
) -> None:
    key = (READ | CALLED)[name]
    # Each with its number, which tells whether the sort was stable; enough to be read, and spilled.
    pairs = itertools.islice(zip(itertools.cycle(one), itertools.cycle(two)), 350)
    records = [(*pair, number) for number, pair in enumerate(pairs)]
    sorter = Spilling(0) if spills else shuffle.ExternalSorter(NO_LIMIT_MIB)
    source = records if is_shared else fresh(records)
    ours = outcome(lambda: list(sorter.sorted(source, key=key, reverse=reverse)))
    theirs = outcome(lambda: sorted(records, key=key, reverse=reverse))
    if theirs[0] == "raised":
        assert ours[:2] == theirs[:2]  # of which two keys differs
    else:
        assert ours == theirs


@given(
    st.lists(st.sampled_from(parts), min_size=1, max_size=4).flatmap(
        lambda kinds: st.tuples(*(st.lists(kind, min_size=1, max_size=5) for kind in kinds))
    ),
    st.booleans(),
    st.booleans(),
)
def test_kinds_that_change_half_way(blocks: Any, reverse: bool, spills: bool) -> None:
    # Blocks of keys of one kind, one after the other: columns, objects and columns again.
    keys = [key for block in blocks for key in (block * 150)[:150]]
    records = list(zip(keys, itertools.count()))
    sorter = Spilling(0) if spills else shuffle.ExternalSorter(NO_LIMIT_MIB)
    key = operator.itemgetter(0)
    ours = outcome(lambda: list(sorter.sorted(fresh(records), key=key, reverse=reverse)))
    theirs = outcome(lambda: sorted(records, key=key, reverse=reverse))
    if theirs[0] == "raised":
        assert ours[:2] == theirs[:2]
    else:
        assert ours == theirs


@pytest.mark.parametrize("spills", [False, True])
def test_values_that_others_hold_stay_theirs(spills: bool) -> None:
    held = [[n] for n in range(300)]
    records = ((-n, one) for n, one in enumerate(held))
    sorter = Spilling(0) if spills else shuffle.ExternalSorter(NO_LIMIT_MIB)
    result = list(sorter.sorted(records, key=lambda record: record[0]))
    if not spills:
        assert all(found is one for (_, found), one in zip(result, held[::-1], strict=True))
    assert [found for _, found in result] == held[::-1]


def test_nan_keys_are_in_the_order_of_list_sort() -> None:
    nan = float("nan")
    keys = [nan if n % 5 == 0 else float(n * 37 % 100) for n in range(500)]
    records = list(zip(keys, itertools.count()))
    for key in (operator.itemgetter(0), lambda record: -record[0]):
        ours = shuffle.ExternalSorter(NO_LIMIT_MIB).sorted(fresh(records), key=key)
        assert exact(list(ours)) == exact(sorted(records, key=key))


def test_a_list_that_would_be_over_the_limit_is_an_iterator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shuffle, "_records_before_typed", 1)
    # Columns of so many pairs and their order take about 30 MiB, and the pairs themselves over 100.
    count = 800_000
    limit = shuffle.get_used_memory() + 96
    before = shuffle.DiskBytesSpilled
    pairs = ((count - n, n) for n in range(count))
    result = shuffle.ExternalSorter(limit).sorted(pairs, key=lambda record: record[0])
    assert type(result) is not list
    assert all(key == at + 1 for at, (key, _) in enumerate(result))
    assert shuffle.DiskBytesSpilled == before
    few = shuffle.ExternalSorter(NO_LIMIT_MIB).sorted((n, n) for n in range(300))
    assert type(few) is type(StockSorter(NO_LIMIT_MIB).sorted([1])) is list


def test_a_recognised_key_is_not_called_for_each_record() -> None:
    calls = 0

    def counted(value: Any) -> Any:
        nonlocal calls
        calls += 1
        return value

    sorter = shuffle.ExternalSorter[Any](NO_LIMIT_MIB)
    pairs = [(n * 7_919 % 10_007, n) for n in range(10_007)]
    assert list(sorter.sorted(pairs, key=lambda pair: counted(pair[0]))) == sorted(pairs)
    assert calls == len(pairs)
