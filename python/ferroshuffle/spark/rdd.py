"""`RDD.partitionBy`, through which every shuffle of PySpark's key-value operations goes.

A worker imports this module for `MapOutput`, so nothing of PySpark is imported at its top.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import itertools
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
    tag : int or bool, optional
        Each value is sent as a tuple of this and what it was.
    in_pieces : bool
        Values of equal keys are merged on the other side, so that one may be sent as several.
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
        tag: int | None = None,
        in_pieces: bool = False,
    ):
        self.partitions = partitions
        self.partition_function = partition_function
        self.is_portable_hash = is_portable_hash
        self.serializer = serializer
        self.makes_blocks = makes_blocks
        self.limit = limit
        self.metrics = metrics
        self.tag = tag
        self.in_pieces = in_pieces

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
            self.tag,
            self.in_pieces,
        )


class Tagged:
    """Puts a tag beside the values of a partition's records, which stay where they are.

    Parameters
    ----------
    output : MapOutput
        For one partition.
    """

    def __init__(self, output: MapOutput):
        self.output = output

    def __call__(self, split: int, records: Iterable[Any]) -> Iterable[Any]:
        """Return the records as frames."""
        # Those without the number of the partition in front of each.
        return itertools.islice(self.output(split, records), 1, None, 2)


class Shuffles:
    """Makes shuffles as `RDD.partitionBy` does, whose stock form is `stock`."""

    def __init__(self, stock: Callable[..., Any]):
        from pyspark import serializers

        self._spark: Any = importlib.import_module("pyspark.rdd")
        # The one that PySpark itself takes, whatever has been put in its place since.
        self.portable_hash = inspect.signature(stock).parameters["partitionFunc"].default
        # PySpark's methods that merge combiners on either side of a shuffle.
        rdd = self._spark.RDD
        self.merging = {rdd.combineByKey.__code__, rdd.groupByKey.__code__}
        self._plain = serializers.CPickleSerializer
        # Of an unknown batch size: our pieces have other lengths than those that PySpark would
        # send, and zip() must not take two RDDs for cut alike.
        self._batched: Any = serializers.AutoBatchedSerializer

    def partitioner(self, partitions: int, function: Callable[[Any], int] | None = None) -> Any:
        """Return PySpark's partitioner, by `portable_hash` where no function is given."""
        return self._spark.Partitioner(partitions, function or self.portable_hash)

    def makes_blocks(self, context: Any) -> bool:
        """Return whether records are sent in blocks, and so in columns where they are typed."""
        # Frames of blocks are pickles, so that whoever takes PySpark's way can read them.
        return type(context._unbatched_serializer) is self._plain and is_enabled()

    def tagged(self, rdd: Any, tag: int) -> Any:
        """Return an RDD with `tag` beside each value, partitioned as it was."""
        from ferroshuffle.serializers import BlockSerializer
        from ferroshuffle.spark.lineage import note_shuffles_of

        context = rdd.ctx
        serializer = context._unbatched_serializer
        limit = rdd._memory_limit() / 2
        # Its keys have been through that function before.
        output = MapOutput(1, self.portable_hash, True, serializer, True, limit, tag=tag)
        frames = rdd.mapPartitionsWithIndex(Tagged(output), preservesPartitioning=True)
        frames._bypass_serializer = True  # its items are bytes already
        made: Any = self._spark.RDD(frames._jrdd, context, BlockSerializer(serializer))
        made.partitioner = rdd.partitioner
        note_shuffles_of(rdd, made)
        return made

    def shuffled(
        self,
        rdd: Any,
        partitioner: Any,
        site: Any,
        aggregator: Any = None,
        tag: int | None = None,
        in_pieces: bool = False,
        sort_key: Callable[[Any], Any] | None = None,
    ) -> Any:
        """Return a shuffled RDD, with `tag` beside each value if there is one.

        `aggregator` is what its records are merged by, on either side, if they are; `in_pieces`
        tells that they are on the other side. `sort_key` makes what they are going to be sorted by.
        """
        from ferroshuffle.serializers import BlockSerializer
        from ferroshuffle.spark.lineage import note_shuffle, shuffle_of
        from ferroshuffle.spark.stats import ShufflesOfContext

        context, partitions = rdd.ctx, partitioner.numPartitions
        function = partitioner.partitionFunc
        serializer = context._unbatched_serializer
        makes_blocks = self.makes_blocks(context)
        shuffle = shuffle_of(rdd, aggregator, sort_key, site._call_site, partitions)
        metrics = ShufflesOfContext.of(context).add(shuffle.told)
        if aggregator is not None:
            aggregator.metrics = metrics
        output = MapOutput(
            partitions,
            function,
            function is self.portable_hash,
            serializer,
            makes_blocks,
            rdd._memory_limit() / 2,
            metrics,
            tag,
            in_pieces,
        )
        map_side = rdd.mapPartitionsWithIndex(output, preservesPartitioning=True)
        map_side._bypass_serializer = True  # its items are bytes already
        jvm = context._jvm
        with site:
            pairs = jvm.PairwiseRDD(map_side._jrdd.rdd()).asJavaPairRDD()
            jvm_partitioner = jvm.PythonPartitioner(partitions, id(function))
        values = jvm.PythonRDD.valueOfPair(pairs.partitionBy(jvm_partitioner))
        batched = self._batched(serializer)
        deserializer = BlockSerializer(serializer, metrics) if makes_blocks else batched
        reduce_side: Any = self._spark.RDD(values, context, deserializer)
        reduce_side.partitioner = partitioner
        note_shuffle(reduce_side, shuffle)
        return reduce_side


def partition_by(stock: Callable[..., Any], shuffles: Shuffles) -> Callable[..., Any]:
    """Return the `RDD.partitionBy` that takes the place of PySpark's, which is `stock`."""
    from ferroshuffle.spark.lineage import aggregator_of

    portable_hash = shuffles.portable_hash

    @functools.wraps(stock)
    def partitionBy(  # noqa: N802
        self: Any,
        numPartitions: int | None,  # noqa: N803
        partitionFunc: Callable[[Any], int] = portable_hash,  # noqa: N803
    ) -> Any:
        partitions = self._defaultReducePartitions() if numPartitions is None else numPartitions
        partitioner = shuffles.partitioner(partitions, partitionFunc)
        if self.partitioner == partitioner:
            return self
        # Pieces are for those that call us to merge what comes of it, by a function that sends
        # equal keys to one place however often it is called.
        in_pieces = (
            sys._getframe(1).f_code in shuffles.merging and partitionFunc is shuffles.portable_hash
        )
        return shuffles.shuffled(
            self,
            partitioner,
            call_site_of_caller(self.ctx, "partitionBy"),
            aggregator_of(self),
            in_pieces=in_pieces,
        )

    return partitionBy


def call_site(context: Any) -> Any:
    """Return a context manager in which Spark names what is made after the line of the user's.

    PySpark is asked, which looks for a function of its own that the user has called.
    """
    return importlib.import_module("pyspark.traceback_utils").SCCallSiteSync(context)


def call_site_of_caller(context: Any, method: str) -> Any:
    """Return the same for a `method` of ours that the user, or PySpark, has called."""
    from pyspark import traceback_utils

    site = call_site(context)
    caller = sys._getframe(1).f_back
    if caller is None:
        return site  # called by no Python code
    spark_folder = os.path.join(os.path.dirname(traceback_utils.__file__), "")
    if not caller.f_code.co_filename.startswith(spark_folder):
        # PySpark looks for a frame of its own, and only finds the one behind ours.
        site._call_site = f"{method} at {caller.f_code.co_filename}:{caller.f_lineno}"
    return site
