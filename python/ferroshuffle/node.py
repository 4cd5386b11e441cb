"""`Node`: a value of named fields that does not change, as a frozen dataclass is.

Most processes read a few functions, once. Of the time until records went over columns, reading took
a tenth, and nine were for `dataclasses` to be imported and to compile six methods for each class.
Here all classes share one method each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:

    def dataclass_transform(**_told):
        """Tell a type checker what the keywords of a class's fields are, and nothing else."""
        return lambda decorated: decorated


_N = TypeVar("_N", bound="Node")


@dataclass_transform(frozen_default=True)
class Node:
    """Its fields are what is annotated in the class; they may be given by place or by name.

    Equal to a node of the same class whose fields are equal.
    """

    _names: ClassVar[tuple[str, ...]] = ()
    _defaults: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls) -> None:
        cls._names = (*cls._names, *cls.__annotations__)
        cls._defaults = {name: getattr(cls, name) for name in cls._names if hasattr(cls, name)}

    def __init__(self, *values: Any, **named: Any) -> None:
        by_place = dict(zip(self._names, values, strict=False))
        fields = {**self._defaults, **by_place, **named}
        is_given_twice = len(values) > len(by_place) or not by_place.keys().isdisjoint(named)
        if is_given_twice or fields.keys() != set(self._names):
            raise TypeError(
                f"{type(self).__name__} has the fields {', '.join(self._names) or 'none'}; it was "
                f"given {len(values)} by place and {', '.join(named) or 'none'} by name"
            )
        vars(self).update(fields)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"{name} of a {type(self).__name__} cannot be set: it does not change")

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), *(getattr(self, name) for name in self._names)))

    def __repr__(self) -> str:
        fields = (f"{name}={getattr(self, name)!r}" for name in self._names)
        return f"{type(self).__name__}({', '.join(fields)})"


def replace(node: _N, **fields: Any) -> _N:
    """Return a node as `node`, with other values in those fields."""
    return type(node)(**{**vars(node), **fields})
