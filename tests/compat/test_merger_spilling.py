"""Where it spills: the items of stock in memory, whatever the order of keys.

Stock itself cannot be asked to spill here: it fails on keys and values that ours must carry.
"""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferroshuffle import shuffle
from tests.compat import values
from tests.compat.aggregators import COLLECT, ORDER_KEEPING, ours, stock
from tests.compat.exact import assert_same_items, exact
from tests.conftest import open_files

ADD = (lambda v: v, lambda c, v: c + v, lambda a, b: a + b)


@given(
    values.records(),
    st.lists(st.integers(0, 30), min_size=1, max_size=4),
    st.sampled_from(sorted(ORDER_KEEPING)),
    st.integers(1, 59),
)
def test_merged_runs_equal_stock(items: list[Any], cuts: list[int], name: str, count: int) -> None:
    left, right = ours(ORDER_KEEPING[name], partitions=count), stock(ORDER_KEEPING[name])
    for chunk in values.chunks_of(copy.deepcopy(items), cuts):
        left.mergeValues(chunk)
        left._spill()
    right.mergeValues(copy.deepcopy(items))
    assert_same_items(left.items(), right.items(), ordered=False)


@given(values.records(key=values.alike_keys), st.lists(st.integers(0, 30), max_size=3))
def test_the_first_of_equal_keys_stays_across_runs(items: list[Any], cuts: list[int]) -> None:
    left, right = ours(COLLECT, partitions=3), stock(COLLECT)
    for chunk in values.chunks_of(items, cuts):
        left.mergeValues(chunk)
        left._spill()
    right.mergeValues(items)
    assert_same_items(left.items(), right.items(), ordered=False)


@given(
    values.records(value=st.lists(values.values, max_size=3)),
    values.records(value=st.lists(values.values, max_size=3)),
)
def test_spilled_values_and_combiners_merge_as_in_stock(
    first: list[Any], second: list[Any]
) -> None:
    left, right = ours(COLLECT, partitions=2), stock(COLLECT)
    for merger, spills in ((left, True), (right, False)):
        for method, items in itertools.product(("mergeValues", "mergeCombiners"), (first, second)):
            getattr(merger, method)(copy.deepcopy(items))
            if spills:
                merger._spill()
    assert_same_items(left.items(), right.items(), ordered=False)


@given(values.records(max_size=12), st.booleans())
def test_what_is_in_memory_merges_after_what_is_on_disk(items: list[Any], twice: bool) -> None:
    left, right = ours(COLLECT, partitions=5), stock(COLLECT)
    left.mergeValues(items)
    left._spill()
    left.mergeValues(items)
    if twice:
        left._spill()
    right.mergeValues(items)
    right.mergeValues(items)
    assert_same_items(left.items(), right.items(), ordered=False)


@pytest.mark.parametrize("limit", [0, 0.5, 1, 10])
@pytest.mark.parametrize("partitions", [2, 7, 59])
def test_limits_far_below_the_process_spill_often(limit: float, partitions: int) -> None:
    keys = 40_000 if limit else 1_000  # a limit of 0 has no floor under tiny spills
    items = [(n * 7919 % keys, n) for n in range(2 * keys)]
    left, right = ours(COLLECT, limit, partitions=partitions, batch=50), stock(COLLECT)
    left.mergeValues(items)
    right.mergeValues(items)
    assert left.spills >= 2
    assert_same_items(left.items(), right.items(), ordered=False)


@pytest.mark.parametrize("limit", [0.5, 1, 10])
def test_combiners_spill_often_too(limit: float) -> None:
    items = [(str(n % 30_000), [n]) for n in range(60_000)]
    left, right = ours(COLLECT, limit, partitions=3, batch=50), stock(COLLECT)
    left.mergeCombiners(copy.deepcopy(items))
    right.mergeCombiners(copy.deepcopy(items))
    assert left.spills >= 2
    assert_same_items(left.items(), right.items(), ordered=False)


@pytest.mark.parametrize("method", ["mergeValues", "mergeCombiners"])
@pytest.mark.parametrize("count", [1, 10, 999, 1_000, 1_001, 4_096])
def test_a_limit_below_the_process_spills_at_least_once(method: str, count: int) -> None:
    merger = ours(ADD, 1)
    getattr(merger, method)((n, n) for n in range(count))
    assert merger.spills >= 1
    assert sorted(merger.items()) == [(n, n) for n in range(count)]


def test_a_limit_just_above_the_process_spills_once_the_data_grows() -> None:
    start = shuffle.get_used_memory()
    merger = ours(COLLECT, start + 24, batch=500)
    merger.mergeValues((n, n) for n in range(1_000))
    assert merger.spills == 0
    merger.mergeValues((n, bytes(200)) for n in range(1_000, 400_000))
    assert merger.spills >= 1
    total = Counter(type(value[0]) for _, value in merger.items())
    assert total == {int: 1_000, bytes: 399_000}


