"""Keys whose hash or equality is strange, slow to tell apart, or raises."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.compat import values
from tests.compat.aggregators import COLLECT, ours, stock
from tests.compat.exact import assert_same_items


class RaisesOnEqual:
    def __init__(self, tag: Any) -> None:
        self.tag = tag

    def __hash__(self) -> int:
        return 11

    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError("no comparing")


class RaisesOnTruth:
    def __init__(self, tag: Any) -> None:
        self.tag = tag

    def __hash__(self) -> int:
        return 13

    def __eq__(self, other: object) -> Any:
        return self

    def __bool__(self) -> bool:
        raise OverflowError("no truth")


class RaisesOnHash:
    def __hash__(self) -> int:
        raise LookupError("no hash")


class NoInt:
    def __hash__(self) -> Any:
        return "seven"


def both(items: list[Any]) -> tuple[Any, Any]:
    left, right = ours(COLLECT), stock(COLLECT)
    left.mergeValues(items)
    right.mergeValues(items)
    return left, right


@given(values.records(key=values.hostile | values.small_ints | st.tuples(values.hostile)))
def test_colliding_keys_equal_stock(items: list[Any]) -> None:
    left, right = both(items)
    assert_same_items(left.items(), right.items(), ordered=True)


def test_a_thousand_keys_with_one_hash() -> None:
    left, right = both([(values.Colliding(n % 1_000), n) for n in range(1_500)])
    assert_same_items(left.items(), right.items(), ordered=True)


def test_keys_that_differ_in_hash_are_never_compared() -> None:
    # Every low-bit and high-bit pattern, so that no part of a hash stands in for the whole.
    numbers = [n << shift for shift in (0, 7, 25, 50) for n in range(1, 60)]
    left, right = both([(values.Agreeable(n), n) for n in numbers + numbers[:50]])
    assert len(list(left.items())) == len(set(numbers))
    assert_same_items(left.items(), right.items(), ordered=True)


def test_a_shared_hash_is_equal_if_equality_says_so() -> None:
    left, right = both(
        [(values.Agreeable(3), 1), (values.Agreeable(3), 2), (values.Colliding(1), 3)]
    )
    assert_same_items(left.items(), right.items(), ordered=True)


@pytest.mark.parametrize(
    ("key", "error"),
    [
        (RaisesOnEqual, ZeroDivisionError),
        (RaisesOnTruth, OverflowError),
        (lambda _: RaisesOnHash(), LookupError),
        (lambda _: NoInt(), TypeError),
    ],
)
@pytest.mark.parametrize("method", ["mergeValues", "mergeCombiners"])
def test_an_error_of_the_key_is_passed_on_and_loses_nothing(
    key: Any, error: type[Exception], method: str
) -> None:
    items = [("a", [1]), (key(1), [2]), ("b", [3]), (key(2), [4]), ("c", [5])]
    left, right = ours(COLLECT), stock(COLLECT)
    messages = []
    for merger in (left, right):
        with pytest.raises(error) as caught:
            getattr(merger, method)(items)
        messages.append(str(caught.value))
        merger.mergeValues([("d", 6)])
    assert messages[0] == messages[1]
    assert_same_items(left.items(), right.items(), ordered=True)


def test_one_object_is_one_key_though_its_equality_raises() -> None:
    key = RaisesOnEqual(1)
    left, right = both([(key, 1), (key, 2)])
    assert [value for _, value in left.items()] == [[1, 2]]
    assert_same_items(left.items(), right.items(), ordered=True)


def test_equality_is_asked_of_the_key_already_there() -> None:
    asked: list[tuple[str, str]] = []

    class Asked:
        def __init__(self, name: str) -> None:
            self.name = name

        def __hash__(self) -> int:
            return 5

        def __eq__(self, other: Any) -> bool:
            asked.append((self.name, other.name))
            return True

    orders = []
    for merger in (ours(COLLECT), stock(COLLECT)):
        asked.clear()
        merger.mergeValues([(Asked("first"), 1), (Asked("second"), 2)])
        orders.append(set(asked))
        assert len(list(merger.items())) == 1
    assert orders[0] == orders[1]


def test_negative_hashes_and_the_hash_minus_one() -> None:
    keys = [-1, -2, 2**61 - 2, -(2**61), values.MinusOne(True), values.MinusOne(False), -1.0]
    left, right = both([(key, n) for n, key in enumerate(keys * 3)])
    assert_same_items(left.items(), right.items(), ordered=True)
