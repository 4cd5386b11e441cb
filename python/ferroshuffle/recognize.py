"""Tell which aggregate three functions of a user make together, without calling them.

Each function is read by `ferroshuffle.bytecode`. What is left to do is to see that a combiner which
is a tuple is made of fields that do not look at each other, and which step each field takes.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from functools import partial
from typing import Any

from ferroshuffle.aggregate import (
    COMBINER,
    VALUE,
    Aggregate,
    Choose,
    Compute,
    Fields,
    Fold,
    Keep,
    State,
    Step,
    Take,
)
from ferroshuffle.bytecode import NotRecognized, read
from ferroshuffle.expression import (
    FOLDING,
    IN_PLACE,
    PURE_METHODS,
    Argument,
    Build,
    Call,
    Conditional,
    Constant,
    Expression,
    Item,
    Method,
    Operation,
    Reading,
    all_parts,
)
from ferroshuffle.node import Node, replace
from ferroshuffle.sharing import shared

__all__ = ["NotRecognized", "recognize", "recognize_key"]

# Far more than any shape that is worth a native form. What is looked at once for each place that it
# stands in would otherwise take forever, where parts are doubled again and again.
MOST_PARTS = 2000

_INVERTED = {"is not": "is", "not in": "in"}
_MIRRORED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "==": "==", "!=": "!="}


def recognize(
    create_combiner: Callable[[Any], Any],
    merge_value: Callable[[Any, Any], Any],
    merge_combiners: Callable[[Any, Any], Any],
    is_sent: bool = False,
) -> Aggregate:
    """Return the aggregate that the functions of an `Aggregator` make together.

    Raises `NotRecognized` where there is none; it says which function is the cause, and why.
    With `is_sent`, it is that of a copy of them that is made now, to be called elsewhere.

    Examples
    --------
    >>> from operator import add
    >>> recognize(lambda value: value, add, add).combiner.merge_value
    Fold(operator='+', value=Argument(index=1), is_swapped=False, is_in_place=False)
    >>> recognize(lambda value: value, add, print)
    Traceback (most recent call last):
        ...
    ferroshuffle.bytecode.NotRecognized: `mergeCombiners` calls `print`, which is not recognised
    """
    try:
        functions = create_combiner, merge_value, merge_combiners

        def known(name: str, function: Callable[..., Any], *arguments: Argument) -> Reading:
            return _read(
                name, partial(read, function, len(arguments), functions, is_sent), arguments
            )

        create = known("createCombiner", create_combiner, VALUE)
        part = _Part(
            create,
            known("mergeValue", merge_value, COMBINER, VALUE),
            known("mergeCombiners", merge_combiners, COMBINER, VALUE),
            frozenset(_reused(create)),
        )
        combiner = _split(part)
        of_values = shared(part.create) | shared(part.merge_value)
        return Aggregate(
            combiner,
            changes_values=any(map(_changes_values, _states(combiner))),
            is_for_constant_values=VALUE in of_values,
            is_for_constant_combiners=bool(of_values - {VALUE} | shared(part.merge_combiners)),
        )
    except RecursionError:
        raise NotRecognized("the functions are nested too deep to be read") from None


def recognize_key(
    function: Callable[[Any], Any], of: Expression = VALUE, is_sent: bool = False
) -> Expression:
    """Return what a key function computes of `of`.

    Raises `NotRecognized` where that is not understood. `is_sent` as for `recognize`.

    Examples
    --------
    >>> recognize_key(lambda number: -number)
    Operation(operator='-', operands=(Argument(index=1),))
    """
    try:
        reading = _read("key", partial(read, function, 1, (), is_sent), (of,))
    except RecursionError:
        raise NotRecognized("the key function is nested too deep to be read") from None
    if reading.changes:
        raise NotRecognized("`key` changes something")
    return reading.result


def _read(name: str, read: Callable[[], Reading], arguments: Sequence[Expression]) -> Reading:
    try:
        reading = read()
    except NotRecognized as refused:
        raise NotRecognized(f"`{name}` {refused}") from None
    if sum(map(_size, reading.roots)) > MOST_PARTS:
        raise NotRecognized(f"`{name}` computes too much to be worth it")
    if any(map(_asks_which_object, all_parts(*reading.roots))):
        raise NotRecognized(f"`{name}` asks whether two objects are one, by `is`")

    def known(part: Expression) -> Expression:
        return arguments[part.index] if isinstance(part, Argument) else _without_detour(part)

    return _rewritten(reading, known)


def _asks_which_object(part: Expression) -> bool:
    """Return whether a part tells equal objects apart, which are one in a column."""
    if not isinstance(part, Operation) or part.operator not in {"is", "is not"}:
        return False
    return not any(
        isinstance(each, Constant) and any(each.value is one for one in (None, True, False))
        for each in part.operands
    )


def _size(whole: Expression) -> int:
    """Return of how many parts an expression is, if one in two places is taken for two."""
    sizes: dict[int, int] = {}

    def size(part: Expression) -> int:
        if isinstance(part, Constant):
            return 1 + constant_size(part.value)
        if id(part) not in sizes:
            sizes[id(part)] = 1 + sum(map(size, part.parts()))
        return sizes[id(part)]

    def constant_size(value: object) -> int:
        if type(value) is not tuple:
            return 1
        if id(value) not in sizes:
            sizes[id(value)] = 1 + sum(map(constant_size, value))
        return sizes[id(value)]

    return size(whole)


def _without_detour(part: Expression) -> Expression:
    """Return the item itself in place of an item of a tuple that is known."""
    if not isinstance(part, Item):
        return part
    items = _items(part.of)
    at = None if items is None else _position(part, len(items))
    # The others are left out, so it must not matter whether they are computed.
    if items is None or at is None or not all(map(_cannot_fail, items)):
        return part
    return items[at]


def _position(item: Item, size: int) -> int | None:
    """Return which item it surely is of a tuple of `size`, counted from the first."""
    at = item.index.value if isinstance(item.index, Constant) else None
    if type(at) is not int or at not in range(-size, size) or item.unpacked not in {None, size}:
        return None
    return at % size


def _items(part: Expression) -> tuple[Expression, ...] | None:
    """Return the items of a tuple that is built or constant."""
    if isinstance(part, Build) and part.kind == "tuple":
        return part.items
    if isinstance(part, Constant) and type(part.value) is tuple:
        return tuple(map(Constant, part.value))
    return None


def _cannot_fail(part: Expression) -> bool:
    if isinstance(part, Build):
        # The items of a set must have a hash, as constants do.
        is_hashable = part.kind != "set" or all(isinstance(each, Constant) for each in part.items)
        return is_hashable and all(map(_cannot_fail, part.items))
    return isinstance(part, (Argument, Constant))


def _rewritten(reading: Reading, rewrite: Callable[[Expression], Expression]) -> Reading:
    """Return a reading with each part replaced, from the leaves on; what was one part stays one."""
    done: dict[int, Expression] = {}

    def rewritten(part: Expression) -> Expression:
        if id(part) not in done:
            held = vars(part).items() if part.parts() else ()
            done[id(part)] = rewrite(replace(part, **{k: _mapped(rewritten, v) for k, v in held}))
        return done[id(part)]

    changes = tuple(
        Method(rewritten(each.of), each.name, tuple(map(rewritten, each.arguments)))
        for each in reading.changes
    )
    return Reading(changes, rewritten(reading.result))


def _mapped(function: Callable[[Expression], Expression], held: Any) -> Any:
    if isinstance(held, tuple):
        return tuple(_mapped(function, each) for each in held)
    return function(held) if isinstance(held, Expression) else held


class _Part(Node):
    """A combiner, or a field of one, as the three functions make it."""

    create: Reading
    merge_value: Reading
    merge_combiners: Reading
    #: What `create` of the whole combiner looks at more than once.
    reused: frozenset[int]
    #: Where it stands in a combiner, and in the other combiner.
    own: Expression = COMBINER
    other: Expression = VALUE

    @property
    def readings(self) -> tuple[Reading, Reading, Reading]:
        return self.create, self.merge_value, self.merge_combiners


def _split(part: _Part) -> State | Fields:
    """Return a combiner as fields, if it is a tuple of some that do not look at each other."""
    sizes = {size for each in part.readings for size in _sizes(each.result)}
    if len(sizes) != 1 or sizes == {0}:
        return _state(part)
    [size] = sizes
    plain = _with_plain_items(part, size)
    create, merge_value, merge_combiners = (_division(r.result, size) for r in plain.readings)
    fields = [
        _field(plain, at, *items)
        for at, items in enumerate(
            zip(create.fields, merge_value.fields, merge_combiners.fields, strict=True)
        )
    ]
    has_all_changes = all(
        sum(len(r.changes) for r in readings) == len(whole.changes)
        for whole, *readings in zip(plain.readings, *(f.readings for f in fields), strict=True)
    )
    is_combiner = all(each in (part.own, part.other) for each in merge_combiners.wholes)
    values = [each for each in (*create.wholes, *merge_value.wholes) if each != part.own]
    if not has_all_changes or not is_combiner or _looks_at_combiner(*values):
        return _state(part)
    if not all(map(_is_alone, fields)):
        return _state(part)
    return Fields(tuple(map(_split, fields)), tuple(values))


def _sizes(part: Expression) -> set[int]:
    """Return of how many fields the tuples are that a part builds."""
    if isinstance(part, Conditional):
        return _sizes(part.then) | _sizes(part.other)
    items = _items(part)
    return set() if items is None else {len(items)}


class _Division(Node):
    """The fields of a tuple, and what it is as a whole where it is not built of them."""

    fields: tuple[Expression, ...]
    wholes: tuple[Expression, ...] = ()


def _division(whole: Expression, size: int) -> _Division:
    items = _items(whole)
    if items is not None:
        return _Division(items)
    if isinstance(whole, Conditional):
        then, other = _division(whole.then, size), _division(whole.other, size)
        # If no field depends on the test, it must be kept nevertheless: it may fail.
        if then.fields != other.fields:
            fields = (
                one if _are_one(one, two) else Conditional(whole.test, one, two)
                for one, two in zip(then.fields, other.fields, strict=True)
            )
            return _Division(tuple(fields), (*then.wholes, *other.wholes))
    return _Division(tuple(Item(whole, Constant(at)) for at in range(size)), (whole,))


def _are_one(one: Expression, two: Expression) -> bool:
    """Return whether it does not matter which of two parts is computed."""
    # Of two new lists that are equal, one may be changed afterwards, or looked at elsewhere.
    return one is two or (one == two and not any(map(_is_new_object, all_parts(one))))


def _is_new_object(part: Expression) -> bool:
    return isinstance(part, Build) and part.kind != "tuple"


def _with_plain_items(part: _Part, size: int) -> _Part:
    """Return the same with each item of a combiner of `size` fields spelt in one way."""

    def plain_in(combiners: tuple[Expression, ...]) -> Callable[[Expression], Expression]:
        def plain(each: Expression) -> Expression:
            if isinstance(each, Item) and each.of in combiners:
                at = _position(each, size)
                if at is not None:
                    return Item(each.of, Constant(at))
            return each

        return plain

    return replace(
        part,
        merge_value=_rewritten(part.merge_value, plain_in((part.own,))),
        merge_combiners=_rewritten(part.merge_combiners, plain_in((part.own, part.other))),
    )


def _field(
    part: _Part, at: int, create: Expression, merge_value: Expression, merge_combiners: Expression
) -> _Part:
    """Return the field `at` of a combiner that is a tuple, which these make."""
    own = Item(part.own, Constant(at))

    within = list(all_parts(create))
    of_created = (each for each in part.create.changes if any(each.of is one for one in within))

    def of_own(reading: Reading) -> tuple[Method, ...]:
        return tuple(each for each in reading.changes if _is_within(each.of, own))

    return _Part(
        Reading(tuple(of_created), create),
        Reading(of_own(part.merge_value), merge_value),
        Reading(of_own(part.merge_combiners), merge_combiners),
        part.reused,
        own,
        Item(part.other, Constant(at)),
    )


def _is_within(part: Expression, own: Expression) -> bool:
    """Return whether a part is `own`, or an item of it at any depth."""
    while part != own:
        if not isinstance(part, Item):
            return False
        part = part.of
    return True


def _is_alone(part: _Part) -> bool:
    """Return whether merging looks at no other field of the combiner."""
    roots = (*part.merge_value.roots, *part.merge_combiners.roots)
    return not _looks_at_combiner(*roots, but=part.own)


def _looks_at_combiner(*roots: Expression, but: Expression | None = None) -> bool:
    """Return whether `COMBINER` is in expressions, other than in `but`."""
    return any(each == COMBINER for each in all_parts(*roots, but=but))


def _reused(create: Reading) -> Iterator[int]:
    """Yield which parts are looked at more than once."""
    looks = (part for holder in all_parts(*create.outcomes) for part in holder.parts())
    seen: set[int] = set()
    for each in (*create.outcomes, *looks):
        if id(each) in seen:
            yield id(each)
        seen.add(id(each))


def _state(part: _Part) -> State:
    """Return a combiner, or a field of one, that is merged as a whole."""
    # Not at once to COMBINER: an item of it might then look like the field itself.
    field = Argument(-1)

    def alone(reading: Reading) -> Reading:
        apart = _rewritten(reading, lambda each: field if each == part.own else each)
        return _rewritten(apart, lambda each: COMBINER if each == field else each)

    create, first = _start(part.create, part.reused)
    return State(
        create,
        first,
        _step("mergeValue", alone(part.merge_value)),
        _step("mergeCombiners", alone(part.merge_combiners)),
    )


def _start(reading: Reading, reused: Container[int]) -> tuple[Expression, Step]:
    """Return what a combiner is at first, and what is done to it then."""
    created = reading.result
    if isinstance(created, Operation) and created.operator in IN_PLACE:
        left, right = created.operands
        if isinstance(left, Build) and id(left) not in reused and not reading.changes:
            return left, Fold(created.operator[0], right, is_in_place=True)
    if not reading.changes:
        return created, Keep()
    if len(reading.changes) == 1 and isinstance(created, Build) and id(created) not in reused:
        [change] = reading.changes
        if change.of is created:
            return created, _change(change)
    raise NotRecognized("`createCombiner` changes something in a way that is not recognised")


def _change(change: Method) -> Fold:
    if len(change.arguments) != 1:
        raise NotRecognized(
            f"`{change.name}` is called with {len(change.arguments)} arguments, "
            "which is not recognised"
        )
    return Fold(change.name, change.arguments[0], is_in_place=True)


def _step(name: str, reading: Reading) -> Step:
    """Return what a reading makes of `COMBINER`."""
    if not reading.changes:
        return _pure_step(reading.result)
    if len(reading.changes) == 1 and reading.result == COMBINER:
        [change] = reading.changes
        if change.of == COMBINER and not _looks_at_combiner(*change.arguments):
            return _change(change)
    raise NotRecognized(f"`{name}` changes something in a way that is not recognised")


def _pure_step(result: Expression) -> Step:
    if result == COMBINER:
        return Keep()
    if not _looks_at_combiner(result):
        return Take(result)
    if isinstance(result, Operation) and result.operator in FOLDING | IN_PLACE:
        in_place = result.operator in IN_PLACE
        return _fold(result.operator[0], result.operands, in_place) or Compute(result)
    if isinstance(result, Method) and result.name in PURE_METHODS:
        return _fold(result.name, (result.of, *result.arguments), False) or Compute(result)
    if isinstance(result, Call) and result.name in {"max", "min"} and len(result.arguments) == 2:
        # Of two that are equal, the first.
        first, second = result.arguments
        spelt = ">" if result.name == "max" else "<"
        return _choice(Conditional(Operation(spelt, (second, first)), second, first), result)
    if isinstance(result, Conditional):
        return _choice(result, result)
    return Compute(result)


def _fold(operator: str, operands: tuple[Expression, ...], is_in_place: bool) -> Step | None:
    if len(operands) != 2:
        return None
    left, right = operands
    if left == COMBINER and not _looks_at_combiner(right):
        return Fold(operator, right, False, is_in_place)
    # In place it would change the value.
    if right == COMBINER and not _looks_at_combiner(left) and not is_in_place:
        return Fold(operator, left, True)
    return None


def _choice(choice: Conditional, result: Expression) -> Step:
    for kept, taken, keeps in (
        (choice.then, choice.other, True),
        (choice.other, choice.then, False),
    ):
        if kept == COMBINER and not _looks_at_combiner(taken):
            return _plain_choice(choice.test, keeps, taken)
    return Compute(result)


def _plain_choice(test: Expression, keeps: bool, value: Expression) -> Choose:
    """Return a choice with its test spelt in one way."""
    if isinstance(test, Operation) and test.operator in _INVERTED:
        inverted = Operation(_INVERTED[test.operator], test.operands)
        return Choose(inverted, not keeps, value)
    if isinstance(test, Operation) and test.operator in _MIRRORED:
        left, right = test.operands
        if _looks_at_combiner(right) and not _looks_at_combiner(left):
            return Choose(Operation(_MIRRORED[test.operator], (right, left)), keeps, value)
    return Choose(test, keeps, value)


def _states(combiner: State | Fields) -> Iterator[State]:
    if isinstance(combiner, State):
        yield combiner
    else:
        for each in combiner.fields:
            yield from _states(each)


def _changes_values(state: State) -> bool:
    """Return whether a combiner that is changed may be an object that came with a value."""
    steps = (state.merge_value, state.merge_combiners)
    if not any(isinstance(each, Fold) and each.is_in_place for each in steps):
        return False
    return any(map(_may_be_of_value, (state.create, *_results(state.merge_value))))


def _results(step: Step) -> Iterator[Expression]:
    """Yield what a combiner may become that is neither new nor what it was."""
    if isinstance(step, (Take, Choose)):
        yield step.value
    elif isinstance(step, Compute):
        yield step.result


def _may_be_of_value(part: Expression) -> bool:
    """Return whether a part may be an object that came with a value, and not a new one."""
    if isinstance(part, Item):
        return True  # of a combiner, too: there are values in it
    if isinstance(part, Conditional):
        return _may_be_of_value(part.then) or _may_be_of_value(part.other)
    if isinstance(part, Call):
        return any(map(_may_be_of_value, part.arguments))
    if isinstance(part, Operation) and part.operator in IN_PLACE:
        return _may_be_of_value(part.operands[0])
    return part == VALUE
