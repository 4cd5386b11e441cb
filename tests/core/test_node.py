"""Nodes are what frozen dataclasses are: equal by class and fields, and unchanging."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from ferroshuffle.node import Node, replace


class Shape(Node):
    pass


class Point(Shape):
    x: int
    y: int = 0


class Place(Shape):
    x: int
    y: int = 0


class Named(Point):
    name: str = "here"


def test_fields_are_given_by_place_or_by_name() -> None:
    assert vars(Point(1, 2)) == vars(Point(y=2, x=1)) == vars(Point(1, y=2)) == {"x": 1, "y": 2}
    assert Point(5).y == 0
    # The fields of a base class come first.
    assert vars(Named(1, 2, "there")) == {"x": 1, "y": 2, "name": "there"}
    assert Named(1).name == "here"
    assert vars(Shape()) == {}


@pytest.mark.parametrize(
    ("places", "names"),
    [((), {}), ((1, 2, 3), {}), ((1,), {"x": 1}), ((1,), {"z": 1}), ((), {"y": 1})],
)
def test_other_fields_are_refused(places: tuple[int, ...], names: dict[str, int]) -> None:
    with pytest.raises(TypeError, match="Point has the fields x, y"):
        Point(*places, **names)


def test_a_node_is_equal_to_one_of_its_class_with_equal_fields() -> None:
    assert Point(1, 2) == Point(1, 2)
    assert hash(Point(1, 2)) == hash(Point(1, 2))
    others: list[Any] = [Point(1, 3), Place(1, 2), Named(1, 2), (1, 2), None]
    assert all(Point(1, 2) != other for other in others)
    assert len({Point(1), Place(1), Point(1), Shape(), Shape()}) == 3


def test_a_node_does_not_change() -> None:
    point = Point(1, 2)
    with pytest.raises(AttributeError, match="x of a Point cannot be set"):
        point.x = 3  # type: ignore[misc]
    assert replace(point, y=5) == Point(1, 5)
    assert point == Point(1, 2)
    with pytest.raises(TypeError, match=r"z.* by name"):
        replace(point, z=1)


def test_a_node_tells_its_fields_and_can_be_copied() -> None:
    named = Named(1, 2, "there")
    assert repr(named) == "Named(x=1, y=2, name='there')"
    assert repr(Shape()) == "Shape()"
    assert copy.deepcopy(named) == named
    assert pickle.loads(pickle.dumps(named)) == named
