"""The suites of models, one module each.

A suite is a module of this package with

``LIBRARIES``
    Tuple of the importable packages that the suite is about (``("timm",)``): their versions go into the rows,
    and they are imported once before models are measured. ``None`` where each case's family is its package.

``PRELOAD`` (optional)
    Modules that many of its models need, imported before models are measured, too, where they are installed.

``TARGETS``
    Group of cases → least share of them, in percent, that must succeed (``{"": 99.5}``). The key ``""``
    stands for cases without a group of their own.

``cases() -> Iterable[Case]``
    The models, in a stable order, cheaply: nothing is built. A :class:`~ghn_init.coverage.case.Case` has a
    name, a family, a builder and, only where the library cannot find them, example inputs. Names are unique
    in a suite. A library that is not installed raises ``ModuleNotFoundError``; a builder that lacks a package
    or a file raises :class:`~ghn_init.coverage.case.UnavailableError`.

Builders run in processes of their own, forked where that is possible; elsewhere the process finds its case
again by suite and name. So they may be closures, and they may fail, leak or hang.

Add a suite here, and its module beside this one; further modules of a suite (tables, configurations) carry
its name as a prefix (``transformers_text.py``).
"""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from typing import Any

from ghn_init.coverage.case import Case
from ghn_init.errors import ConfigError

SUITES = ("timm", "torchvision", "transformers", "plain", "others")


@cache
def cases(suite: str) -> dict[str, Case]:
    """Name → case of a suite, in the suite's order.

    Raises:
        ConfigError: There is no such suite, or two of its cases have the same name.
        ModuleNotFoundError: The suite's library is not installed.
    """
    found: dict[str, Case] = {}
    for case in _module(suite).cases():
        if found.setdefault(case.name, case) is not case:
            raise ConfigError(f"two cases of suite {suite!r} are named {case.name!r}")
    return found


def targets(suite: str) -> dict[str, float]:
    """Group of cases → least share of them, in percent, that must succeed."""
    return dict(_module(suite).TARGETS)


def versions(suite: str, case: Case) -> str:
    """The libraries of a case and torch with their versions (``timm 1.0.31, torch 2.14.1``)."""
    libraries = _module(suite).LIBRARIES
    return ", ".join(map(_with_version, (*((case.family,) if libraries is None else libraries), "torch")))


def load(suite: str) -> None:
    """Import the libraries of a suite, and what many of its models need."""
    for library in _module(suite).LIBRARIES or ():
        import_module(library)
    for module in getattr(_module(suite), "PRELOAD", ()):
        with suppress(ImportError):
            import_module(module)


def _module(suite: str) -> Any:
    if suite not in SUITES:
        raise ConfigError(f"there is no suite {suite!r}: choose of {', '.join(SUITES)}")
    return import_module(f"{__name__}.{suite}")


@cache
def _with_version(package: str) -> str:
    """An importable package as its distribution's name and version; alone if it is not installed."""
    for distribution in (package, *_distributions().get(package, ())):
        with suppress(PackageNotFoundError):
            return f"{distribution} {version(distribution)}"
    return package


@cache
def _distributions() -> dict[str, list[str]]:
    return dict(packages_distributions())
