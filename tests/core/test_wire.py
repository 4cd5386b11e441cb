"""Blocks on the wire: what ShuffleWriter writes, BlockReader and pickle read, damaged or not."""

from __future__ import annotations

import copy
import gc
import io
import itertools
import operator
import pickle
import re
import struct
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark import cloudpickle
from pyspark.serializers import AutoBatchedSerializer, CPickleSerializer

from ferroshuffle import CorruptBlockError, _core, shuffle
from ferroshuffle.serializers import BlockSerializer
from tests.compat import values
from tests.compat.exact import exact
from tests.conftest import NO_LIMIT_MIB
from tests.faults.children import run

END_OF_DATA = struct.pack("!i", -1)

plain = st.one_of(
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False),
    st.text(max_size=8),
    st.none(),
    st.booleans(),
    st.binary(max_size=4),
)
nested = st.one_of(plain, st.tuples(plain, plain), st.lists(plain, max_size=3))


def pieces(records: Iterable[Any], partitions: int = 1) -> list[bytes]:
    """Return what the map side sends, without the numbers of partitions."""
    output = _core.ShuffleWriter(
        records, hash, False, partitions, cloudpickle.dumps, True, NO_LIMIT_MIB
    )
    return list(output)[1::2]


def stream_of(frames: Iterable[bytes], end: bytes = b"") -> io.BytesIO:
    framed = (struct.pack("!i", len(frame)) + frame for frame in frames)
    return io.BytesIO(b"".join(framed) + end)


def reader(frames: Iterable[bytes], end: bytes = b"") -> Any:
    return BlockSerializer(CPickleSerializer()).load_stream(stream_of(frames, end))


def typed_frames(records: list[Any]) -> list[bytes]:
    frames = pieces(records)
    assert all(b"FSBK" in frame for frame in frames)
    return frames


@given(st.lists(st.tuples(plain.filter(lambda key: key is not None), nested), max_size=40))
def test_records_come_back_as_they_were(records: list[Any]) -> None:
    frames = pieces(records)
    assert exact(list(reader(frames))) == exact(records)
    assert exact([record for frame in frames for record in pickle.loads(frame)]) == exact(records)


