"""Whatever is done with a shuffled RDD gives stock's result, where serialized bytes matter too."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from py4j import java_gateway
from pyspark import RDD, SparkContext, StorageLevel
from pyspark.sql import SparkSession
from pyspark.streaming import StreamingContext

from . import sessions

pytestmark = pytest.mark.slow

KEYS = [0, 1, "a", "ä", None, 2.5, True, (1, "x"), 2**70, b"a"]


def pairs(sc: SparkContext) -> RDD:
    return sc.parallelize([(KEYS[n * n % len(KEYS)], n) for n in range(600)], 2)


def reduced(sc: SparkContext) -> RDD:
    return pairs(sc).reduceByKey(operator.add, 2)


def partitioned(sc: SparkContext) -> RDD:
    """Return what comes from the shuffle itself: half of its records are typed."""
    typed = [(10 + n % 7, (n, f"t{n}", None)) for n in range(300)]
    others = [(KEYS[n * n % len(KEYS)], n) for n in range(300)]
    return sc.parallelize(typed + others, 2).partitionBy(2)


def grouped(sc: SparkContext) -> RDD:
    return pairs(sc).groupByKey(2).mapValues(sorted)


def ordered(sc: SparkContext) -> RDD:
    return sc.parallelize([(n * 7 % 601, n) for n in range(600)], 2).sortByKey(numPartitions=2)


SHUFFLES = {each.__name__: each for each in (reduced, partitioned, grouped, ordered)}

LEVELS = {
    "MEMORY_ONLY": StorageLevel.MEMORY_ONLY,
    "MEMORY_ONLY_2": StorageLevel.MEMORY_ONLY_2,
    "MEMORY_AND_DISK": StorageLevel.MEMORY_AND_DISK,
    "MEMORY_AND_DISK_2": StorageLevel.MEMORY_AND_DISK_2,
    "DISK_ONLY": StorageLevel.DISK_ONLY,
    "DISK_ONLY_2": StorageLevel.DISK_ONLY_2,
    "DISK_ONLY_3": StorageLevel.DISK_ONLY_3,
    "OFF_HEAP": StorageLevel(True, True, True, False),
}


def kept(level: StorageLevel) -> Callable[[RDD], Any]:
    """Return what reads a kept RDD: once to keep it, once whole, and once in part."""

    def read(rdd: RDD) -> list[Any]:
        rdd.persist(level)
        try:
            return [rdd.count(), rdd.glom().collect(), rdd.take(5)]
        finally:
            rdd.unpersist(blocking=True)

    return read


def checkpointed(rdd: RDD) -> list[Any]:
    rdd.checkpoint()
    count = rdd.count()
    assert rdd.isCheckpointed()
    return [count, rdd.glom().collect()]


def locally_checkpointed(rdd: RDD) -> list[Any]:
    rdd.localCheckpoint()
    return [rdd.count(), rdd.glom().collect()]


def with_accumulator(rdd: RDD) -> list[Any]:
    total = rdd.context.accumulator(0)

    def note(record: Any) -> None:
        total.add(len(repr(record)))

    rdd.foreach(note)
    return [total.value]


def with_broadcast(rdd: RDD) -> list[Any]:
    words = rdd.context.broadcast({False: "even", True: "odd"})
    return rdd.map(lambda record: words.value[len(record) % 2 == 1]).glom().collect()


def in_java(rdd: RDD) -> list[Any]:
    """Return how many objects Java sees, each record being one."""
    return [rdd._to_java_object_rdd().count()]


def without_order(rdd: RDD) -> list[Any]:
    return sorted(rdd.map(repr).collect())


# What is done with one shuffled RDD.
USES: dict[str, Callable[[RDD], Any]] = {
    "collect": lambda rdd: rdd.collect(),
    "glom": lambda rdd: rdd.glom().collect(),
    "count": lambda rdd: [rdd.count(), rdd.isEmpty()],
    "first and take": lambda rdd: [rdd.first(), rdd.take(3), rdd.take(10_000)],
    "toLocalIterator, prefetched": lambda rdd: list(rdd.toLocalIterator(prefetchPartitions=True)),
    "an iterator that is left": lambda rdd: [next(rdd.toLocalIterator()), rdd.count()],
    "mapPartitions": lambda rdd: rdd.mapPartitions(lambda part: [list(part)]).collect(),
    "mapPartitions, half read": lambda rdd: rdd.mapPartitions(
        lambda part: [next(iter(part), None)]
    ).collect(),
    "union with itself": lambda rdd: rdd.union(rdd).glom().collect(),
    "union with another": lambda rdd: rdd.union(rdd.map(repr)).glom().collect(),
    "zip": lambda rdd: rdd.zip(rdd.map(repr)).glom().collect(),
    "zip with itself": lambda rdd: rdd.zip(rdd).glom().collect(),
    "zipWithIndex": lambda rdd: rdd.zipWithIndex().collect(),
    "cartesian with itself": lambda rdd: without_order(rdd.cartesian(rdd.sample(False, 0.1, 7))),
    "cartesian, on the left": lambda rdd: without_order(
        rdd.cartesian(rdd.context.parallelize(range(5), 2))
    ),
    "cartesian, on the right": lambda rdd: without_order(
        rdd.context.parallelize(range(5), 2).cartesian(rdd)
    ),
    "coalesce": lambda rdd: without_order(rdd.coalesce(2)),
    "repartition": lambda rdd: without_order(rdd.repartition(4)),
    "partitionBy again": lambda rdd: (
        rdd.partitionBy(2, lambda key: len(repr(key))).keys().collect()
    ),
    "pipe": lambda rdd: rdd.pipe("cat").collect(),
    "barrier": lambda rdd: rdd.barrier().mapPartitions(lambda part: [len(list(part))]).collect(),
    "an accumulator": with_accumulator,
    "a broadcast": with_broadcast,
    "checkpoint": checkpointed,
    "localCheckpoint": locally_checkpointed,
    "Java": in_java,
}
# Those of them that look at serialized bytes, or send them on as they are: also of what our merger
# gives, which PySpark serializes.
ON_BYTES = ["union with itself", "zip with itself", "cartesian with itself", "coalesce"]
ON_BYTES += ["repartition", "checkpoint", "Java", "toLocalIterator, prefetched"]
KEPT = {f"persist, {name}": kept(level) for name, level in LEVELS.items()}


@pytest.fixture(scope="module")
def spark_settings() -> dict[str, str]:
    # For DISK_ONLY_2 and the like a block goes to another executor if there is one; for OFF_HEAP
    # there must be such memory.
    return {"spark.memory.offHeap.enabled": "true", "spark.memory.offHeap.size": "64m"}


@pytest.fixture(scope="module", autouse=True)
def _checkpoint_dir(sc: SparkContext, tmp_path_factory: pytest.TempPathFactory) -> None:
    sc.setCheckpointDir(str(tmp_path_factory.mktemp("checkpoints")))


@pytest.mark.parametrize(
    ("shuffle", "use"),
    [
        *(("partitioned", use) for use in (*USES, *KEPT)),
        *(("reduced", use) for use in ON_BYTES),
    ],
)
def test_what_is_done_with_a_shuffled_rdd_gives_stock_s_result(sc, shuffle, use):
    def job(sc: SparkContext) -> Any:
        return (USES | KEPT)[use](SHUFFLES[shuffle](sc))

    expected = sessions.on_stock(job, sc)
    # As texts, which tell 1, 1.0 and True apart.
    assert repr(sessions.on_ferroshuffle(job, sc)) == repr(expected)


def read_back(sc: SparkContext, folder: Path) -> list[str]:
    return sorted(map(repr, sc.pickleFile(str(folder)).collect()))


@pytest.mark.parametrize("shuffle", SHUFFLES)
def test_saved_files_are_read_by_stock(sc, tmp_path: Path, shuffle):
    def save(sc: SparkContext) -> None:
        SHUFFLES[shuffle](sc).saveAsPickleFile(str(tmp_path / "pickles"))
        SHUFFLES[shuffle](sc).saveAsTextFile(str(tmp_path / "text"))

    sessions.on_ferroshuffle(save, sc)
    expected = sorted(sessions.on_stock(lambda sc: SHUFFLES[shuffle](sc).map(repr).collect(), sc))
    assert read_back(sc, tmp_path / "pickles") == expected
    assert sorted(sc.textFile(str(tmp_path / "text")).collect()) == expected


def test_files_saved_by_stock_are_shuffled(sc, tmp_path: Path):
    folder = str(tmp_path / "pickles")
    sessions.on_stock(lambda sc: pairs(sc).saveAsPickleFile(folder), sc)

    def job(sc: SparkContext) -> list[Any]:
        return sc.pickleFile(folder).reduceByKey(operator.add).collect()

    expected = sorted(map(repr, sessions.on_stock(job, sc)))
    assert sorted(map(repr, sessions.on_ferroshuffle(job, sc))) == expected


def test_a_sequence_file_of_a_shuffled_rdd_holds_its_pairs(sc, tmp_path: Path):
    def save(sc: SparkContext) -> None:
        ordered(sc).saveAsSequenceFile(str(tmp_path / "sequence"))

    sessions.on_ferroshuffle(save, sc)
    found = sc.sequenceFile(str(tmp_path / "sequence")).collect()
    assert sorted(found) == sorted((n * 7 % 601, n) for n in range(600))


@pytest.fixture
def session(sc: SparkContext, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give RDDs their `toDF`, and leave no trace in the other tests' Spark."""
    # A session puts another in its place, which turns the errors of all jobs into others.
    monkeypatch.setattr(java_gateway, "get_return_value", java_gateway.get_return_value)
    session = SparkSession(sc)
    yield
    # Its context is the tests' own, and stopped by them.
    session._jvm.SparkSession.clearDefaultSession()
    session._jvm.SparkSession.clearActiveSession()
    SparkSession._instantiatedSession = None


