"""Where the demo keeps its pages, and what it does where it cannot."""

from pathlib import Path

import pytest

pytest.importorskip("aiohttp")

from aioconc.demo._site import _is_readable, page_folder


def test_a_cached_page_that_cannot_be_read_counts_as_missing(tmp_path: Path) -> None:
    """So that it is made anew."""
    (tmp_path / "json.html").mkdir()
    assert not _is_readable(tmp_path / "json.html")
    assert not _is_readable(tmp_path / "re.html")
    (tmp_path / "re.html").touch()
    assert _is_readable(tmp_path / "re.html")


def test_without_a_home_there_is_no_cache_and_all_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """A temporary folder serves instead, and the reason is given."""

    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nobody)
    with page_folder() as (folder, why):
        assert why == "Could not determine home directory."
        (folder / "page.html").touch()
    assert not folder.exists()