def _or_none(kind: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | kind


def _kinds() -> st.SearchStrategy[st.SearchStrategy[Any]]:
    """Return strategies of values of one kind each, with None here and there."""
    leaf = st.sampled_from(
        [st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.text(max_size=4)]
        + [st.booleans(), st.binary(max_size=4), st.none()]
    )
    leaf |= leaf.map(_or_none)
    whole = leaf | st.lists(leaf, min_size=1, max_size=3).map(lambda each: st.tuples(*each))
    return whole | whole.map(_or_none)


@given(st.data())
def test_none_in_any_place_comes_back(data: st.DataObject) -> None:
    key, value = data.draw(_kinds()), data.draw(_kinds())
    value = data.draw(st.sampled_from([value, st.lists(value, max_size=3)]))
    records = data.draw(st.lists(st.tuples(key, value), max_size=40))
    frames = pieces(iter(records))
    assert exact(list(reader(frames))) == exact(records)
    assert exact([record for frame in frames for record in pickle.loads(frame)]) == exact(records)
    # From one writer's columns into another's.
    again = pieces(reader([frame for part in (records[:9], records[9:]) for frame in pieces(part)]))
    assert exact(list(reader(again))) == exact(records)


@given(values.records())
def test_records_of_any_kind_come_back_as_pickle_has_them(records: list[Any]) -> None:
    expected = pickle.loads(cloudpickle.dumps(records))
    assert exact(list(reader(pieces(records)))) == exact(expected)


def test_typed_records_are_columns_and_others_are_not() -> None:
    def refuse(_: Any) -> bytes:
        raise AssertionError("these need no serializer")

    records: list[Iterator[Any]] = [
        ((n, -n) for n in range(5)),
        iter([("ä", None), ("", None)]),
        (((1, "a"), (0.5, (n, [n]))) for n in range(3)),
        ((0.5, ["a"] * n) for n in range(1, 4)),
        ((n, None if n == 2 else n) for n in range(5)),
        ((n, None if n < 2 else (n, [None, n])) for n in range(5)),
        ((None if n == 2 else str(n), (n, None if n == 3 else 0.5)) for n in range(5)),
        (((n, None if n == 1 else b""), [None if n == 2 else True]) for n in range(5)),
    ]
    for of_one_kind in records:
        output = _core.ShuffleWriter(of_one_kind, hash, False, 1, refuse, True, NO_LIMIT_MIB)
        assert len(list(output)) == 2


def test_a_list_that_others_hold_stays_one_object() -> None:
    shared = [1, 2]
    received = list(reader(pieces([(1, shared), (2, shared)])))
    assert received == [(1, [1, 2]), (2, [1, 2])]
    assert received[0][1] is received[1][1]  # as pickle has it
    lists = list(reader(pieces((n, [n]) for n in range(2))))
    assert lists == [(0, [0]), (1, [1])]


def test_a_list_as_a_key_is_not_copied_while_it_is_changed() -> None:
    def grown(make: Callable[[list[int]], Any]) -> Iterator[tuple[Any, int]]:
        key = [0]
        for n in range(4):
            key[0] = n
            yield make(key), n

    makes: tuple[Callable[[list[int]], Any], ...] = (lambda key: key, lambda key: (1, key))
    for make in makes:
        output = _core.ShuffleWriter(
            grown(make), lambda _: 0, False, 1, cloudpickle.dumps, True, NO_LIMIT_MIB
        )
        received = list(reader(list(output)[1::2]))
        assert received == [(make([3]), n) for n in range(4)]  # PySpark pickles them at the end


def test_a_tuple_with_a_nan_stays_one_object() -> None:
    shared = ("n", float("nan"))
    for make in (lambda n: shared, lambda n: (n, shared), lambda n: [shared]):
        received = [value for _, value in reader(pieces((n, make(n)) for n in range(3)))]
        found = {value if value[0] == "n" else value[-1] for value in received}
        assert len(found) == 1


def test_an_iterator_that_only_sounds_like_zip_keeps_its_lists() -> None:
    class zip:  # noqa: A001
        def __init__(self) -> None:
            self.held: list[Any] = []

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> Any:
            if self.held:
                self.held[-1][1].append(99)
            if len(self.held) == 3:
                raise StopIteration
            self.held.append((len(self.held), [1]))
            return self.held[-1]

    assert list(reader(pieces(zip()))) == [(n, [1, 99]) for n in range(3)]


@pytest.mark.usefixtures("_rung")
def test_a_function_that_reads_on_gets_the_next_record() -> None:
    received = reader(pieces([(n % 3, n) for n in range(2_000)]))
    seen = []

    def merge(a: int, b: int) -> int:
        if len(seen) < 2:
            seen.append(next(received))
        return a + b

    merger = shuffle.ExternalMerger(shuffle.Aggregator(lambda v: v, merge, merge), NO_LIMIT_MIB)
    merger.mergeValues(received)
    assert seen == [(1, 4), (0, 6)]
    assert sum(dict(merger.items()).values()) == sum(range(2_000)) - 10


@pytest.mark.parametrize("at", range(5))
@pytest.mark.parametrize("odd", [(9, True), (9, 2**64), ("k", 1), (9, None), (float("nan"), 1)])
def test_a_record_of_another_kind_does_not_change_the_order(at: int, odd: Any) -> None:
    records: list[Any] = [(n, n) for n in range(4)]
    records.insert(at, odd)
    assert exact(list(reader(pieces(records)))) == exact(records)


def test_what_follows_the_end_of_the_data_is_left_alone() -> None:
    for records in ([(1, 2)], [(1, {2})]):
        stream = stream_of(pieces(records), END_OF_DATA + b"rest")
        received = BlockSerializer(CPickleSerializer()).load_stream(stream)
        assert list(received) == records
        assert list(received) == []  # asked again it does not read on
        assert stream.read() == b"rest"


def test_frames_of_pyspark_s_own_are_read_too() -> None:
    stream = io.BytesIO()
    BlockSerializer(CPickleSerializer()).dump_stream(iter([(1, "a"), (2, "b")]), stream)
    stream.seek(0)
    assert list(BlockSerializer(CPickleSerializer()).load_stream(stream)) == [(1, "a"), (2, "b")]


def test_one_batch_is_one_frame() -> None:
    frames = [*pieces([(1, 1), (2, 2)]), *pieces([(3, {3})])]
    stream = stream_of(frames, b"rest")
    batches = BlockSerializer(CPickleSerializer())._load_stream_without_unbatching(stream)
    assert next(batches) == [(1, 1), (2, 2)]
    assert next(batches) == [(3, {3})]
    assert stream.read() == b"rest"


def test_it_is_equal_to_its_own_kind_only() -> None:
    one, other = BlockSerializer(CPickleSerializer()), BlockSerializer(CPickleSerializer())
    stock: Any = AutoBatchedSerializer(CPickleSerializer())
    assert one == other
    assert not operator.ne(one, other)
    assert hash(one) == hash(other)
    for left, right in ((one, stock), (stock, one)):
        assert left != right
        assert not operator.eq(left, right)
    assert pickle.loads(cloudpickle.dumps(one)) == one


@pytest.mark.parametrize("records", [[(1, 2), (3, 4)], [("key", {1})]], ids=["typed", "pickled"])
def test_any_damaged_bit_raises_an_error(records: list[Any]) -> None:
    (frame,) = pieces(records)
    for at in range(len(frame)):
        for bit in range(8):
            damaged = bytearray(frame)
            damaged[at] ^= 1 << bit
            with pytest.raises(CorruptBlockError):
                list(reader([bytes(damaged)]))


PREFIX = struct.Struct("<4sHIQQ")  # of a block: magic, version, two lengths, checksum
NUMBERS = [0, 1, 2, 3, 255, 2**16, 2**31, 2**32 - 1, 2**63, 2**64 - 1]


def damaged(data: bytes, random: Random) -> bytes:
    """Return `data` with a byte, a number, or a few bytes more or less changed."""
    at = random.randrange(len(data) + 1)
    length = random.randrange(9)
    number = random.choice(NUMBERS).to_bytes(8, "little")[: random.choice([4, 8])]
    replaced, by = random.choice(
        [(1, bytes([random.randrange(12)])), (1, random.randbytes(1)), (len(number), number)]
        + [(length, b""), (0, random.randbytes(length)), (0, data[at : at + length])]
    )
    return data[:at] + by + data[at + replaced :]


def sealed(frame: bytes, random: Random) -> bytes:
    """Return a frame that was damaged within its block, whose lengths and checksum are right."""
    start = frame.index(b"FSBK")
    block, end = frame[start:-3], frame[-3:]
    magic, version, header_length, payload_length, _ = PREFIX.unpack_from(block)
    header = block[PREFIX.size :][:header_length]
    payload = block[PREFIX.size + header_length :]
    for _ in range(random.randrange(1, 4)):
        if random.random() < 0.3:
            header = damaged(header, random)
        else:
            payload = damaged(payload, random)
    if random.random() < 0.8:  # as long as its header says
        payload = payload[:payload_length].ljust(payload_length, b"\0")

    def whole(checksum: int) -> bytes:
        prefix = PREFIX.pack(magic, version, len(header), len(payload), checksum)
        block = prefix + header + payload
        return frame[: start - 4] + struct.pack("<I", len(block)) + block + end

    try:
        _core.records_of(whole(0)[start:-3], list)
    except CorruptBlockError as error:
        said = re.search("its checksum is ([0-9a-f]{16})", str(error))
        assert said is not None
    return whole(int(said[1], 16))


def read_damaged_frames(seed: int, rounds: int) -> None:
    """Read `rounds` damaged frames; fail where one is anything but records or corrupt."""
    random = Random(seed)
    kinds: list[list[Any]] = [
        [(n, -n) for n in range(9)],
        [(str(n), None) for n in range(9)],
        [((n, b"x" * n), n / 2) for n in range(9)],
        [(n, None if n % 3 else (n, n > 4)) for n in range(9)],
        [(None if n % 3 else n, ["a", None, "b" * n]) for n in range(9)],
        [(n, [(n, 0.5)] * n) for n in range(1, 9)],
    ]
    frames = [frame for kind in kinds for frame in pieces(copy.deepcopy(kind))]
    assert len(frames) == len(kinds)

    def serialized(data: bytes) -> list[Any]:
        return [(0, data)]

    ends: Counter[str] = Counter()
    for _ in range(rounds):
        frame = random.choice(frames)
        is_sealed = random.random() < 0.8
        frame = sealed(frame, random) if is_sealed else damaged(frame, random)
        try:
            # A block of a few bytes may say that it has milliards of records which are None.
            received = list(itertools.islice(_core.BlockReader(stream_of([frame]), serialized), 50))
            assert all(type(record) is tuple and len(record) == 2 for record in received)
            ends["read"] += is_sealed
        except CorruptBlockError:
            ends["corrupt"] += is_sealed
    assert min(ends["read"], ends["corrupt"]) > rounds / 20, ends


def test_damaged_blocks_under_a_right_checksum_are_records_or_corrupt() -> None:
    run(
        """
        from tests.core.test_wire import read_damaged_frames

        def peak():
            [line] = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
            return int(line.split()[1]) >> 10

        read_damaged_frames(0, 100)
        before = peak()
        for seed in range(5):
            read_damaged_frames(seed, 4_000)
        assert peak() < before + 32, (before, peak())
        """
    )


def test_a_cut_stream_raises_an_error() -> None:
    frames = typed_frames([(1, 2), (3, 4)])
    whole = stream_of(frames).getvalue()
    for length in range(1, len(whole)):
        received = BlockSerializer(CPickleSerializer()).load_stream(io.BytesIO(whole[:length]))
        with pytest.raises(CorruptBlockError, match="block 0 of a partition"):
            list(received)
    with pytest.raises(CorruptBlockError, match="length is -4"):
        list(BlockSerializer(CPickleSerializer()).load_stream(io.BytesIO(struct.pack("!i", -4))))


def test_a_block_of_another_version_says_what_to_do() -> None:
    (frame,) = typed_frames([(1, 2)])
    at = frame.index(b"FSBK") + 4
    newer = frame[:at] + b"\x63\x00" + frame[at + 2 :]
    with pytest.raises(CorruptBlockError, match="one version on the driver and all workers"):
        list(reader([newer]))


def test_errors_of_the_stream_and_of_pickle_come_out_as_they_are() -> None:
    class Own(Exception):
        pass

    class Stream:
        def read(self, length: int) -> bytes:
            raise Own

    with pytest.raises(Own):
        next(_core.BlockReader(Stream(), pickle.loads))

    def refuse(data: bytes) -> Any:
        raise Own

    received = _core.BlockReader(stream_of(pieces([(1, {2})])), refuse)
    with pytest.raises(Own):
        next(received)
    assert list(received) == []


def test_close_ends_it_and_a_cycle_is_collected() -> None:
    received = reader(pieces([(1, 2), (3, 4)]))
    assert next(received) == (1, 2)
    received.close()
    assert list(received) == []

    class Stream(io.BytesIO):
        pass

    stream: Any = Stream(stream_of(pieces([(1, {2})])).getvalue())
    stream.held = _core.BlockReader(stream, pickle.loads)
    gone = weakref.ref(stream)
    del stream
    gc.collect()
    assert gone() is None


# Where columns go straight on.


def add(a: Any, b: Any) -> Any:
    return a + b


def appender() -> shuffle.Aggregator[Any, Any, Any]:
    return shuffle.Aggregator(lambda v: [v], lambda c, v: c.append(v) or c, add)


@pytest.fixture(params=[1, None], ids=["typed", "called"])
def _rung(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shuffle, "_records_before_typed", request.param)


def merged(frames: list[bytes], aggregator: Any, limit: float = NO_LIMIT_MIB) -> Iterator[Any]:
    merger = shuffle.ExternalMerger(aggregator, limit)
    merger.mergeCombiners(reader(frames))
    return merger.items()


def expected(records: list[Any], join: Callable[[Any, Any], Any]) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for key, value in records:
        found[key] = join(found[key], value) if key in found else value
    return found


@pytest.mark.usefixtures("_rung")
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 9), st.one_of(st.integers(), st.floats(0, 9)))),
        max_size=6,
    ),
    st.sampled_from([0.0, NO_LIMIT_MIB]),
)
def test_blocks_of_any_kinds_are_merged(batches: list[list[Any]], limit: float) -> None:
    frames = [frame for records in batches for frame in pieces(records)]
    records = [record for batch in batches for record in batch]
    found = dict(merged(frames, shuffle.SimpleAggregator(add), limit))
    assert exact(sorted(found.items())) == exact(sorted(expected(records, add).items()))


