"""ExternalGroupBy: groups equal stock's, streamed from disk where a partition is too large."""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferroshuffle import shuffle
from tests.compat import values
from tests.compat.aggregators import COLLECT, StockAggregator, StockGroupBy
from tests.compat.exact import assert_same_items, exact
from tests.conftest import NO_LIMIT_MIB


def ours(memory_limit: float = NO_LIMIT_MIB, **options: Any) -> Any:
    return shuffle.ExternalGroupBy(shuffle.Aggregator(*COLLECT), memory_limit, **options)


def stock() -> Any:
    return StockGroupBy(StockAggregator(*COLLECT), NO_LIMIT_MIB)


def as_lists(groups: Any) -> Any:
    return ((key, list(group)) for key, group in groups)


@given(values.records())
def test_groups_in_memory_equal_stock(memory_limit: float, items: list[Any]) -> None:
    left, right = ours(memory_limit), stock()
    for merger in (left, right):
        merger.mergeValues(copy.deepcopy(items))
        merger.mergeCombiners((key, [value]) for key, value in copy.deepcopy(items))
    ordered = left.spills == 0
    left_items, right_items = list(left.items()), list(right.items())
    if ordered:
        assert [type(group) for _, group in left_items] == [type(group) for _, group in right_items]
    assert_same_items(as_lists(left_items), as_lists(right_items), ordered=ordered)


@given(values.records(), st.lists(st.integers(0, 30), max_size=3), st.integers(1, 59))
def test_groups_from_runs_equal_stock(items: list[Any], cuts: list[int], count: int) -> None:
    left, right = ours(partitions=count), stock()
    for chunk in values.chunks_of(copy.deepcopy(items), cuts):
        left.mergeValues(chunk)
        left._spill()
    right.mergeValues(copy.deepcopy(items))
    assert_same_items(as_lists(left.items()), as_lists(right.items()), ordered=False)


@given(values.records(max_size=12), st.integers(1, 5))
def test_partitions_too_large_for_memory_equal_stock(items: list[Any], count: int) -> None:
    # A limit of 0 leaves no partition small enough to be held.
    left, right = ours(0, partitions=count, batch=2), stock()
    for _ in range(2):
        left.mergeValues(copy.deepcopy(items))
        left._spill()
        right.mergeValues(copy.deepcopy(items))
    assert_same_items(as_lists(left.items()), as_lists(right.items()), ordered=False)


MIXED = [1, "1", None, (1,), ("a",), b"1", 2.5, frozenset({1}), 1j, values.Colour.RED, (None, 1)]


@pytest.mark.parametrize("limit", [0, 1, NO_LIMIT_MIB])
@pytest.mark.parametrize("sort_limit", [1, 1_000])
@pytest.mark.parametrize("partitions", [1, 3])
def test_keys_that_cannot_be_ordered_against_each_other(
    limit: float, sort_limit: int, partitions: int
) -> None:
    merger = ours(limit, partitions=partitions, batch=100)
    merger.SORT_KEY_LIMIT = sort_limit
    for start in range(0, 3_000, 1_000):
        merger.mergeValues((MIXED[n % len(MIXED)], n) for n in range(start, start + 1_000))
        merger._spill()
    result = {exact(key): list(group) for key, group in merger.items()}
    assert result == {
        exact(key): list(range(place, 3_000, len(MIXED))) for place, key in enumerate(MIXED)
    }


@pytest.mark.parametrize("sort_limit", [1, 1_000])
@pytest.mark.parametrize("limit", [1, 5])
def test_one_huge_key_among_small_ones(limit: float, sort_limit: int) -> None:
    merger = ours(limit, partitions=3, batch=500)
    merger.SORT_KEY_LIMIT = sort_limit
    merger.mergeValues(("huge" if n % 100 else n, n) for n in range(200_000))
    assert merger.spills >= 1
    seen = {}
    for key, group in merger.items():
        seen[key] = len(group)
        if key == "huge":
            assert sum(group) == sum(n for n in range(200_000) if n % 100)
        else:
            assert list(group) == [key]
    assert seen.pop("huge") == 198_000
    assert seen == dict.fromkeys(range(0, 200000, 100), 1)


def test_a_group_larger_than_memory_is_an_external_list_of_lists() -> None:
    merger = ours(1, partitions=3, batch=500)
    for start in range(0, 200_000, 20_000):
        merger.mergeValues((0, f"{n:030}") for n in range(start, start + 20_000))
        merger._spill()
    [(key, group)] = merger.items()
    assert key == 0
    assert isinstance(group, shuffle.ExternalListOfList)
    assert len(group) == 200_000
    assert list(group) == [f"{n:030}" for n in range(200_000)]
    assert list(group) == [f"{n:030}" for n in range(200_000)]


@pytest.mark.parametrize("sort_limit", [1, 1_000])
def test_two_keys_with_many_values(sort_limit: int) -> None:
    count = 1 << 17
    merger = ours(5, partitions=3)
    merger.SORT_KEY_LIMIT = sort_limit
    merger.mergeValues(itertools.product(range(2), range(count)))
    assert merger.spills >= 1
    assert sorted((key, sum(group)) for key, group in merger.items()) == [
        (0, sum(range(count))),
        (1, sum(range(count))),
    ]


@pytest.mark.parametrize("sort_limit", [1, 1_000, 100_000])
def test_many_keys_with_few_values(sort_limit: int) -> None:
    merger = ours(1, partitions=7, batch=500)
    merger.SORT_KEY_LIMIT = sort_limit
    merger.mergeValues((n * 7_919 % 20_000, n) for n in range(60_000))
    assert merger.spills >= 1
    groups = Counter(
        (key, tuple(sorted(group)) == tuple(group), len(group)) for key, group in merger.items()
    )
    assert groups == {(n, True, 3): 1 for n in range(20_000)}


def test_colliding_keys_in_a_partition_too_large_for_memory() -> None:
    merger = ours(0, partitions=2, batch=50)
    for start in range(0, 1_000, 250):
        merger.mergeValues((values.Colliding(n % 20), n) for n in range(start, start + 250))
        merger._spill()
    result = {key.tag: list(group) for key, group in merger.items()}
    assert result == {tag: list(range(tag, 1_000, 20)) for tag in range(20)}


def test_equal_keys_of_different_types_are_one_group_however_large() -> None:
    merger = ours(0, partitions=2, batch=50)
    for key in (1, True, 1.0, 1 + 0j):
        merger.mergeValues([(key, type(key).__name__)] * 300)
        merger._spill()
    [(key, group)] = merger.items()
    assert exact(key) == exact(1)
    assert Counter(group) == {"int": 300, "bool": 300, "float": 300, "complex": 300}


def test_groups_read_later_or_in_any_order_are_whole() -> None:
    merger = ours(1, partitions=2, batch=500)
    for start in range(0, 40_000, 10_000):
        merger.mergeValues(
            (n % 4, bytes(30) + bytes([n % 251])) for n in range(start, start + 10_000)
        )
        merger._spill()
    groups = list(merger.items())
    assert len(groups) == 4
    for _, group in reversed(groups):
        assert len(group) == len(list(group)) == 10_000


def test_merge_combiners_of_long_lists_spills_by_their_length() -> None:
    merger = ours(1, partitions=3)
    merger.mergeCombiners((n % 10, list(range(1_000))) for n in range(200))
    assert merger.spills >= 1
    assert sorted((key, len(group), sum(group)) for key, group in merger.items()) == [
        (n, 20_000, 20 * sum(range(1_000))) for n in range(10)
    ]
