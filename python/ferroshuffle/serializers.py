"""Serializers for the records of a shuffle.

`AutoSerializer` chooses between marshal and pickle by itself. It works without PySpark; where
PySpark is installed, it can be handed to a ``SparkContext`` as its serializer. `BlockSerializer` is
what reads the records that `RDD.partitionBy` has shuffled.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING, Any

from ferroshuffle import _core

if TYPE_CHECKING:
    from ferroshuffle.spark.metrics import ShuffleMetrics

    _Base = object

    class _Batched:
        def __init__(self, serializer: Any) -> None:
            self.serializer = serializer

else:
    try:
        # A SparkContext asks for an instance of the first; zip() cuts what the second has read
        # into batches of its own.
        from pyspark.serializers import AutoBatchedSerializer as _Batched
        from pyspark.serializers import FramedSerializer as _Base
    except ImportError:
        _Base = _Batched = object

__all__ = ["AutoSerializer", "BlockSerializer"]

_LENGTH = struct.Struct("!i")


class AutoSerializer(_Base):
    """Serialize with marshal where that is exact, and with pickle otherwise.

    The bytes of an object are ``M`` and what `marshal` made of it, or ``P`` and what `pickle`
    made; what pickle does not find by name goes by value, where PySpark and its cloudpickle are
    installed. It starts with marshal, and stays with pickle after the first object that marshal
    refuses or would not give back with its exact types.

    Examples
    --------
    >>> ser = AutoSerializer()
    >>> ser.dumps(("a", 1))[:1]
    b'M'
    >>> ser.loads(ser.dumps(("a", 1)))
    ('a', 1)
    >>> ser.dumps(bytearray(b"a"))[:1]
    b'P'
    >>> ser.dumps(("a", 1))[:1]
    b'P'
    """

    def __init__(self) -> None:
        self._engine = _core.AutoSerializer()

    def dumps(self, obj: object) -> bytes:
        """Return the bytes of `obj`; raises what pickle raises for what it refuses."""
        return self._engine.dumps(obj)

    def loads(self, obj: bytes) -> Any:
        """Return the object that the bytes `obj` were made from.

        Raises `ValueError` where they start with neither ``M`` nor ``P``.
        """
        return self._engine.loads(obj)

    def dump_stream(self, iterator: Iterable[object], stream: IO[bytes]) -> None:
        """Write the objects, each behind its length in four bytes, most significant first."""
        for obj in iterator:
            data = self.dumps(obj)
            if len(data) >= 1 << 31:
                raise ValueError("an object of 2 GiB or more does not fit into a frame")
            stream.write(_LENGTH.pack(len(data)))
            stream.write(data)

    def load_stream(self, stream: IO[bytes]) -> Iterator[Any]:
        """Yield the objects that `dump_stream` wrote, up to the end of the stream."""
        while head := stream.read(_LENGTH.size):
            if len(head) < _LENGTH.size:
                raise EOFError("the stream ends within the length of an object")
            (length,) = _LENGTH.unpack(head)
            if length < 0:
                return  # how a Spark worker marks the end of its data
            data = stream.read(length)
            if len(data) < length:
                raise EOFError(f"the stream ends within an object of {length} bytes")
            yield self.loads(data)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return "AutoSerializer()"

    def __reduce__(self) -> tuple[type[AutoSerializer], tuple[()]]:
        return type(self), ()


class BlockSerializer(_Batched):
    """Read the frames that the map side of a shuffle wrote; needs PySpark.

    A frame is a pickled list of records, as PySpark has it, but that the records are in a block:
    checksummed, and in columns where they are typed. So others read it with `pickle`, and we read
    columns without making a tuple where the next step takes columns too.

    Parameters
    ----------
    serializer : pyspark.serializers.CPickleSerializer
        Makes bytes of the records that are not typed.
    metrics : ferroshuffle.spark.metrics.ShuffleMetrics, optional
        Where what is counted of the records goes.
    """

    def __init__(self, serializer: Any, metrics: ShuffleMetrics | None = None):
        super().__init__(serializer)
        self.metrics = metrics

    def load_stream(self, stream: IO[bytes]) -> _core.BlockReader:
        """Return an iterator over the records in `stream`, up to its end or that of the data.

        It raises `ferroshuffle.CorruptBlockError` where they are not what was written.
        """
        counters = None if self.metrics is None else self.metrics.counters
        return _core.BlockReader(stream, self.serializer.loads, counters)

    # PySpark calls serializers of one class and the same attributes equal, subclasses included:
    # it would take our frames for its own, and have the JVM read them.
    def __eq__(self, other: object) -> bool:
        # Whose records they are makes no difference to how they are read.
        return type(self) is type(other) and {**vars(self), "metrics": None} == {
            **vars(other),
            "metrics": None,
        }

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return f"BlockSerializer({self.serializer})"


def _records(block: bytes) -> list[Any]:
    """Return the records in a block; what a frame calls when it is unpickled."""
    return _core.records_of(block, pickle.loads)
