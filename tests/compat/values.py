"""Keys and values of every kind, as types that pickle can find and as hypothesis strategies."""

from __future__ import annotations

import array
import collections
import dataclasses
import enum
from collections.abc import Iterable
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st


class Agreeable:
    """Equal to everything, yet hashed by number: a dict compares hashes first."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return True


class Colour(enum.Enum):
    RED = 1
    GREEN = "green"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Flags(enum.Flag):
    A = 1
    B = 2


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclasses.dataclass(frozen=True)
class Point:
    x: Any
    y: Any


@dataclasses.dataclass
class Basket:
    fruit: list[Any]


class Metres(int):
    """An int with a type of its own, and room for attributes."""


class Degrees(float):
    pass


class Name(str):
    pass


class Digest(bytes):
    pass


class Stack(list):
    pass


class Registry(dict):
    pass


class Colliding:
    """All of them hash alike; equality is by `tag`."""

    def __init__(self, tag: Any) -> None:
        self.tag = tag

    def __hash__(self) -> int:
        return 7

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Colliding) and self.tag == other.tag

    def __repr__(self) -> str:
        return f"Colliding({self.tag!r})"


class Truthy(Colliding):
    """`==` gives a list, full or empty, where a bool is usual."""

    __hash__ = Colliding.__hash__

    def __eq__(self, other: object) -> Any:
        return ["same"] if isinstance(other, Truthy) and self.tag == other.tag else []


class Shy(Colliding):
    """`==` gives NotImplemented for everything but its own kind."""

    __hash__ = Colliding.__hash__

    def __eq__(self, other: object) -> Any:
        return self.tag == other.tag if isinstance(other, Shy) else NotImplemented


class MinusOne:
    """A hash of -1, which Python turns into -2, and one as wide as a hash can be."""

    def __init__(self, wide: bool) -> None:
        self.wide = wide

    def __hash__(self) -> int:
        return (1 << 61) - 2 if self.wide else -1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MinusOne) and self.wide == other.wide


any_text = st.text(st.characters(exclude_categories=()), max_size=8)  # lone surrogates included
small_ints = st.integers(-3, 3)
huge_ints = st.integers() | st.sampled_from(
    [2**31, 2**62, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64, 2**61 - 1, 2**200, -(2**200)]
)
real_floats = st.floats(allow_nan=False) | st.sampled_from([0.0, -0.0, 1.0, float("inf"), 5e-324])

numpy_scalars = st.sampled_from(
    [
        np.int8(1),
        np.int64(1),
        np.uint64(2**64 - 1),
        np.float32(0.5),
        np.float64(-0.0),
        np.float64(1.0),
        np.bool_(True),
        np.str_("a"),
        np.bytes_(b"a"),
        np.complex128(1j),
        np.datetime64("2020-01-01"),
    ]
)

atoms = st.one_of(
    st.none(),
    st.booleans(),
    small_ints,
    huge_ints,
    real_floats,
    st.complex_numbers(allow_nan=False),
    any_text,
    st.binary(max_size=8),
    st.decimals(allow_nan=False, places=2) | st.builds(Fraction, small_ints, st.just(2)),
    st.dates() | st.datetimes() | st.timedeltas() | st.times(),
    st.sampled_from([Colour.RED, Colour.GREEN, Level.LOW, Level.HIGH, Flags.A | Flags.B]),
    st.uuids(),
    st.builds(Metres, small_ints) | st.builds(Name, any_text) | st.builds(Degrees, real_floats),
    st.builds(Digest, st.binary(max_size=3)),
    st.just(...) | st.just(NotImplemented) | st.sampled_from([int, len, Point]),
    st.builds(range, small_ints),
    numpy_scalars,
)

hostile = (
    st.builds(Colliding, small_ints)
    | st.builds(Truthy, small_ints)
    | st.builds(Shy, small_ints)
    | st.builds(MinusOne, st.booleans())
)

keys = st.recursive(
    atoms | hostile,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple),
        # Unordered and repr-based hashing of hostile members says nothing about a shuffle.
        st.frozensets(small_ints | any_text, max_size=3),
        st.builds(Pair, inner, inner),
        st.builds(Point, inner, inner),
    ),
    max_leaves=4,
)

# One key in Python's eyes, many types.
alike_keys = st.sampled_from(
    [0, 0.0, -0.0, False, 1, 1.0, True, 1 + 0j, Level.LOW, Metres(1), np.int64(1), np.float64(0.0)]
    + [(1, 0), (True, False), (1.0, -0.0), "a", Name("a"), np.str_("a"), b"a", Digest(b"a")]
    + [Fraction(1), Pair(1, 0), 2**61 - 1, (2**61 - 1, -(2**61))]
)

values = st.recursive(
    atoms | st.floats(),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.lists(inner, max_size=3).map(Stack),
        st.lists(inner, max_size=3).map(collections.deque),
        st.dictionaries(any_text, inner, max_size=3),
        st.dictionaries(any_text, inner, max_size=3).map(Registry),
        st.dictionaries(any_text, inner, max_size=3).map(collections.OrderedDict),
        st.sets(small_ints | any_text, max_size=3),
        st.binary(max_size=8).map(bytearray),
        st.lists(small_ints, max_size=3).map(lambda items: array.array("h", items)),
        st.lists(real_floats, max_size=3).map(np.array),
        st.lists(small_ints, max_size=3).map(lambda items: np.array(items, dtype=object)),
        st.builds(Pair, inner, inner),
        st.builds(Point, inner, inner),
        st.builds(Basket, st.lists(inner, max_size=2)),
    ),
    max_leaves=6,
)


@st.composite
def records(
    draw: st.DrawFn,
    key: st.SearchStrategy[Any] = keys,
    value: st.SearchStrategy[Any] = values,
    max_size: int = 24,
) -> list[tuple[Any, Any]]:
    """Draw records over a few keys, so that most keys come more than once."""
    pool = draw(st.lists(key, min_size=1, max_size=6))
    return draw(st.lists(st.tuples(st.sampled_from(pool), value), max_size=max_size))


def chunks_of(items: list[Any], cuts: Iterable[int]) -> list[list[Any]]:
    """Cut `items` at the given places, which may repeat, to get parts that may be empty."""
    places = [0, *sorted(cut % (len(items) + 1) for cut in cuts), len(items)]
    return [items[start:stop] for start, stop in zip(places, places[1:], strict=False)]
