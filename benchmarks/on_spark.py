"""Workloads that run a whole Spark job, in local mode on two cores.

The clock is the driver's: from calling the action to having its result. Spark has started and has
run the same job on a few records before, or on all of them where that is said of a row, so neither
the JVM's start nor the first worker's is in it, unless the row is about that. Functions that go to
the workers are defined inside others, and so pickled by value, as those of an application's main
script are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from measured import RSS_UNIT, Answer, Run

if TYPE_CHECKING:
    from pyspark import RDD, SparkContext

WARM_UP_RECORDS = 1_000

TINY_JOBS = 50
TINY_JOBS_WITH_NEW_WORKERS = 10
TINY_RECORDS = 100

# Sends 0, 1, 2, … to different numbers below MODULUS (both are prime), in no useful order.
MULTIPLIER = 2_654_435_761
MODULUS = 4_294_967_291

# What a job finds: a number that stands for its result, and the peak RSS of the largest worker.
Found = tuple[int, int]
Job = Callable[["SparkContext", int], Found]


@contextmanager
def spark(run: Run, reuse_workers: bool = True) -> Iterator[SparkContext]:
    """Start Spark as the side has it, with the row's limit as `spark.python.worker.memory`."""
    from pyspark import SparkConf, SparkContext

    if run.side == "ours":
        import_module("ferroshuffle").install()
    conf = SparkConf().setMaster("local[2]").setAppName("ferroshuffle benchmark")
    conf.set("spark.ui.enabled", "false").set("spark.ui.showConsoleProgress", "false")
    conf.set("spark.python.worker.reuse", str(reuse_workers).lower())
    if run.limit is not None:
        conf.set("spark.python.worker.memory", f"{run.limit}m")
    context = SparkContext(conf=conf)
    try:
        yield context
    finally:
        context.stop()


def time_job(run: Run, job: Job, warm_up_records: int = WARM_UP_RECORDS) -> Answer:
    """Warm Spark up on a few records, then time the job on all of them."""
    with spark(run) as context:
        job(context, warm_up_records)
        with run.clock():
            answer, worker_rss = job(context, run.records)
        # The worker's, not the driver's, which the clock has noted.
        run.result.peak_rss = worker_rss
        count_spilled(run, context)
    return answer


def consume(records: RDD[Any], number_of: Callable[[Any], int] = itemgetter(1)) -> Found:
    """Run the job to its end in the workers, as `count` does, summing up a number a record."""

    def consume_partition(partition: Iterable[Any]) -> list[Found]:
        import resource

        total = sum(map(number_of, partition))
        return [(total, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT)]

    totals, peaks = zip(*records.mapPartitions(consume_partition).collect(), strict=True)
    return sum(totals), max(peaks)


def count_spilled(run: Run, context: SparkContext) -> None:
    """Note the spilled bytes in Spark's own task metrics, those of the warm-up included."""
    scala_context = context._jsc.sc()
    scala_context.listenerBus().waitUntilEmpty()
    gateway = context._gateway
    assert gateway is not None
    quantiles = gateway.new_array(gateway.jvm.double, 0)
    stages = scala_context.statusStore().stageList(None, False, False, quantiles, None)
    for index in range(stages.size()):
        stage = stages.apply(index)
        run.result.memory_spilled += stage.memoryBytesSpilled()
        run.result.disk_spilled += stage.diskBytesSpilled()


def reduce_by_key(run: Run) -> Answer:
    """`sc.range(n).map(lambda i: (i, i)).reduceByKey(add)`.

    `add` is a `def` with a `try` in it; the values are summed up in the workers.
    """

    def job(context: SparkContext, records: int) -> Found:
        def add(a: int, b: int) -> int:
            try:
                return a + b
            except TypeError:
                return a

        return consume(context.range(records).map(lambda i: (i, i)).reduceByKey(add))

    return time_job(run, job)


def sum_by_key(run: Run, keys: int | None) -> Answer:
    """`sc.range(n).map(lambda i: (i % keys, i)).reduceByKey(lambda a, b: a + b)`.

    Where all keys are distinct, `keys` is `n`. The values are summed up in the workers.
    """
    return time_job(run, sum_by_key_job(keys))


def sum_by_key_job(keys: int | None) -> Job:
    """Return the job of `sum_by_key`; `keys` is None where all are distinct."""

    def job(context: SparkContext, records: int) -> Found:
        modulus = keys or records
        pairs = context.range(records).map(lambda i: (i % modulus, i))
        return consume(pairs.reduceByKey(lambda a, b: a + b))

    return job


