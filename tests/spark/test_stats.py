"""`ferroshuffle.stats`: what workers count of the shuffles that have run."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import pytest
from pyspark import SparkContext

import ferroshuffle
from ferroshuffle.spark import metrics
from ferroshuffle.spark.stats import ShufflesOfContext, ShuffleStats

from . import sessions

RECORDS = 20_000
KEYS = 500


@pytest.fixture(autouse=True)
def _installed(sc: SparkContext) -> Iterator[None]:
    # Each test sees its own shuffles only.
    vars(sc).pop("_ferroshuffle_shuffles", None)
    ferroshuffle.install()
    yield
    ferroshuffle.uninstall()


def pairs(sc: SparkContext) -> Any:
    return sc.range(RECORDS, numSlices=2).map(lambda n: (n % KEYS, n))


def the_one(sc: SparkContext) -> ShuffleStats:
    (only,) = ferroshuffle.stats(sc).shuffles
    return only


def opaque(a: int, b: int) -> int:
    try:
        return a + b
    except TypeError:
        return a


def test_there_is_nothing_to_tell_before_a_job_has_run(sc: SparkContext) -> None:
    assert ferroshuffle.stats(sc).shuffles == ()
    pairs(sc).reduceByKey(operator.add)
    statistics = ferroshuffle.stats(sc)
    assert statistics.shuffles == ()
    assert "no shuffle" in repr(statistics)
    assert statistics._repr_html_().startswith("<p>")
    assert statistics.to_dict() == {"shuffles": []}


def test_records_computed_over_columns(sc: SparkContext) -> None:
    assert pairs(sc).reduceByKey(lambda a, b: a + b, 3).count() == KEYS
    found = the_one(sc)
    assert (found.shuffle.operation, found.shuffle.partitions) == ("reduceByKey", 3)
    assert found.shuffle.aggregate == "sum of value"
    assert found.shuffle.call_site.startswith(f"{__file__}:")
    assert (found.values_typed, found.values_called) == (RECORDS, 0)
    # Each of the two map tasks sends a combiner a key.
    assert (found.combiners_typed, found.combiners_called) == (2 * KEYS, 0)
    assert (found.sent_typed, found.sent_pickled) == (2 * KEYS, 0)
    assert (found.widenings, found.cause) == (0, None)
    assert found.spilled_records == found.spilled_disk_bytes == 0
    assert found.sent_bytes > 2 * KEYS
    for name in ("aggregate", "partition", "encode", "decode"):
        assert 0 < getattr(found, f"{name}_time") < 60


def test_records_that_functions_are_called_for(sc: SparkContext) -> None:
    assert pairs(sc).reduceByKey(opaque).count() == KEYS
    found = the_one(sc)
    assert (found.values_typed, found.values_called) == (0, RECORDS)
    assert (found.combiners_typed, found.combiners_called) == (0, 2 * KEYS)
    # What goes over the wire is typed nevertheless.
    assert (found.sent_typed, found.sent_pickled) == (2 * KEYS, 0)
    assert found.aggregate_time > 0
    assert found.widenings == 0


def test_widening_is_told_with_its_cause(sc: SparkContext) -> None:
    def with_a_none(n: int) -> tuple[int, Any]:
        return n % KEYS, ("a", "b") if n == 15_000 else n

    mixed = sc.range(RECORDS, numSlices=2).map(with_a_none)
    assert mixed.reduceByKey(lambda a, b: b).count() == KEYS
    found = the_one(sc)
    # It is the 5,001st record of the second task.
    assert (found.values_typed, found.values_called) == (15_000, 5_000)
    assert found.widenings >= 1
    assert found.cause == "value is of type tuple"
    assert "value is of type tuple" in repr(ferroshuffle.stats(sc))


@pytest.mark.parametrize(
    ("key", "value", "cause"),
    [
        (b"", 1, "key is of type bytes"),
        (1, 2**70, "value is an int beyond 64 bits"),
        (1, "x", "value is of type str"),
        (1, 1.0, "value is of type float"),
        (1, True, "value is of type bool"),
        (2**70, 1, "key is an int beyond 64 bits"),
    ],
)
def test_causes(sc: SparkContext, key: Any, value: Any, cause: str) -> None:
    records = sc.parallelize([(1, 1), (2, 2), (key, value)], 1)
    records.reduceByKey(lambda a, b: a, 1).count()
    assert the_one(sc).cause == cause


def test_causes_within_tuples(sc: SparkContext) -> None:
    def add(a: Any, b: Any) -> Any:
        return a[0] + b[0], a[1] + b[1]

    for value, cause in [
        ((1, 2.0), "value[1] is of type float"),
        ((1, 2, 3), "value is a tuple of 3"),
        ((1, float("nan")), "value[1] is of type float"),
    ]:
        vars(sc).pop("_ferroshuffle_shuffles", None)
        sc.parallelize([(1, (1, 1)), (2, value)], 1).reduceByKey(add, 1).count()
        assert the_one(sc).cause == cause


def test_an_aggregate_that_is_not_for_the_values(sc: SparkContext) -> None:
    sc.parallelize([(1, {1: 2}), (1, {3: 4})], 1).reduceByKey(lambda a, b: a, 1).count()
    found = the_one(sc)
    assert found.cause == "value is of type dict, which the aggregate is not for"
    assert (found.values_typed, found.values_called) == (0, 2)


def test_spilling(sc: SparkContext) -> None:
    with sessions.worker_memory(sc, sessions.TINY_MEMORY):
        assert pairs(sc).reduceByKey(operator.add).count() == KEYS
    found = the_one(sc)
    assert found.values_typed == RECORDS
    assert found.spilled_records > 0
    assert found.spilled_disk_bytes > 0
    assert found.spill_time > 0


def test_a_sort_tells_what_it_spills(sc: SparkContext) -> None:
    with sessions.worker_memory(sc, sessions.TINY_MEMORY):
        ordered = pairs(sc).sortByKey(numPartitions=2).keys().collect()
    assert ordered == sorted(n % KEYS for n in range(RECORDS))
    found = the_one(sc)
    assert found.shuffle.operation == "sortByKey"
    assert found.sent_typed == RECORDS
    assert found.values_typed == found.combiners_typed == 0
    assert found.spilled_records > 0
    assert found.decode_time > 0


def test_each_shuffle_of_a_job_is_told_apart(sc: SparkContext) -> None:
    sums = pairs(sc).reduceByKey(operator.add)
    joined = sums.join(pairs(sc).groupByKey().mapValues(len))
    assert joined.count() == KEYS
    found = ferroshuffle.stats(sc).shuffles
    assert [each.shuffle.operation for each in found[:2]] == ["reduceByKey", "groupByKey"]
    assert [each.values_typed for each in found[:2]] == [RECORDS, RECORDS]
    table = ferroshuffle.stats(sc).to_dict()["shuffles"]
    assert [each["operation"] for each in table[:2]] == ["reduceByKey", "groupByKey"]
    assert table[0]["values_typed"] == RECORDS
    assert table[0]["aggregate"] == "sum of value"
    assert "20,000" in repr(ferroshuffle.stats(sc))
    assert "<td>groupByKey</td>" in ferroshuffle.stats(sc)._repr_html_()


def test_a_union_is_not_told_of_the_first(sc: SparkContext) -> None:
    left = pairs(sc).partitionBy(2)
    right = pairs(sc).partitionBy(2, lambda key: key)
    assert len(left.union(right).map(lambda kv: kv).collect()) == 2 * RECORDS
    first, second = ferroshuffle.stats(sc).shuffles
    assert first.sent_typed == second.sent_typed == RECORDS
    assert first.decode_time == second.decode_time == 0


def test_a_job_that_runs_twice_counts_twice(sc: SparkContext) -> None:
    merged = pairs(sc).reduceByKey(operator.add)
    merged.count()
    assert the_one(sc).combiners_typed == 2 * KEYS
    merged.count()
    # The map side is kept by Spark.
    assert the_one(sc).combiners_typed == 4 * KEYS
    assert the_one(sc).values_typed == RECORDS


def test_a_failed_job_tells_of_the_tasks_that_ended(sc: SparkContext) -> None:
    def failing(kv: Any) -> Any:
        raise ZeroDivisionError

    with pytest.raises(Exception, match="ZeroDivisionError"):
        pairs(sc).reduceByKey(operator.add).map(failing).collect()
    found = the_one(sc)
    assert found.values_typed == RECORDS
    assert found.combiners_typed == 0


def test_with_columns_off_calls_are_counted(sc: SparkContext) -> None:
    sc._conf.set("spark.ferroshuffle.enabled", "false")
    try:
        assert pairs(sc).reduceByKey(lambda a, b: a + b).count() == KEYS
    finally:
        sc._conf.set("spark.ferroshuffle.enabled", "true")
    found = the_one(sc)
    assert found.shuffle.reason == "spark.ferroshuffle.enabled is false"
    assert (found.values_typed, found.values_called) == (0, RECORDS)
    assert (found.combiners_typed, found.combiners_called) == (0, 2 * KEYS)
    assert (found.sent_typed, found.sent_pickled) == (0, 2 * KEYS)


def test_the_accumulators_of_a_program_go_on(sc: SparkContext) -> None:
    seen = sc.accumulator(0)

    def add(a: int, b: int) -> int:
        seen.add(1)
        return a + b

    assert pairs(sc).reduceByKey(add).count() == KEYS
    assert seen.value == RECORDS - KEYS
    assert the_one(sc).values_called == RECORDS


def test_only_the_newest_are_kept(sc: SparkContext, monkeypatch: pytest.MonkeyPatch) -> None:
    param = metrics.CountsParam()
    total: dict[int, metrics.Counts] = {}
    for number in range(metrics.MOST_SHUFFLES + 3):
        total = param.addInPlace(total, {number: {"widenings": 1, "cause": None}})
    assert sorted(total) == list(range(3, metrics.MOST_SHUFFLES + 3))
    more = param.addInPlace(total, {5: {"widenings": 2, "cause": "later"}})
    assert more[5] == {"widenings": 3, "cause": "later"}
    assert total[5] == {"widenings": 1, "cause": None}

    monkeypatch.setattr("ferroshuffle.spark.stats.MOST_SHUFFLES", 2)
    for keys in (3, 4, 5):
        records = sc.range(100, numSlices=1).map(lambda n, keys=keys: (n % keys, n))
        records.reduceByKey(operator.add, 1).count()
    assert [each.combiners_typed for each in ferroshuffle.stats(sc).shuffles] == [4, 5]


def test_a_context_is_asked_for(sc: SparkContext) -> None:
    with pytest.raises(TypeError, match="about a SparkContext, not about 'PipelinedRDD'"):
        ferroshuffle.stats(pairs(sc))
    assert ShufflesOfContext.of(sc) is ShufflesOfContext.of(sc)