@pytest.mark.usefixtures("_rung")
@given(st.data(), st.sampled_from([0.0, NO_LIMIT_MIB]))
def test_blocks_with_none_and_without_are_merged(data: st.DataObject, limit: float) -> None:
    ints = st.integers(0, 5)
    kinds = st.sampled_from([ints, st.none(), _or_none(ints)])
    batches = []
    for _ in range(data.draw(st.integers(0, 5))):
        key, value = data.draw(kinds), data.draw(kinds)
        batches.append(data.draw(st.lists(st.tuples(key, value.map(lambda each: [each])))))
    frames = [frame for records in batches for frame in pieces(copy.deepcopy(records))]
    records = [record for batch in batches for record in batch]
    found = dict(merged(frames, appender(), limit))
    assert exact(sorted(found.items(), key=repr)) == exact(
        sorted(expected(records, add).items(), key=repr)
    )


@pytest.mark.usefixtures("_rung")
@pytest.mark.parametrize("make", [lambda n: n, lambda n: f"key-{n}", lambda n: (n % 7, f"ä{n}")])
@pytest.mark.parametrize("limit", [0.0, NO_LIMIT_MIB])
def test_a_merger_s_items_go_out_and_come_in(make: Callable[[int], Any], limit: float) -> None:
    for aggregator in (shuffle.SimpleAggregator(add), appender()):
        merger = shuffle.ExternalMerger(aggregator, limit)
        records = [(make(n % 300), n) for n in range(2_000)]
        merger.mergeValues(iter(records))
        frames = pieces(merger.items(), partitions=3)
        stock = expected([(key, aggregator.createCombiner(n)) for key, n in records], add)
        assert dict(merged(frames, aggregator, limit)) == stock
        assert dict(merged(frames + frames, aggregator, limit)) == {
            key: value + value for key, value in stock.items()
        }


