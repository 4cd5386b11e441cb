"""Jobs on a standalone cluster, whose executors and workers are processes of their own."""

from __future__ import annotations

import operator
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark import RDD, SparkContext

import ferroshuffle.shuffle

from . import sessions
from .cluster import Cluster, standalone_cluster

pytestmark = pytest.mark.slow

RECORDS = 40_000
KEYS = 10_000


@pytest.fixture(scope="module")
def cluster(
    _spark_environment: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    with standalone_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture(scope="module", params=["true", "false"], ids=["reuse", "no-reuse"])
def sc(
    _jvm: None,
    cluster: Cluster,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Iterator[SparkContext]:
    settings = {
        "spark.executor.memory": "512m",
        "spark.python.worker.memory": sessions.TINY_MEMORY,
        "spark.python.worker.reuse": request.param,
        "spark.scheduler.minRegisteredResourcesRatio": "1.0",  # wait for both executors
    }
    local_dir = tmp_path_factory.mktemp("driver")
    with sessions.spark_context(cluster.master, local_dir, settings) as sc:
        yield sc
    wait_until_empty(cluster)


def wait_until_empty(cluster: Cluster) -> None:
    """Fail unless the ended application's files disappear from the Workers' local dirs."""
    deadline = time.monotonic() + 30
    while left := [path for folder in worker_dirs(cluster) for path in remains(folder)]:
        assert time.monotonic() < deadline, f"left in the Workers' local dirs: {left}"
        time.sleep(0.1)


def remains(folder: Path) -> list[Path]:
    """Return all paths but the folder that a Worker itself holds as long as it runs."""
    return [path for path in folder.rglob("*") if path.parent != folder or path.is_file()]


def pairs(sc: SparkContext) -> RDD:
    return sc.parallelize(range(RECORDS), 2).map(lambda n: (n % KEYS, n))


def dirs_of_each_executor(sc: SparkContext) -> set[str]:
    return set(sc.range(0, 4, 1, 4).map(lambda _: os.environ["SPARK_LOCAL_DIRS"]).collect())


def worker_dirs(cluster: Cluster) -> list[Path]:
    return [path for dirs in cluster.local_dirs for path in dirs]


def test_jobs_run_on_both_workers_with_two_dirs_each(sc, cluster):
    found = sessions.on_ferroshuffle(dirs_of_each_executor, sc)
    assert len(found) == len(cluster.local_dirs)
    for dirs in found:
        assert len(dirs.split(",")) == 2


def test_spilling_jobs_give_the_right_results_and_leave_nothing(sc, cluster):
    def job(sc: SparkContext) -> None:
        sums = pairs(sc).reduceByKey(operator.add, 2)
        assert sorted(sums.collect()) == [(k, sum(range(k, RECORDS, KEYS))) for k in range(KEYS)]
        groups = pairs(sc).groupByKey(2).mapValues(sorted)
        assert sorted(groups.collect()) == [(k, list(range(k, RECORDS, KEYS))) for k in range(KEYS)]
        assert sums.sortByKey(False, 2).keys().collect() == list(range(KEYS))[::-1]
        assert sums.join(pairs(sc).reduceByKey(max, 2)).count() == KEYS
        assert pairs(sc).keys().distinct(2).count() == KEYS

    sc.setJobGroup("spilling", "")
    sessions.on_ferroshuffle(job, sc)
    memory, disk = sessions.spilled_bytes(sc, "spilling")
    assert disk > 0
    assert memory > 0
    for path in worker_dirs(cluster):
        assert list(path.iterdir()), "Spark did not use this dir"
        assert sessions.foreign_paths(path) == []


def test_a_huge_group_travels_from_an_executor_to_the_driver(sc):
    count = 20_000

    def row(n: int) -> tuple[int, tuple[int, bytes]]:
        return n % 2, (n, random.Random(n).randbytes(2_000))

    def job(sc: SparkContext) -> None:
        grouped = dict(sc.parallelize(range(count), 2).map(row).groupByKey(2).collect())
        for k in range(2):
            assert isinstance(grouped[k].data, ferroshuffle.shuffle.ExternalListOfList)
            assert len(grouped[k]) == count // 2
            assert sorted(n for n, _ in grouped[k]) == list(range(k, count, 2))

    sessions.on_ferroshuffle(job, sc)


def test_results_equal_those_of_stock(sc):
    def job(sc: SparkContext) -> list[str]:
        words = sc.parallelize(range(3_000), 2).map(lambda n: (str(n % 101), float(n)))
        return sorted(
            words.aggregateByKey((0, 0.0), lambda c, v: (c[0] + 1, max(c[1], v)), max)
            .map(repr)
            .collect()
        )

    assert sessions.on_ferroshuffle(job, sc) == sessions.on_stock(job, sc)


def test_columns_travel_between_executors_and_counts_come_back(sc):
    def job(sc: SparkContext) -> None:
        sums = pairs(sc).reduceByKey(lambda a, b: a + b, 2)
        assert dict(sums.collect()) == {k: sum(range(k, RECORDS, KEYS)) for k in range(KEYS)}

    sessions.on_ferroshuffle(job, sc)
    counted = ferroshuffle.stats(sc).shuffles[-1]
    assert counted.values_typed == RECORDS
    assert counted.combiners_typed == counted.sent_typed
    assert counted.sent_typed >= KEYS
    assert counted.values_called == counted.combiners_called == counted.sent_pickled == 0
    assert counted.spilled_records > 0
