"""`python -m aioconc`: what it prints, and the status it ends with."""

import subprocess
import sys
from types import ModuleType

import pytest

import aioconc
from aioconc.__main__ import _COMMANDS, main
from aioconc.errors import MissingExtra


def command_that(monkeypatch: pytest.MonkeyPatch, act: object) -> None:
    """Put a command `fake` in place whose `main` is `act`."""
    module = ModuleType("fake_command")
    module.main = act  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fake_command", module)
    monkeypatch.setitem(_COMMANDS, "fake", ("fake_command", "for this test"))


@pytest.mark.parametrize("words", [[], ["-h"], ["--help"], ["help"], ["--help", "demo"]])
def test_help_lists_every_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Without a command, and with any form of asking, the help is printed: status 0."""
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("usage: python -m aioconc")
    for name, (_, line) in _COMMANDS.items():
        assert f"{name} " in out
        assert line in out


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_version_is_the_package_version(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The version is that of the package."""
    assert main([option]) == 0
    assert capsys.readouterr().out == f"aioconc {aioconc.__version__}\n"


@pytest.mark.parametrize("word", ["dmeo", "--verbose", ""])
def test_unknown_command_is_refused_with_the_list(
    word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A misspelt command ends with status 2 and says on standard error what there is."""
    assert main([word]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert f"no command {word!r}; there is: demo" in err


def test_command_gets_the_other_words_and_gives_the_status(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command sees the words after its name, options of the same name included."""
    seen: list[list[str]] = []

    def act(words: list[str]) -> int:
        seen.append(words)
        return 7

    command_that(monkeypatch, act)
    assert main(["fake", "--help", "x"]) == 7
    assert seen == [["--help", "x"]]


def test_words_of_the_process_are_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Called without words, as the console script does, it takes those of the process."""
    command_that(monkeypatch, len)
    monkeypatch.setattr(sys, "argv", ["aioconc", "fake", "a", "b"])
    assert main() == 2


def test_missing_extra_is_a_sentence_and_not_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A package that is not installed ends with status 1 and the line to install it."""

    def act(words: list[str]) -> int:
        raise MissingExtra("needs aiohttp; install aioconc[http]")

    command_that(monkeypatch, act)
    assert main(["fake"]) == 1
    assert capsys.readouterr().err == "aioconc fake: needs aiohttp; install aioconc[http]\n"


def test_other_errors_of_a_command_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in a command shows its traceback."""

    def act(words: list[str]) -> int:
        raise ImportError("no module named this")

    command_that(monkeypatch, act)
    with pytest.raises(ImportError, match="no module named this"):
        main(["fake"])


def test_module_runs_as_a_program() -> None:
    """`python -m aioconc` passes the status on to the shell."""
    done = subprocess.run(
        [sys.executable, "-m", "aioconc", "nonsense"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 2
    assert "python -m aioconc --help" in done.stderr
