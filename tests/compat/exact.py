"""Compare results exactly: same values, same types all the way down, `-0.0` apart from `0.0`."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime
import decimal
import enum
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np


def exact(thing: Any) -> Any:
    """Return a hashable form of `thing`, equal for two things only if they are the same exactly."""
    kind = type(thing)
    if isinstance(thing, type):
        return kind, thing
    if isinstance(thing, enum.Enum):
        return kind, thing.name, repr(thing.value)
    if isinstance(thing, np.ndarray):
        body = thing.tolist() if thing.dtype.hasobject else thing.tobytes()
        return kind, thing.dtype.str, thing.shape, exact(body)
    if isinstance(thing, np.generic):
        return kind, thing.dtype.str, thing.tobytes()
    if isinstance(thing, float):
        return kind, thing.hex(), *_attributes(thing)
    if isinstance(thing, complex):
        return kind, thing.real.hex(), thing.imag.hex()
    if isinstance(thing, (bool, int, str, bytes, bytearray)):
        return kind, bytes(thing) if isinstance(thing, bytearray) else _plain(thing)
    if isinstance(thing, array.array):
        return kind, thing.typecode, thing.tobytes()
    if isinstance(thing, (tuple, list, collections.deque)):
        return kind, tuple(exact(item) for item in thing)
    if isinstance(thing, (set, frozenset)):
        return kind, frozenset(Counter(exact(item) for item in thing).items())
    if isinstance(thing, dict):
        return kind, tuple((exact(key), exact(value)) for key, value in thing.items())
    if isinstance(thing, decimal.Decimal):
        return kind, thing.as_tuple()
    if isinstance(thing, (datetime.date, datetime.time, datetime.timedelta)):
        return kind, repr(thing)
    if dataclasses.is_dataclass(thing):
        fields = dataclasses.fields(thing)
        return kind, tuple(exact(getattr(thing, field.name)) for field in fields)
    return kind, _attributes(thing) or repr(thing)


def _plain(thing: Any) -> Any:
    for base in (bool, int, str, bytes):
        if isinstance(thing, base):
            return (base.__repr__(thing), *_attributes(thing))
    raise AssertionError(f"not a plain value: {type(thing)}")


def _attributes(thing: Any) -> tuple[Any, ...]:
    attributes = getattr(thing, "__dict__", {})
    return tuple((name, exact(value)) for name, value in sorted(attributes.items()))


def assert_same_items(ours: Iterable[Any], stock: Iterable[Any], *, ordered: bool) -> None:
    """Assert that two results have the same items, in the same order if `ordered`."""
    left, right = [exact(item) for item in ours], [exact(item) for item in stock]
    if ordered:
        assert left == right
    else:
        assert Counter(left) == Counter(right)


def outcome(action: Callable[[], Any]) -> tuple[Any, ...]:
    """Run `action` and say how it ended: with what it returned, or with which error."""
    try:
        return "returned", exact(action())
    except Exception as error:
        return "raised", type(error), str(error)