@pytest.mark.usefixtures("_rung")
def test_a_misfit_among_blocks_is_merged_in_its_place() -> None:
    for odd in (0.5, 2**80, True, "x"):
        batches: list[list[Any]] = [[(n % 5, [n]) for n in range(2_000)], [(3, [odd])], [(3, [7])]]
        frames = [frame for records in batches for frame in pieces(iter(records))]
        records = [record for records in batches for record in records]
        assert exact(dict(merged(frames, appender()))) == exact(expected(records, add))


BATCH = 512  # records that the engine reads before it merges them
EVERY_PLACE = range(BATCH + 3)
SOME_PLACES = [0, 1, 255, *range(BATCH - 2, BATCH + 3)]


@pytest.mark.parametrize(
    ("odd", "places"),
    [((5, 2**63), EVERY_PLACE), ((5, None), EVERY_PLACE), (("x", 1), EVERY_PLACE)]
    + [((5, value), SOME_PLACES) for value in (0.5, True, (1, 2))]
    + [((key, 1), SOME_PLACES) for key in (None, 0.5, True, 2**63, (1, 2))],
)
def test_a_misfit_after_any_number_of_records_that_came_as_columns(
    odd: Any, places: Iterable[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shuffle, "_records_before_typed", 1)
    joins = {"sum": add, "group": add, "last": lambda a, b: b}
    if not isinstance(odd[1], (int, float)):
        del joins["sum"]
    for name, join in joins.items():
        aggregator = appender() if name == "group" else shuffle.SimpleAggregator(join)
        make = (lambda value: [value]) if name == "group" else (lambda value: value)
        records = [(n * 7919 % 90, make(n)) for n in range(BATCH + 20)]
        misfit = (odd[0], make(odd[1]))
        for at in places:
            parts = [records[:at], [misfit], records[at:], [misfit]]
            frames = [frame for part in parts for frame in pieces(copy.deepcopy(part))]
            found = list(merged(frames, aggregator))
            everything = [record for part in parts for record in part]
            assert exact(found) == exact(list(expected(everything, join).items())), (name, at)


@pytest.mark.parametrize("limit", [0.0, NO_LIMIT_MIB])
def test_records_after_one_that_a_function_fails_for_are_still_there(limit: float) -> None:
    class Own(Exception):
        pass

    def create(value: int) -> int:
        if value == 700:
            raise Own
        return value

    records = [(n, n) for n in range(2_000)]
    source = shuffle.ExternalMerger(shuffle.SimpleAggregator(add), limit)
    source.mergeValues(records)
    for received in (reader(pieces(records)), source.items()):
        merger = shuffle.ExternalMerger(shuffle.Aggregator(create, add, add), NO_LIMIT_MIB)
        with pytest.raises(Own):
            merger.mergeValues(received)
        (bad,) = {(n, n) for n in range(2_000)} - dict(merger.items()).items() - set(received)
        assert bad == (700, 700)
        assert list(received) == []


@pytest.mark.parametrize("seed", ["0", "42", "random"])
def test_columns_go_where_their_keys_would(seed: str) -> None:
    run(
        """
        import io, struct
        from pyspark import cloudpickle
        from pyspark.rdd import portable_hash
        from ferroshuffle import _core

        def write(records, function, partitions):
            return list(_core.ShuffleWriter(
                records, function, function is portable_hash, partitions, cloudpickle.dumps,
                True, 1 << 30))

        keys = [
            [0, -1, -2, 2**61 - 1, 2**62, -2**63, 2**63 - 1],
            [0.0, -0.0, 1.5, 2.0**80, float("inf"), -1.0],
            ["", "a", "key-123", "ä", "\\U0001f980", "x" * 999],
            [None],
            [True, False],
            [b"", b"a", b"\\xff" * 40],
            [(), ((),)],
            [(1, "a"), (-1, ""), (2**62, "ä")],
            [(b"x", True), (b"y", False)],
            [(None, (0.5, -1)), (None, (-0.0, 2**61 - 1))],
            [5, None, -1, 2**62],
            [None, "a", ""],
            [(1, "a"), (1, None), (None, "a"), None],
        ]
        many = 99_991
        for of_one_kind in keys:
            records = [(key, n) for n, key in enumerate(of_one_kind)]
            frame = write(records, hash, 1)[1]
            stream = io.BytesIO(struct.pack("!i", len(frame)) + frame)
            output = write(_core.BlockReader(stream, cloudpickle.loads), portable_hash, many)
            numbers = [struct.unpack("!q", number)[0] for number in output[::2]]
            assert len(set(numbers)) == len(numbers)
            for number, piece in zip(numbers, output[1::2]):
                for key, n in cloudpickle.loads(piece):
                    assert portable_hash(key) % many == number, key
        """,
        PYTHONHASHSEED=seed,
    )


def test_merged_columns_find_objects_of_the_same_key() -> None:
    # A table that is widened goes on with Python's hashes: those of columns have to be the same.
    run(
        """
        import io, struct
        from pyspark import cloudpickle
        from ferroshuffle import _core, shuffle

        def reader(records):
            frames = list(_core.ShuffleWriter(
                records, hash, False, 1, cloudpickle.dumps, True, 1 << 30))[1::2]
            framed = (struct.pack("!i", len(frame)) + frame for frame in frames)
            return _core.BlockReader(io.BytesIO(b"".join(framed)), cloudpickle.loads)

        shuffle._records_before_typed = 0
        for make in (int, str, lambda n: (n, str(n)), lambda n: (None, n / 2), lambda n: n / 2):
            for limit in (0.0, 1 << 30):
                merger = shuffle.ExternalMerger(shuffle.SimpleAggregator(lambda a, b: a + b), limit)
                merger.mergeCombiners(reader([(make(n), 1) for n in range(900)]))
                merger.mergeCombiners(reader([(make(n), 0.5) for n in range(900)]))
                merger.mergeValues([(make(n), 1) for n in range(900)])
                found = dict(merger.items())
                assert found == {make(n): 2.5 for n in range(900)}, make
        """,
        PYTHONHASHSEED="0",
    )
