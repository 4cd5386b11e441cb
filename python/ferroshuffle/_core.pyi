"""The engine in Rust. Private: `ferroshuffle.shuffle` and `ferroshuffle.serializers` use it."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn, final

__all__ = [
    "AutoSerializer",
    "BlockReader",
    "CorruptBlockError",
    "Counters",
    "JoinedRecords",
    "MappedValues",
    "Merger",
    "RangePartitioner",
    "RecordsIterator",
    "ShuffleWriter",
    "SortedIterator",
    "StopIterationGuard",
    "ValueStore",
    "ValuesIterator",
    "__version__",
    "records_of",
    "resident_bytes",
    "sample_keys",
    "sort_external",
    "takes_plan",
]

__version__: str

class CorruptBlockError(OSError): ...

@final
class Counters:
    def __new__(cls) -> Counters: ...
    def to_dict(self, /) -> dict[str, Any]: ...
    def __reduce__(self) -> tuple[Any, ...]: ...

@final
class StopIterationGuard:
    @property
    def __wrapped__(self) -> Callable[..., Any]: ...
    def __new__(cls, function: Callable[..., Any]) -> StopIterationGuard: ...
    def __call__(self, /, *args: Any, **kwargs: Any) -> Any: ...
    def __reduce__(self) -> tuple[Any, ...]: ...

@final
class Merger:
    def __new__(
        cls,
        localdirs: list[str],
        partitions: int,
        is_grouping: bool,
        counters: Counters | None = None,
    ) -> Merger: ...
    def merge_values(
        self,
        /,
        owner: object,
        agg: object,
        iterator: Iterable[Any],
        limit_mib: float | None,
        batch: int,
    ) -> None: ...
    def merge_combiners(
        self,
        /,
        owner: object,
        agg: object,
        iterator: Iterable[Any],
        limit_mib: float | None,
        batch: int,
    ) -> None: ...
    def spill(self, /) -> tuple[int, int]: ...
    def items(self, /) -> RecordsIterator: ...
    def external_items(
        self,
        /,
        agg: object,
        limits: tuple[float, int, int, int],
        count_spilled: Callable[[int, int], None],
    ) -> RecordsIterator: ...
    def partition_items(
        self,
        /,
        index: int,
        agg: object,
        limits: tuple[float, int, int, int],
        count_spilled: Callable[[int, int], None],
    ) -> RecordsIterator: ...
    def clear(self, /) -> None: ...
    def __len__(self, /) -> int: ...

@final
class RecordsIterator:
    def __iter__(self) -> Iterator[tuple[Any, Any]]: ...
    def __next__(self, /) -> tuple[Any, Any]: ...
    def close(self, /) -> None: ...

@final
class RangePartitioner:
    def __new__(
        cls,
        bounds: list[Any],
        partitions: int,
        reverse: bool,
        key: Callable[[Any], Any],
        plan: tuple[Any, ...] | None = None,
    ) -> RangePartitioner: ...
    def __call__(self, key: Any, /) -> int: ...
    def __reduce__(self) -> tuple[Any, ...]: ...

@final
class ShuffleWriter:
    def __new__(
        cls,
        records: Iterable[Any],
        partition_function: Callable[[Any], Any],
        is_portable_hash: bool,
        partitions: int,
        dumps: Callable[[list[Any]], bytes],
        makes_blocks: bool,
        limit_mib: float,
        counters: Counters | None = None,
        tag: int | None = None,
        in_pieces: bool = False,
    ) -> ShuffleWriter: ...
    def __iter__(self) -> Iterator[bytes]: ...
    def __next__(self, /) -> bytes: ...
    def close(self, /) -> None: ...

@final
class JoinedRecords:
    @staticmethod
    def pairs(groups: Iterable[Any], keeps: tuple[bool, bool]) -> JoinedRecords: ...
    @staticmethod
    def cogroups(
        groups: Iterable[Any],
        sides: int,
        wrap: Callable[[Any], Any],
        external: Callable[[list[list[Any]]], Any],
    ) -> JoinedRecords: ...
    def __iter__(self) -> Iterator[tuple[Any, Any]]: ...
    def __next__(self, /) -> tuple[Any, Any]: ...
    def close(self, /) -> None: ...

@final
class MappedValues:
    def __new__(
        cls,
        records: Iterable[Any],
        function: Callable[[Any], Any],
        wrap: Callable[[Any], Any] | None = None,
    ) -> MappedValues: ...
    @property
    def records(self) -> Iterator[Any]: ...
    @property
    def function(self) -> Callable[[Any], Any]: ...
    def __iter__(self) -> Iterator[tuple[Any, Any]]: ...
    def __next__(self, /) -> tuple[Any, Any]: ...

@final
class BlockReader:
    def __new__(
        cls,
        stream: object,
        loads: Callable[[bytes], Iterable[Any]],
        counters: Counters | None = None,
    ) -> BlockReader: ...
    def __iter__(self) -> Iterator[Any]: ...
    def __next__(self, /) -> Any: ...
    def close(self, /) -> None: ...

@final
class SortedIterator:
    def __iter__(self) -> Iterator[Any]: ...
    def __next__(self, /) -> Any: ...
    def close(self, /) -> None: ...

@final
class ValueStore:
    def __new__(cls, dirs: list[str]) -> ValueStore: ...
    def append(self, /, values: list[Any]) -> int: ...
    def __iter__(self, /) -> ValuesIterator: ...
    def to_bytes(self, /) -> bytes: ...
    def extend_bytes(self, /, data: bytes) -> None: ...
    def __reduce__(self) -> NoReturn: ...

@final
class ValuesIterator:
    def __iter__(self) -> Iterator[Any]: ...
    def __next__(self, /) -> Any: ...

@final
class AutoSerializer:
    def __new__(cls) -> AutoSerializer: ...
    def dumps(self, /, obj: object) -> bytes: ...
    def loads(self, /, data: bytes) -> Any: ...

def records_of(block: bytes, loads: Callable[[bytes], Any]) -> list[Any]: ...
def resident_bytes() -> int: ...
def sample_keys(
    records: Iterable[Any], uniform: Callable[[], float], wanted: float
) -> tuple[int, list[tuple[float, Any]]]: ...
def sort_external(
    owner: object,
    iterator: Iterable[Any],
    key: Callable[[Any], Any] | None,
    reverse: bool,
    localdirs: list[str],
    read_from: int | None = None,
    plan: tuple[Any, ...] | None = None,
    lazily: bool = False,
) -> Iterable[Any]: ...
def takes_plan(plan: tuple[Any, ...]) -> bool: ...
