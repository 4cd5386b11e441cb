"""AutoSerializer: marshal where it is exact, pickle for the rest, and no type is ever changed."""

from __future__ import annotations

import array
import collections
import datetime
import decimal
import io
import marshal
import pickle
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark import cloudpickle

from ferroshuffle import shuffle
from ferroshuffle.serializers import AutoSerializer
from tests.compat import values
from tests.compat.exact import exact
from tests.faults.children import run


def round_trip(thing: Any) -> Any:
    serializer = AutoSerializer()
    return serializer.loads(serializer.dumps(thing))


PLAIN = [
    None,
    True,
    1,
    2**100,
    1.5,
    -0.0,
    1j,
    "text",
    "\udc80 surrogate",
    b"bytes",
    (1, "a"),
    [1, [2]],
    {"a": {1: 2}},
    {1, 2},
    frozenset({1}),
    {(1, "a")},
]


@pytest.mark.parametrize("thing", PLAIN, ids=repr)
def test_plain_builtins_are_marshalled(thing: Any) -> None:
    data = AutoSerializer().dumps(thing)
    assert data[:1] == b"M"
    assert exact(marshal.loads(data[1:])) == exact(thing)
    assert exact(round_trip(thing)) == exact(thing)


MARSHAL_WOULD_CHANGE = [
    bytearray(b"abc"),
    array.array("i", [1, 2]),
    np.arange(3),
    np.arange(3.0).reshape(3, 1),
    np.float64(1.5),
    np.int64(1),
    np.bool_(True),
    np.str_("a"),
    np.bytes_(b"a"),
    values.Digest(b"subclass of bytes"),
    values.Stack([1]),
    values.Registry(a=1),
]
MARSHAL_REFUSES = [
    values.Metres(1),
    values.Degrees(1.5),
    values.Name("a"),
    values.Level.LOW,
    values.Colour.RED,
    values.Pair(1, 2),
    values.Point(1, 2),
    collections.OrderedDict(a=1),
    collections.Counter("aab"),
    collections.deque([1]),
    decimal.Decimal("1.50"),
    datetime.date(2020, 1, 1),
    range(3),
    int,
    len,
    ...,
]


@pytest.mark.parametrize("thing", MARSHAL_WOULD_CHANGE + MARSHAL_REFUSES, ids=repr)
@pytest.mark.parametrize("nest", [lambda x: x, lambda x: [x, 1], lambda x: {"k": (x,)}])
def test_everything_else_is_pickled_and_keeps_its_type(thing: Any, nest: Any) -> None:
    data = AutoSerializer().dumps(nest(thing))
    assert data[:1] == b"P"
    assert exact(pickle.loads(data[1:])) == exact(nest(thing))
    assert exact(round_trip(nest(thing))) == exact(nest(thing))


def test_what_pickle_refuses_becomes_what_stock_makes_of_it() -> None:
    view = memoryview(b"abc")
    assert exact(round_trip([view])) == exact(cloudpickle.loads(cloudpickle.dumps([view])))
    assert exact(round_trip([view])) == exact([b"abc"])
    assert round_trip([lambda: view])[0]() == view
    with pytest.raises(TypeError, match="cannot pickle"):
        AutoSerializer().dumps([view, (n for n in ())])


@given(values.values)
def test_anything_comes_back_exactly(thing: Any) -> None:
    assert exact(round_trip(thing)) == exact(thing)


@given(st.lists(values.values, max_size=8))
def test_one_serializer_for_many_things(things: list[Any]) -> None:
    serializer = AutoSerializer()
    back = [serializer.loads(data) for data in [serializer.dumps(thing) for thing in things]]
    assert exact(back) == exact(things)


def test_after_the_first_refusal_it_stays_with_pickle() -> None:
    serializer = AutoSerializer()
    letters = [serializer.dumps(thing)[:1] for thing in (1, [2], values.Pair(1, 2), 1, "a")]
    assert letters == [b"M", b"M", b"P", b"P", b"P"]
    assert AutoSerializer().dumps(1)[:1] == b"M"


def test_it_reads_both_whatever_it_writes() -> None:
    serializer = AutoSerializer()
    assert serializer.loads(b"M" + marshal.dumps([1])) == [1]
    assert serializer.loads(b"P" + pickle.dumps([1])) == [1]
    serializer.dumps(values.Pair(1, 2))
    assert serializer.loads(b"M" + marshal.dumps([1])) == [1]


@pytest.mark.parametrize("data", [b"", b"X123", b"\x00", b"m" + marshal.dumps(1)])
def test_bytes_of_nobody_are_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        AutoSerializer().loads(data)


def test_what_pickle_does_not_find_by_name_goes_by_value() -> None:
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(lambda: 7)
    assert round_trip(lambda: 7)() == 7


def test_what_none_can_write_raises_pickle_s_error() -> None:
    with pytest.raises(TypeError) as expected:
        pickle.dumps(threading.Lock())
    with pytest.raises(TypeError, match=str(expected.value)):
        AutoSerializer().dumps(threading.Lock())


def test_an_error_of_an_object_s_own_is_raised_and_it_is_not_asked_again() -> None:
    calls = []

    class Refuses:
        def __reduce__(self) -> Any:
            calls.append(self)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        AutoSerializer().dumps(Refuses())
    assert len(calls) == 1


def test_an_object_may_use_the_serializer_that_serializes_it() -> None:
    serializer = AutoSerializer()

    class Nested:
        def __reduce__(self) -> Any:
            return bytes, (serializer.dumps([1, "a"]),)

    assert serializer.loads(serializer.loads(serializer.dumps(Nested()))) == [1, "a"]


def test_a_tuple_within_itself_many_times_takes_no_longer_for_it() -> None:
    # In a process of its own, which can be ended while it does not look for signals.
    run(
        """
        from ferroshuffle.serializers import AutoSerializer

        thing = ()
        for _ in range(45):
            thing = (thing, thing)
        serializer = AutoSerializer()
        back = serializer.loads(serializer.dumps(thing))
        for _ in range(45):
            left, right = back
            assert left is right
            back = left
        assert back == ()
        """
    )


def test_sets_within_sets_take_no_longer_at_every_depth() -> None:
    run(
        """
        from ferroshuffle.serializers import AutoSerializer

        thing = frozenset([1])
        for _ in range(40):
            thing = frozenset([thing])
        serializer = AutoSerializer()
        assert serializer.loads(serializer.dumps(thing)) == thing
        """
    )


def test_cycles_and_deep_nesting_survive() -> None:
    cycle: list[Any] = [1]
    cycle.append(cycle)
    back = round_trip(cycle)
    assert back[0] == 1
    assert back[1] is back


def test_shared_parts_stay_shared() -> None:
    part = [1]
    left, right = round_trip([part, part])
    assert left is right


def test_a_stream_is_read_back_item_by_item() -> None:
    items = [1, "a", [None], values.Pair(1, 2), b"x" * 70_000, np.arange(4)]
    stream = io.BytesIO()
    AutoSerializer().dump_stream(iter(items), stream)
    stream.seek(0)
    back = list(AutoSerializer().load_stream(stream))
    assert exact(back) == exact(items)


def test_the_shuffle_module_has_it_too() -> None:
    assert shuffle.AutoSerializer is AutoSerializer
