"""Whether the kernel has killed for want of memory is read from its own counters."""

from pathlib import Path

import pytest

from aioconc.executors.process import _memory
from aioconc.executors.process._memory import OutOfMemory


@pytest.fixture
def counter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A control group of the second version, with its counter at 2."""
    groups = tmp_path / "cgroup"
    groups.write_text("1:cpu:/\n0::/mine\n")
    found = tmp_path / "mine" / "memory.events"
    found.parent.mkdir()
    found.write_text("low 0\noom 1\noom_kill 2\n")
    monkeypatch.setattr(_memory, "_GROUPS", groups)
    monkeypatch.setattr(_memory, "_ROOT", tmp_path)
    return found


def test_only_a_counter_that_rises_tells_of_a_kill(counter: Path) -> None:
    """What was counted before the pool was made, and what was told already, does not count."""
    watch = OutOfMemory()
    assert not watch.ran_out()
    counter.write_text("oom_kill 3\n")
    assert watch.ran_out()
    assert not watch.ran_out()


def test_the_first_version_of_control_groups_counts_too(counter: Path, tmp_path: Path) -> None:
    """Its counter is elsewhere, under the name of its controller."""
    (tmp_path / "cgroup").write_text("4:memory:/mine\n")
    old = tmp_path / "memory" / "mine" / "memory.oom_control"
    old.parent.mkdir(parents=True)
    old.write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n")
    assert _memory.count_kills() == 7


@pytest.mark.parametrize("what", ["no groups", "no counter", "nonsense"])
def test_where_nothing_is_counted_a_kill_is_suspected(
    counter: Path, tmp_path: Path, what: str
) -> None:
    """A SIGKILL that is not ours then counts as want of memory."""
    if what == "no groups":
        (tmp_path / "cgroup").unlink()
    elif what == "no counter":
        counter.unlink()
    else:
        counter.write_text("oom_kill many\n")
    assert OutOfMemory().ran_out()
