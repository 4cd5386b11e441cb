"""Importing is lean, works without PySpark, and survives a fork."""

from __future__ import annotations

from tests.faults.children import run


def test_importing_brings_in_neither_pyspark_nor_numpy_nor_a_thread() -> None:
    run(
        """
        import os, sys
        before = set(sys.modules)
        import ferroshuffle.shuffle
        new = {name.partition(".")[0] for name in set(sys.modules) - before}
        assert not new & {"pyspark", "numpy", "pandas", "psutil", "py4j", "multiprocessing"}, new
        assert len(os.listdir("/proc/self/task")) == 1
        """
    )


def test_importing_the_package_changes_nothing_in_pyspark() -> None:
    run(
        """
        import pyspark.shuffle
        before = dict(vars(pyspark.shuffle))
        import ferroshuffle, ferroshuffle.shuffle
        assert dict(vars(pyspark.shuffle)) == before
        assert not ferroshuffle.is_installed()
        """
    )


def test_everything_works_without_pyspark(local_dirs: list[object]) -> None:
    run(
        """
        import pickle, sys

        class Blocker:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in {"pyspark", "py4j", "psutil", "numpy"}:
                    raise ImportError(f"{name} is not installed")

        sys.meta_path.insert(0, Blocker())
        from ferroshuffle import shuffle
        from ferroshuffle.serializers import AutoSerializer

        collect = lambda v: [v], lambda c, v: c.append(v) or c, lambda a, b: a.extend(b) or a
        for kind in (shuffle.ExternalMerger, shuffle.ExternalGroupBy):
            merger = kind(shuffle.Aggregator(*collect), 1, partitions=3)
            merger.mergeValues((n % 1_000, n) for n in range(20_000))
            merger._spill()
            merger.mergeCombiners((n, [n]) for n in range(1_000))
            assert merger.spills >= 1
            result = {key: list(group) for key, group in merger.items()}
            assert result == {n: [*range(n, 20_000, 1_000), n] for n in range(1_000)}
        assert shuffle.MemoryBytesSpilled > 0 and shuffle.DiskBytesSpilled > 0
        small = shuffle.InMemoryMerger(shuffle.SimpleAggregator(max))
        small.mergeValues([(1, 2), (1, 3)])
        assert list(small.iteritems()) == [(1, 3)]
        assert list(shuffle.ExternalSorter(1).sorted(range(9_999, -1, -1))) == list(range(10_000))
        held = shuffle.ExternalList(list(range(10_239)))
        held.append(10_239)
        assert list(pickle.loads(pickle.dumps(held))) == list(range(10_240))
        assert shuffle.get_used_memory() > 0
        auto = AutoSerializer()
        assert auto.loads(auto.dumps([1, bytearray(b"x")])) == [1, bytearray(b"x")]
        merger = shuffle.ExternalMerger(shuffle.Aggregator(lambda v: next(iter(())), max, max))
        try:
            merger.mergeValues([(1, 1)])
        except RuntimeError as error:
            assert "StopIteration" in str(error)
        else:
            raise AssertionError("StopIteration got lost")
        ser = shuffle._compressed_serializer()
        assert ser is not None
        assert not any(name.partition(".")[0] == "pyspark" for name in sys.modules)
        """
    )


def test_a_forked_child_has_its_own_dirs_and_merges(local_dirs: list[object]) -> None:
    run(
        """
        import os
        from ferroshuffle import shuffle

        def merge(merger):
            merger.mergeValues((n % 100, n) for n in range(5_000))
            merger._spill()

        def total(merger):
            return sum(sum(group) for _, group in merger.items())

        functions = lambda v: [v], lambda c, v: c.append(v) or c, lambda a, b: a.extend(b) or a
        before = shuffle.ExternalMerger(shuffle.Aggregator(*functions), 1)
        merge(before)
        child = os.fork()
        if not child:
            status = 1
            try:
                assert f"/{os.getpid()}/" in shuffle._get_local_dirs("x")[0]
                merger = shuffle.ExternalMerger(shuffle.Aggregator(*functions), 1)
                merge(merger)
                assert total(merger) == sum(range(5_000))
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        merge(before)
        assert total(before) == 2 * sum(range(5_000))
        """
    )
