"""Local dirs that are full, broken or not there: the next one is tried, and no data is lost."""

from __future__ import annotations

import errno
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ferroshuffle import shuffle
from tests.conftest import NO_LIMIT_MIB, open_files
from tests.faults.children import run

SIZE = 1 << 20


def merger(dirs: list[Any], limit: float = NO_LIMIT_MIB, **options: Any) -> Any:
    functions = (lambda v: [v], lambda c, v: c.append(v) or c, lambda a, b: a.extend(b) or a)
    return shuffle.ExternalMerger(
        shuffle.Aggregator(*functions), limit, localdirs=[str(d) for d in dirs], **options
    )


def noise(count: int) -> list[tuple[int, bytes]]:
    """Records of 1 KiB that no compression makes smaller."""
    return [(n, os.urandom(1_000)) for n in range(count)]


def spill_dirs(tmp_path: Path) -> set[str]:
    base = str(tmp_path)
    return {str(Path(target).parent) for target in open_files() if target.startswith(base)}


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    disk = tmp_path / "tiny"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "none", str(disk)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"mounting is refused ({mounted.stderr.strip()}); RLIMIT_FSIZE stands in below")
    yield disk
    # Lazily: a leaked descriptor is the leak check's to report, a mount must not stay.
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk_fails_over_to_the_next(tiny_disk: Path, tmp_path: Path) -> None:
    items = noise(4_000)
    one = merger([tiny_disk, tmp_path / "roomy"])
    for start in range(0, 4_000, 1_000):
        one.mergeValues(items[start : start + 1_000])
        one._spill()
    assert one.spills == 4
    assert dict(one.items()) == {key: [value] for key, value in items}


def test_when_all_disks_are_full_the_error_says_all_and_the_data_stays(tiny_disk: Path) -> None:
    dirs = [tiny_disk / "one", tiny_disk / "two"]
    items = noise(3_000)
    one = merger(dirs)
    one.mergeValues(items)
    with pytest.raises(OSError) as caught:
        one._spill()
    assert caught.value.errno == errno.ENOSPC
    assert_says_what_to_do(caught.value, dirs)
    assert one.spills == 0
    one.mergeValues([(0, b"more")])
    assert dict(one.items()) == {key: [value] for key, value in items} | {0: [items[0][1], b"more"]}


def assert_says_what_to_do(error: OSError, dirs: list[Path]) -> None:
    text = str(error)
    for folder in dirs:
        assert str(folder) in text
    assert "SPARK_LOCAL_DIRS" in text or "spark.local.dir" in text
    assert len(re.findall(r"\d+ (?:bytes|[KMG]iB|B)", text)) >= 2, text
    assert "free" in text


def test_runs_on_disk_and_rows_in_memory_are_both_there_after_a_failure(tiny_disk: Path) -> None:
    items = noise(2_500)
    one = merger([tiny_disk], partitions=7)
    one.mergeValues(items[:500])
    one._spill()
    one.mergeValues(items[500:])
    with pytest.raises(OSError):
        one._spill()
    with pytest.raises(OSError):
        one._spill()
    assert one.spills == 1
    assert dict(one.items()) == {key: [value] for key, value in items}


def test_a_failed_spill_within_merge_values_can_be_mended(tiny_disk: Path) -> None:
    ballast = tiny_disk / "ballast"
    ballast.write_bytes(bytes(SIZE - 40_000))
    items = iter(noise(2_000))
    one = merger([tiny_disk], 1, batch=300)
    with pytest.raises(OSError):
        one.mergeValues(items)
    left = len(list(items))
    assert 0 < left < 2_000
    kept = 2_000 - left
    ballast.unlink()
    one._spill()
    assert one.spills == 1
    one.memory_limit = NO_LIMIT_MIB
    one.mergeValues((n, b"again") for n in range(kept))
    assert sorted(map(len, dict(one.items()).values())) == [2] * kept


def test_a_limit_that_is_raised_lets_merging_go_on(tiny_disk: Path) -> None:
    (tiny_disk / "ballast").write_bytes(bytes(SIZE - 8_192))
    items = noise(900)
    one = merger([tiny_disk], 1)
    with pytest.raises(OSError):
        one.mergeValues(items)
    one.memory_limit = NO_LIMIT_MIB
    one.mergeValues(items)
    assert dict(one.items()) == {key: [value, value] for key, value in items}


def test_a_partly_written_run_gives_its_space_back(tiny_disk: Path) -> None:
    one = merger([tiny_disk])
    one.mergeValues(noise(3_000))
    for _ in range(3):
        with pytest.raises(OSError):
            one._spill()
    del one
    disk = os.statvfs(tiny_disk)
    assert disk.f_bfree == disk.f_blocks


