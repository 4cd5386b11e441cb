"""Run a script in a process of its own, which may die without taking the test with it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path


def run(script: str, *arguments: object, timeout: float = 120, **environment: str) -> str:
    """Run `script` to its end and return what it printed; fail if it died or raised."""
    done = attempt(script, *arguments, timeout=timeout, **environment)
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def attempt(
    script: str, *arguments: object, timeout: float = 120, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `script` to its end and return how it ended."""
    return subprocess.run(
        command(script, *arguments),
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **environment},
        cwd=Path(__file__).parents[2],
        check=False,
    )


def command(script: str, *arguments: object) -> list[str]:
    """Return the command line that runs `script`, with warnings as errors."""
    return [
        sys.executable,
        "-X",
        "faulthandler",
        "-W",
        "error",
        "-c",
        textwrap.dedent(script),
        *map(str, arguments),
    ]
