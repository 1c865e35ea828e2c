"""The report: one HTML file that needs nothing else."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aioconc.demo._demo import Run


def write_report(run: "Run", results: dict[str, Any]) -> Path:
    file = run.options.out / "report.html"
    file.write_text("<!DOCTYPE html><title>aioconc demo</title>", encoding="utf-8")
    return file