def test_a_full_disk_stops_a_sorter_with_the_error(tiny_disk: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("SPARK_LOCAL_DIRS", str(tiny_disk))
    (tiny_disk / "ballast").write_bytes(bytes(SIZE - 8_192))
    sorter = shuffle.ExternalSorter(1)
    items = noise(1_000)
    with pytest.raises(OSError) as caught:
        list(sorter.sorted(items))
    assert_says_what_to_do(caught.value, [tiny_disk])
    sorter.memory_limit = NO_LIMIT_MIB
    assert list(sorter.sorted(items)) == sorted(items)


def test_a_full_disk_stops_a_list_and_the_list_stays_whole(
    tiny_disk: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("SPARK_LOCAL_DIRS", str(tiny_disk))
    held: Any = shuffle.ExternalList([])
    values = [os.urandom(300) for _ in range(shuffle.ExternalList.LIMIT)]
    for value in values[:-1]:
        held.append(value)
    with pytest.raises(OSError):
        held.append(values[-1])
    assert len(held) == len(values)
    assert list(held) == values


BAD_DIRS = ["a file", "below a file", "refused", "name too long", "dangling link"]


def bad_dir(kind: str, tmp_path: Path) -> Path:
    if kind == "dangling link":
        (tmp_path / "link").symlink_to(tmp_path / "file" / "nothing")
        (tmp_path / "file").touch()
        return tmp_path / "link"
    if kind == "refused":
        if os.geteuid() == 0:
            return Path("/proc/self/no")  # where not even root may create anything
        (tmp_path / "refused").mkdir(mode=0o500)
        return tmp_path / "refused"
    if kind == "name too long":
        return tmp_path / ("x" * 300)
    (tmp_path / "file").touch()
    return tmp_path / "file" / "below" if kind == "below a file" else tmp_path / "file"


@pytest.mark.parametrize("kind", BAD_DIRS)
def test_a_dir_that_cannot_be_used_is_passed_over(kind: str, tmp_path: Path) -> None:
    good = tmp_path / "good"
    good.mkdir()
    one = merger([bad_dir(kind, tmp_path), good])
    for start in range(3):
        one.mergeValues((n, start) for n in range(100))
        one._spill()
    assert spill_dirs(tmp_path) == {str(good)}
    assert sorted(one.items()) == [(n, [0, 1, 2]) for n in range(100)]


@pytest.mark.parametrize("kind", BAD_DIRS)
def test_when_no_dir_can_be_used_the_error_names_it_and_the_data_stays(
    kind: str, tmp_path: Path
) -> None:
    bad = bad_dir(kind, tmp_path)
    one = merger([bad], 1)
    with pytest.raises(OSError) as caught:
        one.mergeValues((n, n) for n in range(100))
    assert caught.value.errno
    assert str(bad) in str(caught.value)
    assert list(one.items()) == [(n, [n]) for n in range(100)]
    one.memory_limit = NO_LIMIT_MIB
    one.mergeValues([(0, "more")])
    assert dict(one.items())[0] == [0, "more"]


def test_each_of_many_bad_dirs_is_named(tmp_path: Path) -> None:
    bad = [bad_dir("a file", tmp_path), bad_dir("name too long", tmp_path), Path("/proc/self/no")]
    one = merger(bad)
    one.mergeValues([("a", 1)])
    with pytest.raises(OSError) as caught:
        one._spill()
    assert all(str(folder) in str(caught.value) for folder in bad)
    assert list(one.items()) == [("a", [1])]


def test_a_dir_that_vanishes_between_spills_is_made_again_or_passed_over(tmp_path: Path) -> None:
    one = merger([tmp_path / "gone"])
    one.mergeValues((n, 1) for n in range(100))
    one._spill()
    for folder in sorted(tmp_path.rglob("*"), reverse=True):
        folder.rmdir()
    one.mergeValues((n, 2) for n in range(100))
    one._spill()
    assert sorted(one.items()) == [(n, [1, 2]) for n in range(100)]


def test_files_may_not_grow_past_rlimit_fsize(local_dirs: list[Path]) -> None:
    run(
        """
        import os, resource
        from ferroshuffle import shuffle
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        collect = lambda v: [v], lambda c, v: c.append(v) or c, lambda a, b: a.extend(b) or a
        for kind in (shuffle.ExternalMerger, shuffle.ExternalGroupBy):
            merger = kind(shuffle.Aggregator(*collect), 1 << 30)
            items = [(n, os.urandom(1_000)) for n in range(1_000)]
            merger.mergeValues(items)
            try:
                merger._spill()
            except OSError as error:
                text = str(error)
            else:
                raise AssertionError("a megabyte went into a file of 100 kB")
            assert all(d in text for d in merger.localdirs), text
            assert merger.spills == 0
            assert dict(merger.items()) == {key: [value] for key, value in items}
            merger.mergeValues([(0, b"more")])
            assert len(dict(merger.items())[0]) == 2
        held = shuffle.ExternalList([])
        values = [os.urandom(100) for _ in range(shuffle.ExternalList.LIMIT)]
        try:
            for value in values:
                held.append(value)
        except OSError:
            pass
        else:
            raise AssertionError("a megabyte went into a file of 100 kB")
        assert list(held) == values
        """
    )


def test_a_process_without_free_descriptors_gets_an_os_error(local_dirs: list[Path]) -> None:
    run(
        """
        import errno, os, resource
        from ferroshuffle import shuffle
        functions = lambda v: [v], lambda c, v: [*c, v], lambda a, b: a + b
        merger = shuffle.ExternalMerger(shuffle.Aggregator(*functions), 1 << 30)
        merger.mergeValues((n, n) for n in range(100))
        resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
        held = []
        try:
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
        try:
            merger._spill()
        except OSError as error:
            assert error.errno == errno.EMFILE, error
        else:
            raise AssertionError("spilled without a descriptor")
        for descriptor in held:
            os.close(descriptor)
        merger._spill()
        assert sorted(merger.items()) == [(n, [n]) for n in range(100)]
        """
    )


def test_a_failure_while_a_partition_is_split_is_an_os_error_and_can_be_retried(
    tiny_disk: Path,
) -> None:
    one = merger([tiny_disk], NO_LIMIT_MIB, partitions=1)
    items = noise(700)
    one.mergeValues(items)
    one._spill()
    one.memory_limit = 1
    try:
        result = dict(one.items())
    except OSError as error:
        assert_says_what_to_do(error, [tiny_disk])
    else:
        assert result == {key: [value] for key, value in items}
