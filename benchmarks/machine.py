"""Where the figures come from: the machine, and the versions of what ran."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("ferroshuffle", "pyspark", "cytoolz", "psutil", "numpy")


def machine() -> dict[str, str | int]:
    """Return the processor, its cores, the memory in MiB and the system."""
    return {
        "cpu": processor(),
        "cores": os.cpu_count() or 0,
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "system": f"{platform.system()} {platform.machine()}",
    }


def processor() -> str:
    """Return the processor's name, and on Linux its family and model, which names may leave out."""
    file = Path("/proc/cpuinfo")
    if not file.exists():
        return platform.processor()
    facts: dict[str, str] = dict(
        re.findall(r"^([^\t\n]+)\t*: (.*)$", file.read_text("utf-8"), re.MULTILINE)
    )
    name = facts.get("model name", platform.machine())
    if "model" not in facts:
        return name
    return f"{name} (family {facts.get('cpu family')}, model {facts['model']})"


def versions() -> dict[str, str]:
    """Return the versions of Python, Java and the packages; of those that are missing, none."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    java = java_version()
    if java:
        found["java"] = java
    return found


def java_version() -> str | None:
    """Return the version of the Java that Spark would start."""
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home, "bin", "java")) if home else "java"
    try:
        said = subprocess.run([java, "-version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    quoted = re.search(r'"([^"]+)"', said.stderr)
    return quoted.group(1) if quoted else None
