"""Draw curves from their data, as SVG: `python benchmarks/chart.py [FOLDER]`.

Two panels, one a memory limit, with common axes, both logarithmic. There is no background, and all
colours are of a middle lightness, so that white and dark pages both show it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from math import log
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

PANEL_WIDTH, PANEL_HEIGHT = 280, 270
LEFT, TOP, BETWEEN, RIGHT, BOTTOM = 48, 34, 136, 156, 56
WIDTH = LEFT + PANEL_WIDTH + BETWEEN + PANEL_WIDTH + RIGHT
HEIGHT = TOP + PANEL_HEIGHT + BOTTOM

TEXT = "#7d848d"
GRID = f'stroke="{TEXT}" stroke-opacity="0.3"'
NAMES = {"stock": "stock", "ours": "ferroshuffle", "dataframe": "DataFrame"}
COLOURS = {"stock": "#d9652b", "ours": "#2f81f7", "dataframe": "#9a7fd1"}

SECONDS_SHOWN = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200)
LABEL_HEIGHT = 16

Point = tuple[float, float]


class Scale(NamedTuple):
    """A logarithmic axis: from a value to a position."""

    least: float
    most: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return where a value is."""
        part = log(value / self.least) / log(self.most / self.least)
        return self.start + part * (self.end - self.start)


def text(x: float, y: float, words: str, anchor: str = "middle", colour: str = TEXT) -> str:
    """Return words at a place; a line of them is centred on it from top to bottom."""
    return (
        f'<text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="{anchor}" fill="{colour}">{words}</text>'
    )


def short(number: int) -> str:
    """Return a number of keys as an axis shows it."""
    if number >= 1_000_000:
        return f"{number / 1_000_000:g} M"
    return f"{number // 1_000} k" if number % 1_000 == 0 else str(number)


def points(line: dict[str, Any]) -> list[Point]:
    """Return the numbers of keys and the median seconds of a line."""
    return [(point["keys"], median(point["seconds"])) for point in line["points"]]


def panel(title: str, lines: list[dict[str, Any]], x: Scale, y: Scale) -> Iterator[str]:
    """Yield one panel: grid and axes, its lines, and their names where they end."""
    yield text((x.start + x.end) / 2, TOP - 18, title)
    yield text(x.start - 8, TOP - 18, "time", "end")
    for seconds in SECONDS_SHOWN:
        if y.least <= seconds <= y.most:
            at = y(seconds)
            yield f'<path d="M{x.start:.1f} {at:.1f}H{x.end:.1f}" {GRID}/>'
            yield text(x.start - 8, at, f"{seconds:g} s", "end")
    # The last one is shown, and none so close before it that their labels would touch.
    keys_shown = [10**power for power in range(3, 9) if x.least <= 10**power <= x.most / 2]
    for keys in (*keys_shown, int(x.most)):
        at = x(keys)
        yield f'<path d="M{at:.1f} {y.start:.1f}V{y.end:.1f}" {GRID}/>'
        yield text(at, y.start + 16, short(keys))
    yield text((x.start + x.end) / 2, y.start + 40, "different keys, up to one a record")

    lowest_label = y.start + LABEL_HEIGHT
    for line in sorted(lines, key=lambda line: points(line)[-1][1]):
        colour = COLOURS[line["side"]]
        places = [(x(keys), y(seconds)) for keys, seconds in points(line)]
        path = " ".join(f"{left:.1f},{top:.1f}" for left, top in places)
        yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2.5"/>'
        for left, top in places:
            yield f'<circle cx="{left:.1f}" cy="{top:.1f}" r="3.5" fill="{colour}"/>'
        # Names of lines that end close together make room for each other.
        lowest_label = min(places[-1][1], lowest_label - LABEL_HEIGHT)
        yield text(x.end + 10, lowest_label, line["name"], "start", colour)


def with_names(lines: list[dict[str, Any]], limit: int | None) -> list[dict[str, Any]]:
    """Return the lines of a panel; the DataFrame is in all, since no limit is about it."""
    return [
        {**line, "name": NAMES[line["side"]] + (", no limit" if line["limit_mib"] != limit else "")}
        for line in lines
        if line["limit_mib"] == limit or line["side"] == "dataframe"
    ]


def picture(curve: dict[str, Any]) -> str:
    """Return the SVG."""
    lines = curve["lines"]
    every = [point for line in lines for point in points(line)]
    keys, seconds = zip(*every, strict=True)
    y = Scale(min(seconds) / 1.2, max(seconds) * 1.2, TOP + PANEL_HEIGHT, TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
        ' font-family="system-ui, sans-serif" font-size="13" stroke-linejoin="round">',
        f"<title>{curve['operation']} of {curve['records']:,} records:"
        " seconds by number of keys</title>",
    ]
    for index, limit in enumerate(dict.fromkeys(line["limit_mib"] for line in lines)):
        start = LEFT + index * (PANEL_WIDTH + BETWEEN)
        x = Scale(min(keys), max(keys), start, start + PANEL_WIDTH)
        title = f"{limit} MiB a Python worker" if limit else "512 MiB a Python worker (default)"
        parts += panel(title, with_names(lines, limit), x, y)
    return "\n".join([*parts, "</svg>"]) + "\n"


def write(file: Path) -> None:
    """Draw the curve whose data are in a file, beside it."""
    curve = json.loads(file.read_text(encoding="utf-8"))
    file.with_suffix(".svg").write_text(picture(curve), encoding="utf-8")


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "results"
    for file in sorted(folder.glob("curve-*.json")):
        write(file)
