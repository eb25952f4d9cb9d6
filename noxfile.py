"""Sessions that need environments of their own; uv makes them: ``pip install nox uv && nox -l``."""

from __future__ import annotations

from pathlib import Path

import nox

nox.options.default_venv_backend = "uv"
nox.options.sessions = ["minimum", "newest", "extras"]
nox.options.reuse_existing_virtualenvs = True

TOOLS = ("pytest", "pytest-timeout", "hypothesis", "joblib", "selenium")


def _test(session: nox.Session) -> None:
    """Run the tests, or those that are named behind ``--``, and write the row of CONTRIBUTING.md."""
    results = Path(session.create_tmp()) / "junit.xml"
    options = ["-m", "not slow", "--junitxml", str(results)]
    try:
        session.run("pytest", *options, *session.posargs, env={"OMP_NUM_THREADS": "1"})
    finally:
        session.run("python", "benchmarks/versions.py", "record", session.name, str(results))


@nox.session(python=["3.10", "3.11"])
def minimum(session: nox.Session) -> None:
    """The tests on the lowest versions that pyproject.toml declares."""
    session.install("--resolution", "lowest-direct", "-e", ".[all]")
    session.install(*TOOLS)
    _test(session)


@nox.session(python=["3.11", "3.12", "3.13"])
def newest(session: nox.Session) -> None:
    """The tests on the newest versions that there are."""
    session.install("--upgrade", "-e", ".[all]", *TOOLS)
    _test(session)


@nox.session(python="3.11")
@nox.parametrize("extra", ["base", "timm", "transformers", "train", "plot", "rank", "lz4", "rich", "all"])
def extras(session: nox.Session, extra: str) -> None:
    """What each extra alone promises, from the wheel in an environment that has nothing else."""
    folder = session.create_tmp()
    session.run("uv", "build", "--wheel", "--out-dir", folder, external=True)
    (wheel,) = Path(folder).glob("*.whl")
    session.install(
        f"ghn-init @ {wheel.as_uri()}" if extra == "base" else f"ghn-init[{extra}] @ {wheel.as_uri()}"
    )
    session.run("python", "tests/extra_cases.py", extra)
