"""One JVM for all Spark tests, one Spark context for each module of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark import SparkContext

import ferroshuffle

from . import sessions

# What a developer's shell may have set, and would send the tests to another Spark or disk.
_OTHER_SPARK = ("SPARK_HOME", "SPARK_CONF_DIR", "SPARK_LOCAL_DIRS", "SPARK_LOCAL_DIR")


@pytest.fixture(scope="session", autouse=True)
def _spark_environment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in (*_OTHER_SPARK, "PYSPARK_SUBMIT_ARGS"):
            patch.delenv(name, raising=False)
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        patch.setenv("PYSPARK_DRIVER_PYTHON", sys.executable)
        patch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        yield


@pytest.fixture(scope="session")
def _jvm(_spark_environment: None) -> Iterator[None]:
    """End the JVM that the first Spark context starts."""
    yield
    gateway = SparkContext._gateway
    if gateway is None:
        return
    gateway.shutdown()
    gateway.proc.stdin.close()  # which the JVM takes as the order to exit
    gateway.proc.wait(timeout=60)
    SparkContext._gateway = SparkContext._jvm = None


@pytest.fixture(scope="module")
def spark_settings() -> dict[str, str]:
    """Spark settings of a test module, which overrides this fixture."""
    return {}


@pytest.fixture(scope="module")
def spark_local_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spark")


@pytest.fixture(scope="module")
def sc(_jvm: None, spark_local_dir: Path, spark_settings: dict[str, str]) -> Iterator[SparkContext]:
    """Spark in local mode, with two workers at a time."""
    with sessions.spark_context("local[2]", spark_local_dir, spark_settings) as sc:
        yield sc


@pytest.fixture(autouse=True)
def _uninstalled() -> Iterator[None]:
    """Undo an install that a failing test leaves behind."""
    yield
    ferroshuffle.uninstall()