def test_a_shuffled_rdd_becomes_a_data_frame(sc, session):
    def job(sc: SparkContext) -> list[Any]:
        words = sc.parallelize([(f"w{n % 9}", n) for n in range(90)], 3).reduceByKey(operator.add)
        frame = words.toDF(["word", "total"])
        assert frame.count() == 9
        # And back: what a shuffle of rows gives.
        return frame.rdd.map(tuple).groupByKey().mapValues(sorted).collect()

    expected = sorted(sessions.on_stock(job, sc))
    assert sorted(sessions.on_ferroshuffle(job, sc)) == expected


# RDDs that were partitioned by stock meet those that are by ours.
MEETINGS: dict[str, Callable[[RDD, RDD], RDD]] = {
    "join": lambda one, other: one.join(other),
    "leftOuterJoin": lambda one, other: one.leftOuterJoin(other),
    "fullOuterJoin": lambda one, other: one.fullOuterJoin(other),
    "cogroup": lambda one, other: one.cogroup(other).mapValues(
        lambda groups: [sorted(group) for group in groups]
    ),
    "subtractByKey": lambda one, other: one.subtractByKey(other.filter(lambda kv: kv[0] != "a")),
    "union": lambda one, other: one.union(other),
    "union, then reduceByKey": lambda one, other: one.union(other).reduceByKey(operator.add),
    "cartesian": lambda one, other: one.sample(False, 0.1, 3).cartesian(other),
}


