"""What CI runs, one session each; `nox` alone runs it all.

A Python that is not on this machine is skipped with a line that says so. Interpreters of pyenv and
uv are found too, whether or not they are on PATH.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nox

PYTHONS = ("3.11", "3.12", "3.13")
HERE = Path(__file__).parent
# Tests run in two processes: that is what the machines of CI have cores for. The snippets of a page
# build on one another, so a file is not split.
TWO_AT_ONCE = ("-n", "2", "--dist", "loadfile")
# pip as old as 2023 installs these; `--group` needs a newer one.
GROUPS = nox.project.load_toml("pyproject.toml")

nox.needs_version = ">=2025.2"
nox.options.sessions = ["lint", "types", "tests", "docs", "package"]
nox.options.error_on_missing_interpreters = False
nox.options.reuse_venv = "yes"


def group(name: str) -> list[str]:
    return list(nox.project.dependency_groups(GROUPS, name))


def _candidates(version: str) -> Iterator[str]:
    """Paths where this Python may be; not all of them exist or run."""
    if found := shutil.which(f"python{version}"):
        yield found
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        yield sys.executable
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for each in sorted(root.glob(f"versions/{version}.*"), reverse=True):
        yield str(each / "bin" / f"python{version}")
    if uv := shutil.which("uv"):
        found = subprocess.run(
            [uv, "python", "find", "--offline", version],
            capture_output=True,
            text=True,
            check=False,
        )
        yield found.stdout.strip()


def _is_python(path: str, version: str) -> bool:
    # A shim of pyenv exists for every version and fails for those that are not switched on.
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run([path, "-c", code], capture_output=True, text=True, check=False)
    except OSError:
        return False
    return done.returncode == 0 and done.stdout.strip() == version


def _put_pythons_on_path() -> None:
    """nox looks for `python3.X` on PATH alone: put the folders of those found in front."""
    folders = []
    for version in PYTHONS:
        works = (each for each in _candidates(version) if _is_python(each, version))
        if found := next(works, None):
            folder = Path(found).parent
            if (folder / f"python{version}").exists():
                folders.append(str(folder))
    os.environ["PATH"] = os.pathsep.join([*folders, os.environ["PATH"]])


_put_pythons_on_path()


@nox.session(python=PYTHONS)
@nox.parametrize("uvloop", [True, False], ids=["uvloop", "plain"])
def tests(session: nox.Session, uvloop: bool) -> None:
    """The default test run, with and without uvloop."""
    session.install("-e", ".[all]" if uvloop else ".[http]", *group("test"))
    session.run("python", "-m", "pytest", *TWO_AT_ONCE, *session.posargs)


@nox.session(python=PYTHONS)
def slow(session: nox.Session) -> None:
    """The tests that are too slow for the default run."""
    session.install("-e", ".[all]", *group("test"))
    wanted = "slow and not soak"
    session.run(
        "python", "-m", "pytest", "-m", wanted, "--timeout=600", *TWO_AT_ONCE, *session.posargs
    )


@nox.session(python=PYTHONS, default=False)
def soak(session: nox.Session) -> None:
    """The longest tests: thousands of explored orders, random kills, a million items."""
    session.install("-e", ".[all]", *group("test"))
    session.run("python", "-m", "pytest", "-m", "soak", "--timeout=900", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Formatting, lint rules, and the layers."""
    session.install("-e", ".", *group("lint"))
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """mypy and pyright on the source; what users get inferred is in tests/typing."""
    session.install("-e", ".[all]", *group("test"), *group("types"))
    session.run("mypy")
    session.run("pyright", "--pythonpath", str(Path(session.bin) / "python"))
    session.run("python", "-m", "pytest", "-m", "typing", "tests/typing", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Builds the site; a warning is an error. Its snippets run in the test session."""
    session.install("-e", ".[all]", *group("docs"))
    out = HERE / "docs" / "_build" / "html"
    session.run("sphinx-build", "-W", "--keep-going", "-n", "-E", "-b", "html", "docs", str(out))


@nox.session(python=PYTHONS)
def coverage(session: nox.Session) -> None:
    """The tests under coverage, workers included; `coverage_report` combines the Pythons."""
    session.install("-e", ".[all]", *group("test"), *group("coverage"))
    session.run("coverage", "run", "-m", "pytest", "--timeout=300", *session.posargs)
    session.notify("coverage_report")


@nox.session(default=False)
def coverage_report(session: nox.Session) -> None:
    """Combines what `coverage` measured and lists what no test ran."""
    session.install(*group("coverage"))
    session.run("coverage", "combine")
    session.run("coverage", "report")


@nox.session
def package(session: nox.Session) -> None:
    """Builds the wheel, looks into it, and runs what users install in an environment of its own."""
    folder = Path(session.create_tmp()).resolve()
    dist, clean = folder / "dist", folder / "clean"
    for each in (dist, clean):
        shutil.rmtree(each, ignore_errors=True)
    session.install(*group("package"))
    session.run("python", "-m", "build", "--outdir", str(dist))
    files = [str(each) for each in sorted(dist.iterdir())]
    session.run("twine", "check", "--strict", *files)
    wheel = next(each for each in files if each.endswith(".whl"))
    session.run("check-wheel-contents", wheel)
    session.run("python", "-m", "venv", str(clean))
    python = clean / ("Scripts" if os.name == "nt" else "bin") / "python"
    session.run(str(python), "-m", "pip", "install", "--quiet", wheel, external=True)
    smoke = HERE / "tests" / "packaging" / "smoke.py"
    with session.chdir(folder):  # so that the source tree is not on the path
        session.run(str(python), "-I", "-W", "error", str(smoke), external=True)


@nox.session
def demo(session: nox.Session) -> None:
    """The demo, from an installed package."""
    session.install(".[all]")
    with session.chdir(session.create_tmp()):
        session.run("python", "-m", "aioconc", "demo", *session.posargs)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Benchmarks, on demand: `nox -s bench -- benchmarks/bench_import.py --quick`."""
    session.install("-e", ".[all]", *group("bench"), *group("test"))
    scripts = [each for each in session.posargs if each.endswith(".py")]
    options = [each for each in session.posargs if each not in scripts]
    every = sorted(HERE.glob("benchmarks/bench_*.py"))
    for script in scripts or [each.relative_to(HERE).as_posix() for each in every]:
        session.run("python", script, *options)
