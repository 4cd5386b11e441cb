"""ShuffleWriter: every record goes to the partition that PySpark sends it to, in order."""

from __future__ import annotations

import gc
import itertools
import pickle
import struct
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark import cloudpickle
from pyspark.rdd import portable_hash
from pyspark.serializers import CPickleSerializer

from ferroshuffle import _core, shuffle
from ferroshuffle.spark.rdd import MapOutput
from tests.compat import values
from tests.compat.aggregators import COLLECT
from tests.compat.exact import exact
from tests.conftest import NO_LIMIT_MIB
from tests.faults.children import run

MANY_BYTES = 1 << 20
# Enough partitions for two hashes that differ to go to different ones, almost always.
MANY = 99_991


@pytest.fixture(autouse=True)
def _seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "0")  # PySpark's function only asks whether it is set


@pytest.fixture(autouse=True, params=[False, True], ids=["pickles", "blocks"])
def _pieces(request: pytest.FixtureRequest) -> None:
    """Run each test with both kinds of pieces: `pickle` reads either."""
    global makes_blocks
    makes_blocks = request.param


makes_blocks = False


def writer(
    records: Iterable[Any],
    partitions: int = 3,
    function: Callable[[Any], Any] = portable_hash,
    dumps: Callable[[Any], Any] = cloudpickle.dumps,
    limit: float = NO_LIMIT_MIB,
    tag: Any = None,
) -> Any:
    is_portable = function is portable_hash
    return _core.ShuffleWriter(
        records, function, is_portable, partitions, dumps, makes_blocks, limit, tag=tag
    )


def chunks(output: Iterator[bytes]) -> list[tuple[int, list[Any]]]:
    """Return the partition and the records of each piece that Spark is handed."""
    pieces = list(output)
    numbers = [struct.unpack("!q", number)[0] for number in pieces[::2]]
    return list(zip(numbers, map(pickle.loads, pieces[1::2]), strict=True))


def by_partition(output: Iterator[bytes]) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for number, records in chunks(output):
        found.setdefault(number, []).extend(records)
    return found


def expected(
    records: Iterable[Any], partitions: int, function: Callable[[Any], Any] = portable_hash
) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for key, value in records:
        found.setdefault(function(key) % partitions, []).append((key, value))
    return found


@given(values.records(), st.integers(1, 70))
def test_records_go_where_pyspark_sends_them(items: list[Any], partitions: int) -> None:
    found = by_partition(writer(items, partitions))
    assert exact(found) == exact(expected(items, partitions))


