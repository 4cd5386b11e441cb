"""A standalone Spark cluster on 127.0.0.1: a Master and Workers from the PySpark package."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pyspark

T = TypeVar("T")

_SPARK_CLASS = Path(pyspark.__file__).parent / "bin" / "spark-class"
_START_SECONDS = 90.0
_STOP_SECONDS = 30.0


@dataclass(frozen=True)
class Cluster:
    """The URL for Spark contexts, and the local dirs of each Worker."""

    master: str
    local_dirs: tuple[tuple[Path, ...], ...]


@contextmanager
def standalone_cluster(folder: Path, workers: int = 2) -> Iterator[Cluster]:
    """Run a Master and Workers of one core and two local dirs each, with all files in `folder`."""
    with ExitStack() as processes:
        log = processes.enter_context(
            _spark_process(folder, "master", ["Master", "--port", "0", "--webui-port", "0"], {})
        )
        master = _wait_for(lambda: re.search(r"Starting Spark master at (spark://\S+:\d+)", log()))
        local_dirs = []
        for number in range(workers):
            name = f"worker{number}"
            dirs = (folder / f"{name}-first", folder / f"{name}-second")
            for path in dirs:
                path.mkdir()
            local_dirs.append(dirs)
            arguments = ["--cores", "1", "--memory", "1g", "--webui-port", "0"]
            processes.enter_context(
                _spark_process(
                    folder,
                    name,
                    ["Worker", *arguments, "--work-dir", str(folder / name), master[1]],
                    {"SPARK_LOCAL_DIRS": ",".join(map(str, dirs))},
                )
            )
        _wait_for(lambda: log().count("Registering worker") == workers)
        yield Cluster(master[1], tuple(local_dirs))


@contextmanager
def _spark_process(
    folder: Path, name: str, arguments: list[str], environment: dict[str, str]
) -> Iterator[Callable[[], str]]:
    """Run a Spark daemon in the foreground, and give access to its log."""
    kind, *options = arguments
    main_class = f"org.apache.spark.deploy.{kind.lower()}.{kind}"
    log_file = folder / f"{name}.log"
    with log_file.open("w") as log:
        process = subprocess.Popen(
            [_SPARK_CLASS, main_class, "--host", "127.0.0.1", *options],
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield log_file.read_text
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(condition: Callable[[], T]) -> T:
    deadline = time.monotonic() + _START_SECONDS
    while not (result := condition()):
        assert time.monotonic() < deadline, "the cluster did not start"
        time.sleep(0.1)
    return result
