"""Turn the results files into one markdown page: `python benchmarks/report.py [FOLDER]`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import in_process
import on_spark
from workloads import WORKLOADS

TABLE = "table.md"

MIB = 1 << 20

# The floor under the size of a spill: this much, or this part of the limit if that is less.
FLOOR_MIB = 32
FLOOR_PART_OF_LIMIT = 8

# A spilling process may reach this many times the limit, and the floor on top.
RSS_ALLOWANCE = 1.2

RATIO_HEADER = ["work", "limit", "ratio", "range", "asked", "baseline", "ours"]
MEMORY_HEADER = ["work", "limit", "floor", "peak, baseline", "peak, ours", "peak / limit"]
MEMORY_HEADER += ["spilled, baseline", "spilled, ours"]

HELD_HEADER = ["work", "records", "held, baseline", "held, ours", "asked"]
HELD_HEADER += ["at the peak, baseline", "at the peak, ours"]

Row = dict[str, Any]


def mib(size: float) -> str:
    """Return a size in bytes as whole MiB."""
    return f"{size / MIB:,.0f} MiB"


def medians(row: Row, side: str, what: str) -> float:
    """Return the median of one figure over a row's turns."""
    return float(median(turn[side][what] for turn in row["turns"]))


def largest(row: Row, side: str, what: str) -> int:
    """Return the largest of one figure over a row's turns."""
    return max(int(turn[side][what]) for turn in row["turns"])


def seconds(value: float) -> str:
    """Return a time with three digits that count."""
    return f"{value:.3g} s" if value >= 0.1 else f"{value * 1000:.3g} ms"


def markdown(header: list[str], lines: Iterable[list[str]]) -> list[str]:
    """Return a markdown table, its figures (all columns but the first) set right."""
    rule = ["---", *("---:" for _ in header[1:])]
    return ["| " + " | ".join(cells) + " |" for cells in (header, rule, *lines)]


def limit_of(row: Row) -> str:
    """Return a row's memory limit for people."""
    return f"{row['limit_mib']} MiB" if row["limit_mib"] else ""


def ratio_line(row: Row) -> list[str]:
    """Return a row of the table of ratios."""
    ratios = [turn["ratio"] for turn in row["turns"]]
    target = row["target"]
    asked = "" if target is None else f"{target:g}x"
    if target is not None and median(ratios) < target:
        asked += " (missed)"
    return [
        row["work"],
        limit_of(row),
        f"**{median(ratios):.2f}x**",
        f"{min(ratios):.2f} to {max(ratios):.2f}",
        asked,
        seconds(medians(row, "baseline", "seconds")),
        seconds(medians(row, "ours", "seconds")),
    ]


def memory_line(row: Row) -> list[str]:
    """Return a row of the table of memory and disk."""
    limit = row["limit_mib"]
    floor = min(FLOOR_MIB, limit / FLOOR_PART_OF_LIMIT)
    allowed = (RSS_ALLOWANCE * limit + floor) * MIB
    peak = largest(row, "ours", "peak_rss")
    return [
        row["work"],
        f"{limit} MiB",
        f"{floor:g} MiB",
        mib(largest(row, "baseline", "peak_rss")),
        mib(peak) + ("" if peak <= allowed else " (too much)"),
        f"{peak / (limit * MIB):.2f}",
        mib(medians(row, "baseline", "disk_spilled")),
        mib(medians(row, "ours", "disk_spilled")),
    ]


def held_line(row: Row) -> list[str]:
    """Return a row of the table of what a record takes."""
    records = row["records"]
    held = medians(row, "ours", "held") / records
    asked = f"at most {row['most_held']} bytes"
    return [
        row["work"],
        f"{records:,}",
        per_record(medians(row, "baseline", "held") / records),
        f"**{per_record(held)}**",
        asked + ("" if held <= row["most_held"] else " (missed)"),
        per_record(growth_to_peak(row, "baseline") / records),
        per_record(growth_to_peak(row, "ours") / records),
    ]


