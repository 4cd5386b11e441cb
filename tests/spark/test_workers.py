"""Workers that live for one task only, and workers that lack ferroshuffle."""

from __future__ import annotations

import operator
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from py4j.protocol import Py4JJavaError
from pyspark import RDD, SparkContext

import ferroshuffle

from . import sessions


@pytest.fixture(scope="module")
def spark_settings() -> dict[str, str]:
    return {"spark.python.worker.reuse": "false"}


@pytest.fixture
def python_without_ferroshuffle(
    sc: SparkContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let workers run on a Python without site-packages; Spark itself brings PySpark along."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sc, "pythonExec", str(python))
    monkeypatch.setattr(sc, "environment", dict(sc.environment))


def pairs(sc: SparkContext) -> RDD:
    return sc.parallelize([(n % 100, n) for n in range(5_000)], 4)


def worker_of_each_task(sc: SparkContext) -> list[int]:
    return sc.parallelize(range(4), 4).map(lambda _: os.getpid()).collect()


@pytest.mark.parametrize("memory", [sessions.DEFAULT_MEMORY, sessions.TINY_MEMORY])
def test_workers_that_are_not_reused_give_the_same_results(sc, memory, spark_local_dir: Path):
    def job(sc: SparkContext) -> tuple[Any, ...]:
        assert len(set(worker_of_each_task(sc))) == 4
        sums = pairs(sc).reduceByKey(operator.add, 2)
        return (
            dict(sums.collect()),
            dict(pairs(sc).groupByKey(2).mapValues(sorted).collect()),
            sums.sortByKey(numPartitions=2).keys().collect(),
            dict(sums.join(pairs(sc).reduceByKey(max, 2)).collect()),
        )

    with sessions.worker_memory(sc, memory):
        sums, groups, keys, joined = sessions.on_ferroshuffle(job, sc)
    values = {k: list(range(k, 5_000, 100)) for k in range(100)}
    assert sums == {k: sum(values[k]) for k in values}
    assert groups == values
    assert keys == sorted(values)
    assert joined == {k: (sum(values[k]), max(values[k])) for k in values}
    assert sessions.foreign_paths(spark_local_dir) == []


@pytest.mark.parametrize(
    "operation",
    [
        lambda rdd: rdd.reduceByKey(operator.add),
        lambda rdd: rdd.groupByKey(),
        lambda rdd: rdd.sortByKey(),
        lambda rdd: rdd.partitionBy(3),
    ],
    ids=["reduceByKey", "groupByKey", "sortByKey", "partitionBy"],
)
def test_a_worker_without_ferroshuffle_names_it_and_the_remedy(
    sc, python_without_ferroshuffle, operation: Callable[[RDD], RDD]
):
    ferroshuffle.install()
    with pytest.raises(Py4JJavaError) as caught:
        operation(pairs(sc)).collect()
    message = str(caught.value.java_exception)
    assert "No module named 'ferroshuffle'" in message
    assert f"pip install ferroshuffle=={ferroshuffle.__version__}" in message
    assert "PYSPARK_PYTHON" in message


def test_a_worker_without_ferroshuffle_runs_jobs_without_a_shuffle(sc, python_without_ferroshuffle):
    def stop(_: Any) -> Any:
        raise StopIteration

    ferroshuffle.install()
    rdd = pairs(sc).filter(lambda kv: kv[1] % 2).mapValues(lambda v: v + 1)
    rdd.foreach(lambda kv: None)
    assert rdd.map(lambda kv: kv[1]).flatMap(lambda v: [v, 1]).sum() == 6_252_500 + 2_500
    assert rdd.values().reduce(max) == 5_000
    for failing in (rdd.map(stop), rdd.mapValues(stop)):
        with pytest.raises(Py4JJavaError, match="Caught StopIteration thrown from user's code"):
            failing.collect()


def test_a_worker_without_ferroshuffle_runs_jobs_of_stock(sc, python_without_ferroshuffle):
    assert pairs(sc).reduceByKey(max).count() == 100
