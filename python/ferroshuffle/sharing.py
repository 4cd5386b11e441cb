"""Tell what a user's function may put into two places, as is seen once one of them is changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ferroshuffle.expression import (
    FOLDING,
    IN_PLACE,
    Argument,
    Conditional,
    Constant,
    Expression,
    Item,
    Operation,
    Reading,
)

#: An argument, or an item at any depth of it: the argument, and the indices on the way.
_Place = tuple[Argument, tuple[Any, ...]]


def shared(reading: Reading) -> set[Expression]:
    """Return what may be in two places of what a function makes: arguments, and what is new."""
    found: set[Expression] = set()
    places: list[_Place] = []
    seen: set[int] = set()
    todo = list(reading.outcomes)
    while todo:
        each = todo.pop()
        place = _place(each)
        if place is not None:
            found.update(place[0] for other in places if _overlap(place, other))
            places.append(place)
        elif isinstance(each, Operation) and each.operator not in FOLDING | IN_PLACE:
            continue  # True or False
        elif id(each) in seen:
            found.add(each)
        elif not isinstance(each, Constant):
            seen.add(id(each))
            todo.extend(_held(each))
    return found


def _held(part: Expression) -> Sequence[Expression]:
    """Return what an object may hold that a part makes, as often as it may."""
    if isinstance(part, Conditional):
        return part.then, part.other
    if isinstance(part, Operation) and part.operator[0] == "*":
        return part.operands * 2
    return part.parts()


def _place(part: Expression) -> _Place | None:
    """Return which argument a part is in, and at which indices, as far as they are told apart."""
    if isinstance(part, Argument):
        return part, ()
    if not isinstance(part, Item) or not isinstance(part.index, Constant):
        return None
    place = _place(part.of)
    return place and (place[0], (*place[1], part.index.value))


def _overlap(one: _Place, other: _Place) -> bool:
    """Return whether one place may be the other, or within it."""
    if one[0] != other[0]:
        return False
    # Only counted from the same end are two indices surely of two items.
    apart = (
        type(first) is type(second) is int and first != second and (first < 0) == (second < 0)
        for first, second in zip(one[1], other[1], strict=False)
    )
    return not any(apart)
