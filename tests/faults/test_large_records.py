"""A record of many MiB takes little more memory on its way than it takes in stock PySpark."""

from __future__ import annotations

from pathlib import Path

from tests.faults.children import run

MIB = 100

PEAK = """
import struct, sys
from pyspark.serializers import AutoBatchedSerializer, CPickleSerializer
from ferroshuffle.serializers import BlockSerializer
from ferroshuffle.spark.rdd import MapOutput

def peak():
    # Not ru_maxrss, which a process has from the one that started it.
    with open("/proc/self/status") as status:
        return [int(line.split()[1]) >> 10 for line in status if line.startswith("VmHWM")][0]

path, size = sys.argv[1], int(sys.argv[2]) << 20
base = peak()
"""

WRITE = """
frame = [
    piece
    for piece in MapOutput(1, hash, False, CPickleSerializer(), True, 1e9)(
        0, ((n, bytes(size)) for n in range(1))
    )
][1]
with open(path, "wb") as file:
    file.write(struct.pack("!i", len(frame)))
    file.write(frame)
print(peak() - base)
"""

READ = """
with open(path, "rb") as file:
    [(_, value)] = BlockSerializer(CPickleSerializer()).load_stream(file)
assert len(value) == size
print(peak() - base)
"""


def test_a_large_record_is_there_twice_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "frame"
    # Which is bytes of zeros here: they are serialized, and what that gave is framed.
    assert int(run(PEAK + WRITE, path, MIB)) < 2.5 * MIB
    # As in stock: what was read, and what is made of it.
    assert int(run(PEAK + READ, path, MIB)) < 2.5 * MIB