@given(
    st.recursive(
        st.one_of(values.keys, st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
        lambda keys: st.lists(keys, max_size=5).map(tuple),
    )
)
def test_nested_keys_hash_as_in_pyspark(key: Any) -> None:
    ((number, [(found, value)]),) = chunks(writer([(key, 1)], MANY))
    assert number == portable_hash(key) % (MANY)
    assert (exact(found), value) == (exact(key), 1)


def test_keys_of_tuples_of_their_own_kind_hash_by_pyspark_s_function() -> None:
    class Reversed(tuple):
        def __iter__(self) -> Iterator[Any]:
            return reversed(tuple(self[:]))

    for key in (Reversed((1, 2)), values.Pair(1, None), (values.Pair(1, "x"), 2)):
        ((number, _),) = chunks(writer([(key, 1)], MANY))
        assert number == portable_hash(key) % (MANY)


@pytest.mark.parametrize(
    "number",
    [0, 7, -1, -8, 2**63, -(2**70), True, np.int64(5), np.uint8(200), 2**31 + 1],
    ids=repr,
)
def test_any_whole_number_is_a_partition(number: Any) -> None:
    assert list(by_partition(writer([("k", 1)], 3, lambda _: number))) == [int(number) % 3]


@pytest.mark.parametrize("number", [1.0, None, "1", 1j], ids=repr)
def test_what_is_no_number_raises_what_pyspark_raises(number: Any) -> None:
    with pytest.raises((TypeError, struct.error)) as stock:
        struct.pack("!q", number % 3)
    with pytest.raises(type(stock.value)) as ours:
        list(writer([("k", 1)], 3, lambda _: number))
    assert str(ours.value) == str(stock.value)


def test_a_number_out_of_range_goes_where_spark_s_jvm_sends_it() -> None:
    class Odd(int):
        def __mod__(self, other: int) -> int:
            return 2**32 + 5

    assert list(by_partition(writer([("k", 1)], 3, lambda _: Odd(1)))) == [5 % 3]


def test_no_partition_is_a_division_by_zero_once_there_is_a_record() -> None:
    assert list(writer([], 0)) == []
    for function in (portable_hash, lambda key: 1):
        with pytest.raises(ZeroDivisionError):
            list(writer([(1, 1)], 0, function))


def test_records_may_be_anything_that_unpacks_into_two() -> None:
    records = [[1, 2], "ab", {3: 0, 4: 0}, values.Pair(5, 6), iter((7, 8)), (9, 10)]
    found = by_partition(writer(iter(records), 1))
    assert exact(found) == exact({0: [(1, 2), ("a", "b"), (3, 4), (5, 6), (7, 8), (9, 10)]})


@pytest.mark.parametrize("record", [(1,), (1, 2, 3), 5, None, "abc"], ids=repr)
def test_what_does_not_unpack_raises_python_s_error(record: Any) -> None:
    with pytest.raises((TypeError, ValueError)) as python:
        _, _ = record
    with pytest.raises(type(python.value)) as ours:
        list(writer([(1, 1), record]))
    assert str(ours.value) == str(python.value)


@pytest.mark.parametrize("key", [[1], {}, (1, [2])], ids=repr)
def test_an_unhashable_key_raises_what_hash_raises(key: Any) -> None:
    with pytest.raises(TypeError) as stock:
        portable_hash(key)
    with pytest.raises(TypeError) as ours:
        list(writer([(key, 1)]))
    assert str(ours.value) == str(stock.value)


def test_keys_nested_without_end_are_a_recursion_error() -> None:
    key: Any = ()
    for _ in range(20_000):
        key = (key,)
    with pytest.raises(RecursionError):
        list(writer([(key, 1)]))


def test_without_a_seed_pyspark_s_error_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    output = MapOutput(2, portable_hash, True, CPickleSerializer(), makes_blocks, NO_LIMIT_MIB)
    assert by_partition(output(0, [(1, 2)])) == {1: [(1, 2)]}
    monkeypatch.delenv("PYTHONHASHSEED")
    assert list(output(0, [])) == []
    with pytest.raises(Exception, match=r"PYTHONHASHSEED|PYTHON_HASH_SEED"):
        list(output(0, [(1, 2)]))


def test_a_partition_function_is_called_once_a_record_in_order() -> None:
    seen: list[Any] = []
    records = [(n % 7, n) for n in range(5_000)]
    found = by_partition(writer(records, 4, lambda key: seen.append(key) or key))
    assert seen == [key for key, _ in records]
    assert found == expected(records, 4, int)


def test_pieces_are_of_a_bounded_size_however_large_the_records() -> None:
    records = [(n, bytes(100_000)) for n in range(600)]
    sizes: list[int] = []

    def dumps(batch: list[Any]) -> bytes:
        data = pickle.dumps(batch)
        sizes.append(len(batch) * 100_000)
        return data

    found = by_partition(writer(iter(records), 2, dumps=dumps))
    assert {number: len(batch) for number, batch in found.items()} == {0: 300, 1: 300}
    # The first piece shows how large records are.
    assert max(sizes[2:], default=0) <= MANY_BYTES
    small: list[int] = []
    list(
        writer(
            ((n, n) for n in range(400_000)),
            2,
            dumps=lambda b: small.append(len(b)) or b"x" * 8 * len(b),
        )
    )
    assert len(small) < 40


def test_short_memory_lets_records_go_early() -> None:
    # In a process of its own: memory that another test has freed would be used first.
    run(
        """
        from ferroshuffle import _core, shuffle

        def most(limit):
            counts = []
            def dumps(batch):
                counts.append(len(batch))
                return b"x"  # so small that records would be gathered without end
            records = ((n, bytes(n % 7 + 5_000)) for n in range(70_000))
            list(_core.ShuffleWriter(records, hash, False, 1, dumps, False, limit))
            assert sum(counts) == 70_000
            return max(counts)

        assert most(1) < 10_000
        assert most(1 << 30) > 30_000
        """
    )


@pytest.mark.parametrize("short", [0, 3_000, 50_000])
def test_memory_is_looked_at_soon_where_records_do_not_fit_in_columns(short: int) -> None:
    """What follows on numbers, which say little of how much memory is going to be needed."""
    read = 0

    def records() -> Iterator[Any]:
        nonlocal read
        yield from ((n, n) for n in range(short))
        for n in range(900):
            read += 1
            yield n, f"{n:2000}"  # longer than any text in a column

    pieces = writer(records(), limit=1)
    while not read:
        next(pieces)
    assert read < 200


def test_lists_of_an_iterator_that_was_started_are_written_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a first record they are merged, and longer than what is a piece otherwise."""
    monkeypatch.setattr(shuffle, "_records_before_typed", 1)
    merger = shuffle.ExternalMerger(shuffle.Aggregator(*COLLECT), NO_LIMIT_MIB, partitions=1)
    merger.mergeValues((n % 3, n) for n in range(900_000))
    merger._spill()
    items = merger.items()
    first, _ = next(items)
    dumps = cloudpickle.dumps
    output = _core.ShuffleWriter(
        items, portable_hash, True, 2, dumps, makes_blocks, NO_LIMIT_MIB, in_pieces=True
    )
    pieces = list(itertools.islice(output, 100))
    lists = [record for piece in pieces[1::2] for record in pickle.loads(piece)]
    assert sorted(key for key, _ in lists) == sorted({0, 1, 2} - {first})
    assert sum(len(values) for _, values in lists) == 600_000


@pytest.mark.parametrize("at", [0, 1, 1_500])
def test_errors_come_out_as_they_are_and_end_it(at: int) -> None:
    class Own(Exception):
        pass

    def records() -> Iterator[Any]:
        for n in range(5_000):
            if n == at:
                raise Own
            yield n, n

    def partition(key: int) -> int:
        if key == at:
            raise Own
        return key

    def refuse(batch: Any) -> bytes:
        raise Own

    pairs = [(n, {n}) for n in range(5_000)]  # no column holds a set: it is for dumps
    for output in (
        writer(records()),
        writer(pairs, function=partition),
        writer(pairs, dumps=refuse),
    ):
        with pytest.raises(Own):
            list(output)
        assert list(output) == []


def test_stop_iteration_of_user_code_does_not_end_the_output_in_silence() -> None:
    def stop(_: Any) -> Any:
        raise StopIteration

    for output in (writer([(1, 1)], function=stop), writer([(1, {1})], dumps=stop)):
        with pytest.raises(RuntimeError, match="generator raised StopIteration"):
            list(output)


def test_a_function_that_reads_on_gets_a_clear_error() -> None:
    output: Any = None
    output = writer([(1, 1), (2, 2)], function=lambda key: next(output))
    with pytest.raises(RuntimeError, match="being read already"):
        list(output)


def test_nothing_is_read_before_it_is_asked_for_and_close_ends_it() -> None:
    read: list[int] = []
    output = writer((read.append(n) or (n, n)) for n in range(10))
    assert read == []
    next(output)
    assert len(read) == 10
    output.close()
    assert list(output) == []


def test_a_cycle_through_it_is_collected() -> None:
    class Key:
        pass

    key = Key()
    records = iter([(key, 1)] * 3_000)
    output: Any = writer(records, function=lambda _: 0, dumps=lambda _: b"x")
    key.output = output
    assert next(output) == bytes(8)
    gone = weakref.ref(key)
    del key, output, records
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("tag", [False, True, 0, 7])
@given(st.lists(st.tuples(values.keys, st.integers() | st.none() | st.text()), max_size=20))
def test_a_tag_goes_with_each_value(tag: int, records: list[Any]) -> None:
    tagged = [(key, (tag, value)) for key, value in records]
    found = by_partition(writer(iter(records), tag=tag))
    expected = by_partition(writer(iter(tagged)))
    assert exact(found) == exact(expected)


def test_a_tag_is_put_on_the_first_two_items_of_a_record() -> None:
    records = [(1, 2, 3), [4, 5], "ab", (6, "x"), (7, 8.0)]
    found = [
        record for part in by_partition(writer(records, 1, tag=True)).values() for record in part
    ]
    expected = [(1, (True, 2)), (4, (True, 5)), ("a", (True, "b")), (6, (True, "x"))]
    assert exact(found) == exact([*expected, (7, (True, 8.0))])
    for bad, error in ((5, TypeError), ((1,), IndexError)):
        with pytest.raises(error):
            list(writer([bad], tag=True))
    with pytest.raises(TypeError, match="an int or a bool"):
        writer([], tag=object())
