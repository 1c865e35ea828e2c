"""The comparison of approaches: its figures, its charts, and what counts as survival."""

import math

import pytest

pytest.importorskip("aiohttp")

from aioconc.demo._charts import Bar, bars
from aioconc.demo._compare import Compared, Figure, Outcome, _compared, _survived
from aioconc.demo._faults import Kind


def test_survival_is_judged_by_what_was_printed() -> None:
    """A program that died, lost good pages or lost a page that could be had did not survive."""
    good, bad = "http://good", "http://bad"

    def judged(kind: Kind, errors: dict[str, str | None], status: int | None = 0) -> bool:
        outcome = Outcome(errors, {"wall": 1.0} if status == 0 else {}, status)
        return _survived(kind, bad, [good], outcome).survived

    assert judged(Kind.FLAKY, {good: None, bad: None})
    assert not judged(Kind.FLAKY, {good: None, bad: "HTTP 500"})
    assert judged(Kind.CRASH, {good: None, bad: "WorkerCrashed"})
    assert not judged(Kind.CRASH, {good: "BrokenProcessPool", bad: "BrokenProcessPool"})
    assert not judged(Kind.CRASH, {good: None}, status=13)
    assert not judged(Kind.HANG, {good: None}, status=None)
    assert not judged(Kind.HANG, {good: None})


def test_figures_show_median_and_spread() -> None:
    """One number where the rounds agree, words where no round ended."""
    assert Figure((1.5, 1.1, 1.2)).text("s", digits=1) == "1.2 s (1.1-1.5)"
    assert Figure((0.031, 0.0312)).text("ms", factor=1000) == "31 ms"
    assert Figure(()).text("s") == "did not end"
    assert math.isnan(Figure(()).median)


def test_rounds_that_did_not_end_do_not_count() -> None:
    """The figures are those of the others; without an event loop there is no stall."""

    def outcome(wall: float, stall: float | None, status: int = 0) -> Outcome:
        return Outcome({}, {"wall": wall, "stall": stall}, status, {1: 10, 2: 20})

    found = _compared("a", 5, [outcome(1, 0.1), outcome(9, 0.9, 1), outcome(3, 0.3)], {})
    assert (found.wall.rounds, found.memory.median, found.processes) == ((1, 3), 30, 2)
    assert found.stall == Figure((0.1, 0.3))
    assert _compared("a", 5, [outcome(1, None)], {}).stall is None
    nothing = _compared("a", 5, [outcome(1, None, 1)], {})
    assert isinstance(nothing, Compared) and "did not end" in nothing.line()


def test_bars_draw_the_spread() -> None:
    """From the least to the greatest, over a bar of the median; none where all are equal."""
    text = bars("t", "h", [Bar("a", 5, "x", spread=(2, 10)), Bar("b", 1, "y", spread=(1, 1))])
    assert '<i style="width:50.0%"></i><s style="left:20.0%;width:80.0%"></s>' in text
    assert text.count("<s ") == 1
    never = bars("t", "h", [Bar("a", math.nan, "did not end", spread=(math.nan, math.nan))])
    assert "nan" not in never