def test_no_limit_never_spills() -> None:
    merger = ours(ADD)
    merger.mergeValues((n, n) for n in range(50_000))
    merger.mergeCombiners((n, n) for n in range(50_000))
    assert merger.spills == 0
    assert list(merger.items()) == [(n, 2 * n) for n in range(50_000)]


def test_merge_combiners_with_limit_zero_never_checks_memory() -> None:
    merger = ours(COLLECT, 1)
    merger.mergeCombiners(((n, [n]) for n in range(20_000)), 0)
    assert merger.spills == 0
    assert list(merger.items()) == [(n, [n]) for n in range(20_000)]


def test_merge_combiners_with_a_limit_of_its_own_heeds_it() -> None:
    merger = ours(COLLECT)
    merger.mergeCombiners(((n, [n]) for n in range(5_000)), limit=1)
    assert merger.spills >= 1
    assert sorted(merger.items()) == [(n, [n]) for n in range(5_000)]


@pytest.mark.parametrize("name", sorted(ORDER_KEEPING))
def test_every_aggregator_over_many_runs(name: str) -> None:
    items = [((n * 31) % 997, float(n)) for n in range(6_000)]
    left, right = ours(ORDER_KEEPING[name], partitions=4), stock(ORDER_KEEPING[name])
    for start in range(0, len(items), 300):
        left.mergeValues(items[start : start + 300])
        left._spill()
    right.mergeValues(items)
    assert left.spills == 20
    assert_same_items(left.items(), right.items(), ordered=False)


@pytest.mark.parametrize("leaves", [0, 1, 3, 9, 4_096])
def test_max_total_partitions_bounds_the_splitting_not_the_result(leaves: int) -> None:
    class Merger(shuffle.ExternalMerger):
        MAX_TOTAL_PARTITIONS = leaves

    merger = Merger(shuffle.Aggregator(*COLLECT), 1, partitions=3, batch=100)
    merger.mergeValues((n % 50_000, n) for n in range(100_000))
    assert merger.spills >= 2
    assert Counter(map(exact, merger.items())) == Counter(
        exact((n, [n, n + 50_000])) for n in range(50_000)
    )


def test_a_partition_is_split_when_it_does_not_fit() -> None:
    # One partition holds everything, many times the limit.
    merger = ours(COLLECT, 1, partitions=1, batch=100)
    merger.mergeValues((n % 30_000, bytes(60)) for n in range(60_000))
    assert merger.spills >= 2
    assert Counter(len(value) for _, value in merger.items()) == {2: 30_000}


def test_keys_that_share_a_whole_hash_cannot_be_split_and_need_not_be() -> None:
    items = [(values.Colliding(n % 200), bytes(2_000)) for n in range(2_000)]
    merger = ours(COLLECT, 1, partitions=5, batch=50)
    merger.mergeValues(items)
    assert merger.spills >= 1
    assert sorted((key.tag, len(value)) for key, value in merger.items()) == [
        (n, 10) for n in range(200)
    ]


def test_recursive_merged_items_gives_a_partition_s_items() -> None:
    merger = ours(COLLECT, 1, partitions=3)
    merger.mergeCombiners((n, [str(n)]) for n in [*range(4_096)] * 3)
    assert merger.spills >= 1
    merger._spill()  # it reads what is on disk
    parts = [list(merger._recursive_merged_items(index)) for index in range(3)]
    assert all(parts)
    assert sorted(itertools.chain(*parts)) == [(n, [str(n)] * 3) for n in range(4_096)]
    merger._cleanup()


def test_external_items_gives_all_items() -> None:
    merger = ours(COLLECT, partitions=3)
    merger.mergeValues((n % 10, n) for n in range(30))
    merger._spill()
    assert sorted(merger._external_items()) == [(n, [n, n + 10, n + 20]) for n in range(10)]


def test_cleanup_frees_the_runs(local_dirs: list[Any]) -> None:
    merger = ours(COLLECT)
    merger.mergeValues((n, n) for n in range(100))
    merger._spill()
    assert any(str(local_dirs[0].parent) in target for target in open_files())
    merger._cleanup()
    assert not any(str(local_dirs[0].parent) in target for target in open_files())


def test_spilling_an_empty_merger_does_no_harm() -> None:
    merger = ours(COLLECT)
    merger._spill()
    merger.mergeValues([("a", 1)])
    merger._spill()
    merger._spill()
    assert list(merger.items()) == [("a", [1])]


def test_a_subclass_s_spill_is_the_one_that_runs() -> None:
    class Counting(shuffle.ExternalMerger):
        seen = 0

        def _spill(self) -> None:
            self.seen += 1
            super()._spill()

    merger = Counting(shuffle.Aggregator(*COLLECT), 1)
    merger.mergeValues((n, n) for n in range(5_000))
    assert merger.seen == merger.spills >= 1
    assert sorted(merger.items()) == [(n, [n]) for n in range(5_000)]