def growth_to_peak(row: Row, side: str) -> int:
    """Return by how many bytes the resident set grew at most in any turn."""
    return max(int(turn[side]["peak_rss"] - turn[side]["rss_before"]) for turn in row["turns"])


def per_record(size: float) -> str:
    """Return bytes a record with a digit after the point."""
    return f"{size:.1f} bytes"


def is_about_held(row: Row) -> bool:
    """Return whether a row asks how much is held, and for no ratio. Older files do not say."""
    return row.get("most_held") is not None


def provenance(rows: list[Row]) -> list[str]:
    """Return on what machine, with what versions and at what load the rows came about."""
    lines = []
    for facts in {json.dumps([row["machine"], row["versions"]]): None for row in rows}:
        machine, versions = json.loads(facts)
        packages = ", ".join(f"{name} {version}" for name, version in versions.items())
        lines.append(
            f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_mib']:,} MiB of memory,"
            f" {machine['system']}; {packages}."
        )
    loads = [turn["load"] for row in rows for turn in row["turns"]]
    lines += [
        "",
        f"Load average over one minute, after each turn: at most {max(loads, default=0)}.",
    ]
    return lines


def timed(rows: list[Row]) -> Iterator[str]:
    """Yield what the clock sees, once for all the rows that share it."""
    for what in dict.fromkeys(row["timed"] for row in rows):
        names = ", ".join(f"`{row['row']}`" for row in rows if row["timed"] == what)
        yield f"- {names}: {what}"


def commands(rows: list[Row]) -> Iterator[str]:
    """Yield the commands that ran the rows, without what names a single row."""
    for records, turns in dict.fromkeys((row["records"], len(row["turns"])) for row in rows):
        yield f"- `python benchmarks/run.py --records {records} --repeat {turns}`"


def paragraph(module: ModuleType) -> str:
    """Return the account that a module of workloads gives of itself, as one paragraph."""
    return " ".join((module.__doc__ or "").split())


def page(rows: list[Row]) -> str:
    """Return the markdown page."""
    parts = [
        "# Measured against stock PySpark",
        "",
        "Each row ran on the baseline and on ferroshuffle by turns, every run in a fresh process."
        " A ratio is the baseline's seconds over ours in one turn; the table gives the median and"
        " the range of the turns, and the median of the seconds.",
        "",
        *provenance(rows),
        "",
        *markdown(RATIO_HEADER, (ratio_line(row) for row in rows if not is_about_held(row))),
        "",
        "## Memory and disk under a limit",
        "",
        "The most resident memory in any turn, of the process or of the largest Python worker, and"
        f" bytes spilled. Ours may reach {RSS_ALLOWANCE} times the limit, and the floor on top.",
        "",
        *markdown(
            MEMORY_HEADER,
            (memory_line(row) for row in rows if row["limit_mib"]),
        ),
        "",
        "## Memory of a record",
        "",
        "By how much the resident set of the process grew, divided by the records: at the end, with"
        " all of them held, the median of the turns; and at its peak, the most in any turn.",
        "",
        *markdown(HELD_HEADER, (held_line(row) for row in rows if is_about_held(row))),
        "",
        "## What is timed",
        "",
        paragraph(in_process),
        "",
        paragraph(on_spark),
        "",
        *timed(rows),
        "",
        "Commands that repeat it; `--rows NAME` takes one row of them:",
        "",
        *commands(rows),
    ]
    return "\n".join(parts) + "\n"


def write(folder: Path) -> None:
    """Write the page from the results files in a folder, rows in the order of `workloads.py`."""
    files = (folder / f"{workload.name}.json" for workload in WORKLOADS)
    rows = [json.loads(file.read_text(encoding="utf-8")) for file in files if file.exists()]
    (folder / TABLE).write_text(page(rows), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "results")
