"""`RDD.partitionBy`, through which every shuffle of PySpark's key-value operations goes.

A worker imports this module for `MapOutput`, so nothing of PySpark is imported at its top.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ferroshuffle import _core
from ferroshuffle.settings import is_enabled

if TYPE_CHECKING:
    from ferroshuffle.spark.metrics import ShuffleMetrics


class MapOutput:
    """What the map side of a shuffle does with the records of one of its partitions.

    Parameters
    ----------
    partitions : int
        How many partitions the other side has.
    partition_function : callable
        ``(key) -> int``, of which the remainder by `partitions` is taken.
    is_portable_hash : bool
        That function is PySpark's `portable_hash`.
    serializer : pyspark.serializers.Serializer
        Makes bytes of a list of records.
    makes_blocks : bool
        Records are sent in blocks, which `BlockSerializer` reads; else as `serializer` makes them.
    limit : float
        Records are written early where the process holds more than this, in MiB.
    metrics : ShuffleMetrics, optional
        Where what is counted goes.
    """

    def __init__(
        self,
        partitions: int,
        partition_function: Callable[[Any], int],
        is_portable_hash: bool,
        serializer: Any,
        makes_blocks: bool,
        limit: float,
        metrics: ShuffleMetrics | None = None,
    ):
        self.partitions = partitions
        self.partition_function = partition_function
        self.is_portable_hash = is_portable_hash
        self.serializer = serializer
        self.makes_blocks = makes_blocks
        self.limit = limit
        self.metrics = metrics

    def __call__(self, _split: int, records: Iterable[Any]) -> _core.ShuffleWriter:
        """Return in turn the packed number of a partition and bytes of some of its records."""
        return _core.ShuffleWriter(
            records,
            self.partition_function,
            # Without a seed every key has to raise what PySpark's function raises.
            self.is_portable_hash and "PYTHONHASHSEED" in os.environ,
            self.partitions,
            self.serializer.dumps,
            self.makes_blocks,
            self.limit,
            None if self.metrics is None else self.metrics.counters,
        )


def partition_by(stock: Callable[..., Any]) -> Callable[..., Any]:
    """Return the `RDD.partitionBy` that takes the place of PySpark's, which is `stock`."""
    from pyspark import serializers

    from ferroshuffle.serializers import BlockSerializer
    from ferroshuffle.spark.lineage import aggregator_of, note_shuffle, shuffle_of
    from ferroshuffle.spark.stats import ShufflesOfContext

    spark: Any = importlib.import_module("pyspark.rdd")
    # The one that PySpark itself takes, whatever has been put in its place since.
    portable_hash = inspect.signature(stock).parameters["partitionFunc"].default

    # Of an unknown batch size: our pieces have other lengths than those that PySpark would send,
    # and zip() must not take two RDDs for cut alike.
    batched: Any = serializers.AutoBatchedSerializer

    @functools.wraps(stock)
    def partitionBy(  # noqa: N802
        self: Any,
        numPartitions: int | None,  # noqa: N803
        partitionFunc: Callable[[Any], int] = portable_hash,  # noqa: N803
    ) -> Any:
        partitions = self._defaultReducePartitions() if numPartitions is None else numPartitions
        partitioner = spark.Partitioner(partitions, partitionFunc)
        if self.partitioner == partitioner:
            return self
        context = self.ctx
        serializer = context._unbatched_serializer
        # Frames of blocks are pickles, so that whoever takes PySpark's way can read them.
        makes_blocks = type(serializer) is serializers.CPickleSerializer and is_enabled()
        site = _call_site(context)
        aggregator = aggregator_of(self)
        shuffle = shuffle_of(self, aggregator, site._call_site, partitions)
        metrics = ShufflesOfContext.of(context).add(shuffle.told)
        if aggregator is not None:
            aggregator.metrics = metrics
        output = MapOutput(
            partitions,
            partitionFunc,
            partitionFunc is portable_hash,
            serializer,
            makes_blocks,
            self._memory_limit() / 2,
            metrics,
        )
        map_side = self.mapPartitionsWithIndex(output, preservesPartitioning=True)
        map_side._bypass_serializer = True  # its items are bytes already
        jvm = context._jvm
        with site:
            pairs = jvm.PairwiseRDD(map_side._jrdd.rdd()).asJavaPairRDD()
            jvm_partitioner = jvm.PythonPartitioner(partitions, id(partitionFunc))
        shuffled = jvm.PythonRDD.valueOfPair(pairs.partitionBy(jvm_partitioner))
        deserializer = BlockSerializer(serializer, metrics) if makes_blocks else batched(serializer)
        reduce_side: Any = spark.RDD(shuffled, context, deserializer)
        reduce_side.partitioner = partitioner
        note_shuffle(reduce_side, shuffle)
        return reduce_side

    return partitionBy


def _call_site(context: Any) -> Any:
    """Return a context manager in which Spark names what is made after the line of the user's."""
    from pyspark import traceback_utils

    call_site: Any = traceback_utils.SCCallSiteSync
    site = call_site(context)
    caller = sys._getframe(1).f_back
    if caller is None:
        return site  # called by no Python code
    spark_folder = os.path.join(os.path.dirname(traceback_utils.__file__), "")
    if not caller.f_code.co_filename.startswith(spark_folder):
        # PySpark looks for a frame of its own, and only finds the one behind ours.
        site._call_site = f"partitionBy at {caller.f_code.co_filename}:{caller.f_lineno}"
    return site
