"""Signals reach the program while Rust is at work, and leave a merger that can go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ferroshuffle import shuffle
from tests.faults.children import run

ENDLESS = {
    "merging with functions in C": """
        merger = shuffle.ExternalMerger(shuffle.Aggregator(int, min, min), 1 << 30)
        work = lambda: merger.mergeValues(zip(itertools.repeat(1), itertools.repeat(1)))
        after = lambda: list(merger.items()) == [(1, 1)]
    """,
    "merging combiners in C": """
        merger = shuffle.InMemoryMerger(shuffle.SimpleAggregator(min))
        work = lambda: merger.mergeCombiners(zip(itertools.repeat(1), itertools.repeat(1)))
        after = lambda: list(merger.items()) == [(1, 1)]
    """,
    "grouping": """
        functions = list, max, max
        merger = shuffle.ExternalGroupBy(shuffle.Aggregator(*functions), 1 << 30)
        work = lambda: merger.mergeValues(zip(itertools.repeat(1), itertools.repeat(())))
        after = lambda: True
        functions = (lambda v: [v]), (lambda c, v: c), (lambda a, b: a)
        merger.agg = shuffle.Aggregator(*functions)
    """,
    "reading for a sorter": """
        class Eager(shuffle.ExternalSorter):
            def _next_limit(self):
                return 0
        work = lambda: Eager(0).sorted(itertools.repeat(1))
        after = lambda: list(Eager(0).sorted([2, 1])) == [1, 2]
    """,
}


@pytest.mark.parametrize("what", sorted(ENDLESS))
def test_an_endless_input_can_be_interrupted(what: str, local_dirs: list[Path]) -> None:
    import textwrap

    run(
        textwrap.dedent(
            """
            import itertools, os, signal, time
            from ferroshuffle import shuffle
            signal.signal(signal.SIGALRM, signal.default_int_handler)
            """
        )
        + textwrap.dedent(ENDLESS[what])
        + textwrap.dedent(
            """
            for _ in range(2):
                signal.setitimer(signal.ITIMER_REAL, 0.2)
                start = time.monotonic()
                try:
                    work()
                except KeyboardInterrupt:
                    took = time.monotonic() - start
                else:
                    raise AssertionError("it ended by itself")
                assert took < 5, took
            assert after()
            """
        ),
        timeout=30,
    )


def test_an_interrupt_at_any_time_leaves_a_usable_merger(local_dirs: list[Path]) -> None:
    run(
        """
        import gc, os, signal, sys
        from ferroshuffle import shuffle
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        functions = lambda v: [v], lambda c, v: c.append(v) or c, lambda a, b: a + b
        # Imports what reads functions. Python itself exits as if interrupted once an interrupt came
        # into a string that was run, as making a namedtuple does, even where it was caught.
        shuffle.ExternalMerger(shuffle.Aggregator(*functions), 1).mergeValues(
            (n, 1) for n in range(5_000)
        )
        interrupted = 0
        for turn in range(60):
            merger = shuffle.ExternalMerger(
                shuffle.Aggregator(*functions), 1, partitions=3, batch=50
            )
            seen = 0
            total = 0
            done = False
            signal.setitimer(signal.ITIMER_REAL, 0.0005 * (turn + 1))
            try:
                try:
                    merger.mergeValues((n % 1_000, 1) for n in range(20_000))
                    for key, value in merger.items():
                        total += len(value)
                    done = True
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                interrupted += 1
                merger.mergeValues([("after", 1)])
                result = dict(merger.items())
                assert result["after"] == [1]
                assert all(set(value) == {1} for value in result.values())
            else:
                assert not done or total == 20_000, total
        assert interrupted >= 5, interrupted
        del merger
        gc.collect()
        for entry in os.listdir("/proc/self/fd"):
            path = f"/proc/self/fd/{entry}"
            if os.path.lexists(path):
                assert not os.readlink(path).endswith("(deleted)")
        """,
        timeout=100,
    )


def test_an_interrupt_as_a_spill_returns_hides_no_run() -> None:
    class Interrupted:
        """The engine, which is interrupted when the run is on disk."""

        def __init__(self, engine: Any) -> None:
            self.engine = engine

        def __getattr__(self, name: str) -> Any:
            return getattr(self.engine, name)

        def spill(self) -> None:
            self.engine.spill()
            raise KeyboardInterrupt

    merger = shuffle.ExternalMerger(shuffle.SimpleAggregator(max), 1 << 30)
    merger.mergeValues((n, n) for n in range(3_000))
    merger._engine = Interrupted(merger._engine)  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        merger._spill()
    assert sorted(merger.items()) == [(n, n) for n in range(3_000)]


def test_an_interrupt_while_values_are_weighed_is_not_lost(local_dirs: list[Path]) -> None:
    run(
        """
        import signal
        from ferroshuffle import shuffle
        # A job in the background may have been started with Ctrl-C ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)

        class Slow:
            def __sizeof__(self):
                signal.raise_signal(signal.SIGINT)
                return 1

        functions = lambda v: [v], lambda c, v: c.append(v) or c, lambda a, b: a + b
        merger = shuffle.ExternalGroupBy(shuffle.Aggregator(*functions), 1 << 30)
        merger.mergeValues([(1, Slow())])
        try:
            merger._spill()
        except KeyboardInterrupt:
            pass
        else:
            raise AssertionError("the interrupt was lost")
        """,
        timeout=30,
    )