@pytest.mark.parametrize("name", MEETINGS)
def test_rdds_partitioned_by_either_meet(sc, name):
    def meet(one: RDD, other: RDD) -> list[str]:
        return sorted(map(repr, MEETINGS[name](one, other).collect()))

    def forth_and_back(sc: SparkContext, other: RDD) -> list[list[str]]:
        return [meet(reduced(sc), other), meet(other, reduced(sc))]

    expected = sessions.on_stock(lambda sc: forth_and_back(sc, partitioned(sc)), sc)
    of_stock = partitioned(sc)
    assert sessions.on_ferroshuffle(lambda sc: forth_and_back(sc, of_stock), sc) == expected


def test_rdds_partitioned_by_either_are_zipped(sc):
    of_stock = partitioned(sc)
    expected = repr([(record, record) for record in of_stock.collect()])
    for job in (
        lambda sc: of_stock.zip(partitioned(sc)).collect(),
        lambda sc: partitioned(sc).zip(of_stock).collect(),
    ):
        assert repr(sessions.on_ferroshuffle(job, sc)) == expected


def test_rdds_with_equal_partitioners_are_joined_without_a_shuffle(sc):
    def stages(sc: SparkContext) -> str:
        joined = partitioned(sc).join(reduced(sc), 2)
        return joined.toDebugString().decode()

    shuffles = sessions.on_stock(stages, sc).count("ShuffledRDD")
    assert sessions.on_ferroshuffle(stages, sc).count("ShuffledRDD") == shuffles == 2


def test_a_stream_of_rdds_is_partitioned(sc):
    # A stream takes all RDDs for serialized by PySpark.
    def job(sc: SparkContext) -> list[Any]:
        found: list[list[Any]] = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # streams are deprecated
            streaming = StreamingContext(sc, 1)
        batches = [partitioned(sc), pairs(sc).filter(lambda kv: kv[0] == 1)]
        stream = streaming.queueStream(batches).partitionBy(3)
        stream.foreachRDD(lambda rdd: found.append(rdd.glom().map(sorted_by_text).collect()))
        streaming.start()
        while sum(map(bool, found)) < len(batches):
            assert not streaming.awaitTerminationOrTimeout(0.1)
        streaming.stop(stopSparkContext=False)
        return found[: len(batches)]

    assert repr(sessions.on_ferroshuffle(job, sc)) == repr(sessions.on_stock(job, sc))


def sorted_by_text(records: list[Any]) -> list[str]:
    return sorted(map(repr, records))