def sum_as_dataframe(run: Run, keys: int | None) -> Answer:
    """`session.range(n)`, `id % keys` as the key, `groupBy("key").sum("value")`, against an RDD.

    The RDD is `sc.range(n).map(lambda i: (i % keys, i)).reduceByKey(lambda a, b: a + b)`. Both make
    their records in the way natural to them, the DataFrame in the JVM and the RDD in Python, inside
    the clock; both sum up the result's values, by `agg(sum)` and in the workers. Both have as many
    shuffle partitions: `spark.sql.shuffle.partitions` is set to the RDD's number. All else is
    Spark's default, adaptive execution included. The clock is on the second run over all the
    records, when the JVM has generated its code. Where all keys are distinct, `keys` is `n` and not
    left out: `groupBy("id")` would need no shuffle, since Spark knows how a range is partitioned.
    """
    job = dataframe_job(keys) if run.side == "dataframe" else sum_by_key_job(keys)
    return time_job(run, job, warm_up_records=run.records)


def dataframe_job(keys: int | None) -> Job:
    """Return the DataFrame's job of `sum_as_dataframe`, in which no Python worker takes part."""

    def job(context: SparkContext, records: int) -> Found:
        f, pairs = dataframe_of_pairs(context, records, keys or records)
        sums = pairs.groupBy("key").sum("value")
        (row,) = sums.agg(f.sum("sum(value)")).collect()
        worker_rss = 0
        return row[0], worker_rss

    return job


def count_words(run: Run, words: int) -> Answer:
    """`sc.range(n).map(lambda i: (f"word-{i % words}", 1)).reduceByKey(lambda a, b: a + b)`.

    The squared counts are summed up in the workers.
    """

    def square_of_count(pair: tuple[str, int]) -> int:
        return pair[1] ** 2

    def job(context: SparkContext, records: int) -> Found:
        pairs = context.range(records).map(lambda i: (f"word-{i % words}", 1))
        return consume(pairs.reduceByKey(lambda a, b: a + b), square_of_count)

    return time_job(run, job)


def average_by_key(run: Run, keys: int) -> Answer:
    """`sc.range(n).map(lambda i: (i % keys, i)).aggregateByKey((0, 0), …)` to sums and counts.

    `lambda c, v: (c[0] + v, c[1] + 1)`, and both added up; the sums are summed up in the workers.
    """

    def job(context: SparkContext, records: int) -> Found:
        pairs = context.range(records).map(lambda i: (i % keys, i))
        sums = pairs.aggregateByKey(
            (0, 0),
            lambda c, v: (c[0] + v, c[1] + 1),
            lambda a, b: (a[0] + b[0], a[1] + b[1]),
        )
        return consume(sums, lambda pair: pair[1][0])

    return time_job(run, job)


def group_by_key(run: Run, keys: int | None) -> Answer:
    """`sc.range(n).map(lambda i: (i % keys, i)).groupByKey().mapValues(len)`.

    Where all keys are distinct, `keys` is `n`. The squared lengths are summed up in the workers.
    """
    return time_job(run, group_job(keys))


def group_job(keys: int | None) -> Job:
    """Return the job of `group_by_key`; `keys` is None where all are distinct."""

    def square_of_length(pair: tuple[int, int]) -> int:
        return pair[1] ** 2

    def job(context: SparkContext, records: int) -> Found:
        modulus = keys or records
        pairs = context.range(records).map(lambda i: (i % modulus, i))
        return consume(pairs.groupByKey().mapValues(len), square_of_length)

    return job


def sum_groups(run: Run, keys: int) -> Answer:
    """`sc.range(n).map(lambda i: (f"key-{i % keys}", i)).groupByKey().mapValues(sum)`.

    The sums are summed up in the workers.
    """

    def job(context: SparkContext, records: int) -> Found:
        pairs = context.range(records).map(lambda i: (f"key-{i % keys}", i))
        return consume(pairs.groupByKey().mapValues(sum))

    return time_job(run, job)


def distinct(run: Run, keys: int) -> Answer:
    """`sc.range(n).map(lambda i: i % keys).distinct()`, summed up in the workers."""

    def job(context: SparkContext, records: int) -> Found:
        return consume(context.range(records).map(lambda i: i % keys).distinct(), int)

    return time_job(run, job)


