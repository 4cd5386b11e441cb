"""Jobs that spill: results too large for memory, Spark's metrics, and what is left on disk."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark import RDD, SparkContext

import ferroshuffle.shuffle

from . import sessions

RECORDS = 200_000


@pytest.fixture
def tiny_memory(sc: SparkContext) -> Iterator[None]:
    with sessions.worker_memory(sc, sessions.TINY_MEMORY):
        yield


def distinct_pairs(sc: SparkContext) -> RDD:
    return sc.parallelize(range(RECORDS), 2).map(lambda n: (n, n))


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except FileNotFoundError:  # the descriptor of the listing itself
        return ""


def sum_by_key(sc: SparkContext) -> int:
    return distinct_pairs(sc).reduceByKey(operator.add).values().sum()


def group_by_key(sc: SparkContext) -> int:
    return distinct_pairs(sc).groupByKey().values().map(len).sum()


def sort_by_key(sc: SparkContext) -> list[int]:
    return distinct_pairs(sc).sortByKey(False).keys().take(3)


JOBS = {
    sum_by_key: RECORDS * (RECORDS - 1) // 2,
    group_by_key: RECORDS,
    sort_by_key: [RECORDS - 1, RECORDS - 2, RECORDS - 3],
}


@pytest.mark.parametrize("job", JOBS)
def test_spark_shows_the_spilled_bytes(sc, tiny_memory, job):
    sc.setJobGroup(f"spilling {job.__name__}", "")
    assert sessions.on_ferroshuffle(job, sc) == JOBS[job]
    memory, disk = sessions.spilled_bytes(sc, f"spilling {job.__name__}")
    # A record needs a few bytes at least, even compressed.
    assert disk > RECORDS
    assert memory > RECORDS


@pytest.mark.parametrize("job", JOBS)
def test_spark_shows_no_spilled_bytes_where_memory_suffices(sc, job):
    sc.setJobGroup(f"in memory {job.__name__}", "")
    assert sessions.on_ferroshuffle(job, sc) == JOBS[job]
    assert sessions.spilled_bytes(sc, f"in memory {job.__name__}") == (0, 0)


def test_a_spilling_job_leaves_no_file_and_no_folder(sc, tiny_memory, spark_local_dir: Path):
    for job, result in JOBS.items():
        assert sessions.on_ferroshuffle(job, sc) == result
    assert sessions.foreign_paths(spark_local_dir) == []


def test_a_job_that_is_not_read_to_the_end_leaves_no_file(sc, tiny_memory, spark_local_dir: Path):
    def job(sc: SparkContext) -> list[tuple[int, int]]:
        return distinct_pairs(sc).reduceByKey(operator.add, 1).take(1)

    [(key, value)] = sessions.on_ferroshuffle(job, sc)
    assert key == value
    assert sessions.foreign_paths(spark_local_dir) == []


def test_a_reused_worker_holds_no_spill_file_open(sc, tiny_memory):
    """A spill file has no name, so only an open descriptor shows that it still takes up disk."""

    def deleted_files(_: object) -> list[str]:
        links = Path("/proc/self/fd").iterdir()
        return [target for target in map(_target, links) if target.endswith("(deleted)")]

    def job(sc: SparkContext) -> tuple[int, list[str]]:
        total = sum_by_key(sc) + group_by_key(sc)
        return total, sc.parallelize(range(8), 8).flatMap(deleted_files).collect()

    total, left_open = sessions.on_ferroshuffle(job, sc)
    assert total == JOBS[sum_by_key] + JOBS[group_by_key]
    assert left_open == []


def test_huge_groups_come_to_the_driver_as_external_lists(sc, tiny_memory):
    """Three groups that do not fit the limit: upstream's test_external_group_by_key asks for it."""
    count, groups = 2_000_001, 3

    def job(sc: SparkContext) -> None:
        pairs = sc.parallelize(range(count), 2).map(lambda n: (n % groups, n))
        grouped = pairs.groupByKey().cache()
        try:
            assert sorted(grouped.mapValues(len).collect()) == [
                (k, count // groups) for k in range(groups)
            ]
            [(key, group)] = grouped.filter(lambda kv: kv[0] == 1).collect()
        finally:
            grouped.unpersist()
        assert key == 1
        assert isinstance(group.data, ferroshuffle.shuffle.ExternalListOfList)
        assert len(group) == count // groups
        assert sorted(group) == list(range(1, count, groups))
        assert sum(1 for _ in group) == count // groups  # it can be read again

    sessions.on_ferroshuffle(job, sc)


def test_groups_of_keys_without_an_order_spill(sc, tiny_memory):
    """Stock sorts spilled groups by key, and so raises TypeError here."""
    kinds = [int, str, lambda n: None, lambda n: (n,), float]
    count = 100_000

    def job(sc: SparkContext) -> dict[object, int]:
        pairs = sc.parallelize(range(count), 2).map(
            lambda n: (kinds[n % len(kinds)](n // 1_000), "value" * 20 + str(n))
        )
        return dict(pairs.groupByKey(2).mapValues(len).collect())

    sizes = sessions.on_ferroshuffle(job, sc)
    assert sum(sizes.values()) == count
    assert sizes[None] == count // len(kinds)
    assert sizes["7"] == sizes[(7,)] == 200
    assert sizes[7] == 400  # 7 and 7.0
