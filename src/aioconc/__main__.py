"""The command line: `python -m aioconc`, also installed as `aioconc`.

Says what there is and hands over. Each command is a module of its own, imported when it is
called, so that `--help` and `--version` answer at once.
"""

import sys
from collections.abc import Sequence
from importlib import import_module

import aioconc
from aioconc.errors import MissingExtra

# Command -> the module whose `main(argv) -> exit status` runs it, and its line in the help.
_COMMANDS = {
    "demo": ("aioconc.demo", "crawl, parse and index your own Python's documentation"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status.

    Args:
        argv: the words after the program's name; by default those of this process.

    Returns:
        What the command returns; 2 for a wrong command line, 1 if a package is not installed.

    Example:
        >>> main(["--version"])
        aioconc 0.1.0
        0
    """
    words = list(sys.argv[1:] if argv is None else argv)
    match words:
        case [] | ["-h" | "--help" | "help", *_]:
            print(_help())
            return 0
        case ["-V" | "--version", *_]:
            print(f"aioconc {aioconc.__version__}")
            return 0
        case [command, *rest] if command in _COMMANDS:
            module, _ = _COMMANDS[command]
            try:
                status: int = import_module(module).main(rest)
            except MissingExtra as error:
                print(f"aioconc {command}: {error}", file=sys.stderr)
                return 1
            return status
        case [word, *_]:
            known = ", ".join(_COMMANDS)
            print(f"aioconc: no command {word!r}; there is: {known}", file=sys.stderr)
            print("Try `python -m aioconc --help`.", file=sys.stderr)
            return 2
        case _:  # pragma: no cover - a list is empty or has a first word
            raise AssertionError(words)


def _help() -> str:
    commands = "\n".join(f"  {name:<12} {line}" for name, (_, line) in _COMMANDS.items())
    return f"""\
usage: python -m aioconc COMMAND [options]

Structured concurrency for asyncio.

commands:
{commands}

options:
  -h, --help     this text; `COMMAND --help` for a command's own
  -V, --version  the version"""


if __name__ == "__main__":
    sys.exit(main())
