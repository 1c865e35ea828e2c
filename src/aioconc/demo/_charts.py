"""Charts as inline SVG, drawn with classes so that the page's colours, light or dark, apply.

Plain functions from numbers to text. Every mark has a tooltip that says what it is, and every bar
its figure beside it, so that nothing has to be read off an axis.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH = 1040
_LABELS = 150  # room for the names of lanes, left of the plot
_LANE = 9
_GAP = 2
# More marks than this make a file slow to open and a picture that nobody can read.
_MOST_MARKS = 4000


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that took from `start` to `end`, in seconds from the beginning of the chart."""

    start: float
    end: float
    style: str
    tooltip: str


@dataclass(frozen=True, slots=True)
class Lane:
    """One row of a timeline; marks that overlap are spread over as many lines as they need."""

    label: str
    marks: Sequence[Mark]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a chart: what it stands for, how long it is, and the words for that."""

    label: str
    value: float | None
    text: str
    strong: bool = False
    spread: tuple[float, float] | None = None  # drawn as a line over the bar


def timeline(lanes: Sequence[Lane], seconds: float) -> str:
    """Who did what when."""
    scale = (_WIDTH - _LABELS - 12) / max(seconds, 1e-9)
    y = 22.0
    parts: list[str] = []
    marks_left = _MOST_MARKS
    for lane in lanes:
        lines = _spread(lane.marks)
        height = max(len(lines), 1) * (_LANE + _GAP) + 7
        middle = y + (height - 7) / 2
        parts.append(f'<text x="0" y="{middle + 4:.1f}" class="lane">{escape(lane.label)}</text>')
        if lane.note:
            parts.append(
                f'<text x="{_LABELS - 12}" y="{middle + 4:.1f}" class="note end">'
                f"{escape(lane.note)}</text>"
            )
        for row, line in enumerate(lines):
            top = y + row * (_LANE + _GAP)
            for mark in line:
                if marks_left > 0:
                    marks_left -= 1
                    parts.append(_rect(mark, top, scale))
        y += height
        parts.append(f'<path class="rule" d="M0 {y - 3:.1f}H{_WIDTH}"/>')
    grid = _seconds_axis(seconds, scale, y - 3)
    return (
        f'<svg class="timeline" viewBox="0 0 {_WIDTH} {y + 2:.0f}" role="img" '
        f'aria-label="Timeline of the crawl">{grid}{"".join(parts)}</svg>'
    )


def _rect(mark: Mark, top: float, scale: float) -> str:
    width = max((mark.end - mark.start) * scale, 1.5)
    return (
        f'<rect x="{_LABELS + mark.start * scale:.1f}" y="{top:.1f}" width="{width:.1f}" '
        f'height="{_LANE}" rx="1.5" class="{mark.style}"><title>{escape(mark.tooltip)}</title></rect>'
    )


def _spread(marks: Sequence[Mark]) -> list[list[Mark]]:
    """The fewest lines on which no two marks overlap."""
    lines: list[list[Mark]] = []
    for mark in sorted(marks, key=lambda each: each.start):
        for line in lines:
            if line[-1].end <= mark.start:
                line.append(mark)
                break
        else:
            lines.append([mark])
    return lines


def _seconds_axis(seconds: float, scale: float, bottom: float) -> str:
    step = next((s for s in (0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300) if seconds / s <= 10), 900)
    parts = []
    for number in range(math.floor(seconds / step) + 1):
        x = _LABELS + number * step * scale
        parts.append(f'<path class="grid" d="M{x:.1f} 16V{bottom:.1f}"/>')
        parts.append(f'<text class="note middle" x="{x:.1f}" y="10">{number * step:g} s</text>')
    return "".join(parts)


def bars(title: str, hint: str, rows: Sequence[Bar]) -> str:
    """A small bar chart with a line for each row; a row without a value says why in its text."""
    ends = [row.spread[1] if row.spread else row.value or 0.0 for row in rows]
    longest = max((end for end in ends if math.isfinite(end)), default=0.0) or 1.0
    lines = []
    for row in rows:
        style = "bar strong" if row.strong else "bar"
        fill = ""
        if row.value is not None and math.isfinite(row.value):
            fill = f'<i style="width:{100 * row.value / longest:.1f}%"></i>'
            if row.spread is not None and row.spread[0] < row.spread[1]:
                least, most = (100 * each / longest for each in row.spread)
                fill += f'<s style="left:{least:.1f}%;width:{most - least:.1f}%"></s>'
        lines.append(
            f'<div class="{style}"><span>{escape(row.label)}</span>'
            f'<div class="track">{fill}</div><b>{escape(row.text)}</b></div>'
        )
    return (
        f'<figure class="bars"><figcaption>{escape(title)}<small>{escape(hint)}</small>'
        f"</figcaption>{''.join(lines)}</figure>"
    )


def stall_strip(stalls: Sequence[tuple[float, float]], seconds: float) -> str:
    """The lateness of the heartbeat over time, as a strip under the timeline."""
    if not stalls:
        return ""
    scale = (_WIDTH - _LABELS - 12) / max(seconds, 1e-9)
    top = max(0.02, *(late for _, late in stalls))
    height = 34
    columns = "".join(
        f'<rect class="stall" x="{_LABELS + max(0.0, when) * scale - 1:.1f}" '
        f'y="{height - late / top * (height - 6):.1f}" width="2" '
        f'height="{late / top * (height - 6):.1f}">'
        f"<title>{late * 1000:.1f} ms late at {when:.1f} s</title></rect>"
        for when, late in stalls
        if when <= seconds
    )
    return (
        f'<svg class="timeline" viewBox="0 0 {_WIDTH} {height + 2}" role="img" '
        f'aria-label="Stalls of the event loop">'
        f'<text x="0" y="{height - 12}" class="lane">event loop</text>'
        f'<text x="{_LABELS - 12}" y="{height - 12}" class="note end">stalls</text>'
        f'<path class="rule" d="M{_LABELS} {height}H{_WIDTH}"/>{columns}'
        f'<text x="{_WIDTH - 4}" y="9" class="note end">full height {top * 1000:.0f} ms</text></svg>'
    )