def test_every_nan_object_stays_a_key_of_its_own() -> None:
    merger = ours(COLLECT, partitions=3)
    keys = [float("nan") for _ in range(50)]
    merger.mergeValues(zip(keys, range(50), strict=True))
    merger._spill()
    merger.mergeValues((float("nan"), n) for n in range(50, 100))
    merger._spill()
    assert sorted(value for _, value in merger.items()) == [[n] for n in range(100)]


def test_keys_that_differ_in_hash_are_never_compared_when_read_back() -> None:
    merger = ours(COLLECT, partitions=2)
    for start in (0, 100):
        merger.mergeValues((values.Agreeable(n), start + n) for n in range(1, 100))
        merger._spill()
    assert sorted(value for _, value in merger.items()) == [[n, n + 100] for n in range(1, 100)]


def test_minus_zero_stays_itself_on_disk() -> None:
    merger = ours(COLLECT)
    merger.mergeValues([(-0.0, -0.0), (0.0, 0.0), (0, 1)])
    merger._spill()
    assert [exact(item) for item in merger.items()] == [exact((-0.0, [-0.0, 0.0, 1]))]


def test_objects_shared_within_a_run_are_shared_when_read_back() -> None:
    shared = [1]
    merger = ours(((lambda v: [v]), COLLECT[1], COLLECT[2]))
    merger.mergeValues([("a", shared), ("a", shared)])
    merger._spill()
    [(_, (left, right))] = merger.items()
    assert left == right == [1]
    assert left is right


def _growing(count: int) -> Iterator[tuple[int, str]]:
    for n in range(count):
        yield n % 100, "x" * (n % 50)


def test_few_keys_with_ever_larger_combiners() -> None:
    left, right = ours(ADD, 1, partitions=4, batch=200), stock(ADD)
    left.mergeValues(_growing(50_000))
    right.mergeValues(_growing(50_000))
    assert left.spills >= 1
    assert_same_items(left.items(), right.items(), ordered=False)


def test_one_value_larger_than_a_block() -> None:
    big = [bytes(9 << 20), "x" * (5 << 20), list(range(300_000))]
    merger = ours(COLLECT, partitions=2)
    for value in big:
        merger.mergeValues([("k", value), (value[:10] if isinstance(value, bytes) else "j", 1)])
        merger._spill()
    result = dict(merger.items())
    assert result["k"] == big
    assert result["j"] == [1, 1]
    assert result[bytes(10)] == [1]


def test_one_key_larger_than_a_block() -> None:
    keys = [bytes(6 << 20), "y" * (6 << 20), 1 << 50_000_000]
    merger = ours(COLLECT, partitions=2)
    for _ in range(2):
        merger.mergeValues((key, 1) for key in keys)
        merger._spill()
    assert [key in keys and value for key, value in merger.items()] == [[1, 1]] * 3


def test_items_of_a_spilled_merger_is_an_iterator_used_up_once() -> None:
    merger = ours(COLLECT)
    merger.mergeValues([("a", 1), ("b", 2)])
    merger._spill()
    reading = merger.items()
    assert iter(reading) is reading
    assert sorted(reading) == [("a", [1]), ("b", [2])]
    assert list(reading) == []


def test_items_that_are_not_read_take_nothing_away() -> None:
    merger = shuffle.ExternalMerger(shuffle.SimpleAggregator(max), 1 << 30)
    merger.mergeValues((n, n) for n in range(3_000))
    merger._spill()
    merger.items()
    merger.mergeValues((n, n) for n in range(3_000, 3_010))
    assert sorted(merger.items()) == [(n, n) for n in range(3_010)]


@pytest.mark.parametrize("batch", [0, -5, 0.5, 1.5, float("inf"), float("nan"), 10**30])
def test_any_number_is_a_batch(batch: float) -> None:
    merger = shuffle.ExternalMerger(shuffle.SimpleAggregator(max), 1, batch=batch)  # type: ignore[arg-type]
    merger.mergeValues((n, n) for n in range(100))
    assert merger.spills >= 1
    assert sorted(merger.items()) == [(n, n) for n in range(100)]


def test_a_list_that_holds_itself_holds_itself_after_a_spill() -> None:
    cycle: list[Any] = [1]
    cycle.append(cycle)
    within: list[Any] = [2]
    within.append((within,))
    merger = ours(ORDER_KEEPING["keeps_first"], partitions=2)
    merger.mergeValues([("cycle", cycle), ("within", within), ("plain", [3])])
    merger._spill()
    back = dict(merger.items())
    assert back["cycle"][0] == 1
    assert back["cycle"][1] is back["cycle"]
    assert back["within"][1][0] is back["within"]
    assert back["plain"] == [3]


def test_items_that_were_given_away_are_an_error_to_ask_for_again() -> None:
    merger = ours(ADD, partitions=2)
    merger.mergeValues((n, n) for n in range(100))
    merger._spill()
    assert len(list(merger.items())) == 100
    with pytest.raises(RuntimeError, match="read once"):
        list(merger._recursive_merged_items(0))
    with pytest.raises(RuntimeError, match="read once"):
        list(merger.items())