def join(run: Run) -> Answer:
    """`left.join(right)`, a quarter of the records each, every key once on either side.

    The joined values are summed up in the workers.
    """

    def job(context: SparkContext, records: int) -> Found:
        left = context.range(records // 4).map(lambda i: (i, i))
        right = context.range(records // 4).map(lambda i: (i, i + 1))
        return consume(left.join(right).mapValues(sum))

    return time_job(run, job)


def join_many_with_few(run: Run, operation: str, keys: int) -> Answer:
    """`sc.range(n).map(lambda i: (i % keys, i))`, joined with a tenth of the records, made alike.

    Of a join the left values are summed up in the workers, of `cogroup` the lengths of the left
    groups.
    """

    def left_of(pair: Any) -> int:
        left = pair[1][0]
        return left if isinstance(left, int) else len(left)

    def job(context: SparkContext, records: int) -> Found:
        left = context.range(records).map(lambda i: (i % keys, i))
        right = context.range(records // 10).map(lambda i: (i % keys, i))
        return consume(getattr(left, operation)(right), left_of)

    return time_job(run, job)


def sort_by_key(run: Run, keys: int | None = None, has_texts: bool = False) -> Answer:
    """`sortByKey()` of `sc.range(n)` mapped to pairs with keys in random order.

    Its sampling jobs are included; the values are summed up in the workers.
    """
    return time_job(run, sort_job(keys, has_texts))


def sort_job(keys: int | None = None, has_texts: bool = False) -> Job:
    """Return the job of `sort_by_key`, with so many different keys; None is one a record."""

    def job(context: SparkContext, records: int) -> Found:
        pairs = context.range(records).map(lambda i: (i * MULTIPLIER % MODULUS, i))
        if has_texts:
            pairs = context.range(records).map(lambda i: (f"key-{i * MULTIPLIER % MODULUS}", i))
        elif keys is not None:
            pairs = context.range(records).map(lambda i: (i * MULTIPLIER % MODULUS % keys, i))
        return consume(pairs.sortByKey())

    return job


def group_as_dataframe(run: Run, keys: int | None) -> Answer:
    """`groupByKey().mapValues(len)` against `groupBy("key").agg(collect_list("value"))` and `size`.

    Otherwise as for the sums: both make their records inside the clock, and sum up the squared
    sizes.
    """

    def as_dataframe(context: SparkContext, records: int) -> Found:
        f, pairs = dataframe_of_pairs(context, records, keys or records)
        groups = pairs.groupBy("key").agg(f.collect_list("value").alias("group"))
        size = f.size("group").cast("long")
        (row,) = groups.agg(f.sum(size * size)).collect()
        return row[0], 0

    job = as_dataframe if run.side == "dataframe" else group_job(keys)
    return time_job(run, job, warm_up_records=run.records)


def sort_as_dataframe(run: Run, keys: int | None = None) -> Answer:
    """`sortByKey()`, of which the values are summed up, against `orderBy` into a noop sink.

    Otherwise as for the sums.
    """

    def as_dataframe(context: SparkContext, records: int) -> Found:
        f, pairs = dataframe_of_pairs(context, records, records)
        key = f.col("value") * MULTIPLIER % MODULUS % (keys or MODULUS)
        ordered = pairs.select(key.alias("key"), "value").orderBy("key")
        ordered.write.format("noop").mode("overwrite").save()
        return records * (records - 1) // 2, 0

    job = as_dataframe if run.side == "dataframe" else sort_job(keys)
    return time_job(run, job, warm_up_records=run.records)


def join_as_dataframe(run: Run, keys: int) -> Answer:
    """`join` with a tenth of the records against a DataFrame's, which is not to broadcast it.

    Otherwise as for the sums: both sum up the left values.
    """

    def joined(context: SparkContext, records: int) -> Found:
        left = context.range(records).map(lambda i: (i % keys, i))
        right = context.range(records // 10).map(lambda i: (i % keys, i))
        return consume(left.join(right), lambda pair: pair[1][0])

    def as_dataframe(context: SparkContext, records: int) -> Found:
        f, left = dataframe_of_pairs(context, records, keys)
        _, right = dataframe_of_pairs(context, records // 10, keys)
        right = right.withColumnRenamed("value", "other")
        (row,) = left.join(right, "key").agg(f.sum("value"), f.sum("other")).collect()
        return row[0], 0

    job = as_dataframe if run.side == "dataframe" else joined
    return time_job(run, job, warm_up_records=run.records)


def dataframe_of_pairs(context: SparkContext, records: int, keys: int) -> tuple[Any, Any]:
    """Return the functions of columns, and a DataFrame of pairs, shuffled as an RDD is."""
    from pyspark.sql import SparkSession
    from pyspark.sql import functions as f

    session = SparkSession(context)
    session.conf.set("spark.sql.shuffle.partitions", str(context.defaultParallelism))
    session.conf.set("spark.sql.autoBroadcastJoinThreshold", "-1")
    number = f.col("id")
    return f, session.range(records).select((number % keys).alias("key"), number.alias("value"))


def tiny_jobs(run: Run, jobs: int, reuse_workers: bool) -> Answer:
    """Jobs of `reduceByKey(…).collect()`, one by one, 100 records in 2 partitions each."""

    def job(context: SparkContext) -> int:
        pairs = context.parallelize([(i % 10, i) for i in range(TINY_RECORDS)], 2)
        return sum(value for _, value in pairs.reduceByKey(lambda a, b: a + b).collect())

    with spark(run, reuse_workers) as context:
        job(context)
        with run.clock():
            answer = [job(context) for _ in range(jobs)]
    return answer
