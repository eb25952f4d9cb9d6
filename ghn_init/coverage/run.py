"""Measure suites, continuing where an earlier run stopped."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ghn_init.coverage import suites
from ghn_init.coverage.case import Case
from ghn_init.coverage.processes import Key, Settings, run_all
from ghn_init.coverage.rows import Results, Row, is_available, programs_that_agree, succeeded
from ghn_init.coverage.sampling import sample
from ghn_init.logging import progress_bar


@dataclass(frozen=True)
class Choice:
    """Which models of a suite are measured.

    Attributes:
        only: Text that their names contain.
        sample: Size of a sample with models of every family; 0 for all models.
        again: Measure models that have a row, too.
        failed: Measure models that failed once more.
        uncompared: Measure models of which nobody knows whether their data flow agrees with that of
            ``torch.export``, too.
    """

    only: str = ""
    sample: int = 0
    again: bool = False
    failed: bool = False
    uncompared: bool = False

    def todo(self, cases: Iterable[Case], rows: dict[str, Row]) -> list[Case]:
        """The models to measure, given the rows that there are."""
        chosen = [case for case in cases if self.only in case.name]
        if self.sample:
            chosen = sample(chosen, self.sample)
        known = programs_that_agree(rows.values())
        return [case for case in chosen if self._again(rows.get(case.name), known)]

    def _again(self, row: Row | None, compared: Collection[str]) -> bool:
        """Whether a model with this row is measured."""
        if row is None or self.again:
            return True
        if not succeeded(row):
            return self.failed
        known = "program" in row and ("export" in row or row["program"] in compared)
        return self.uncompared and not known

    @property
    def is_whole(self) -> bool:
        """Whether no model of the suite is left out."""
        return not self.only and not self.sample


_EVERYTHING = Choice()
_DEFAULTS = Settings()


@dataclass
class Outcome:
    """What a run measured: ``measured`` models, and ``failed`` ones among them (``suite:name``)."""

    measured: int = 0
    failed: list[str] = field(default_factory=list)


def run(
    names: Sequence[str],
    folder: Path,
    *,
    choice: Choice = _EVERYTHING,
    settings: Settings = _DEFAULTS,
    jobs: int = 1,
) -> Outcome:
    """Measure the models of suites that have no row yet; each row is on disk as soon as it is known.

    Args:
        names: The suites.
        folder: Of the results, a file for each suite.
        choice: Which models.
        settings: How each is measured.
        jobs: Processes at a time.
    """
    outcome = Outcome()
    for suite in names:
        suites.load(suite)
        cases = suites.cases(suite)
        results = Results(folder, suite)
        results.compact(keep=cases if choice.is_whole else None)
        todo = choice.todo(cases.values(), results.rows)
        keys = [(suite, case.name) for case in todo]
        known = () if choice.again else programs_that_agree(results.rows.values())
        for key, row in _shown(run_all(keys, settings, jobs, known), suite, len(todo)):
            case = cases[key[1]]
            head = {
                "model": case.name,
                "family": case.family,
                **({"group": case.group} if case.group else {}),
            }
            whole = {**head, **row, "versions": suites.versions(suite, case)}
            results.add(_with_comparison(whole, results.rows.get(case.name, {})))
            outcome.measured += 1
            if is_available(row) and not succeeded(row):
                outcome.failed.append(f"{suite}:{case.name}")
        results.compact()
    return outcome


def _with_comparison(row: Row, earlier: Row) -> Row:
    """A row with the comparison of an earlier one of the same program and versions, if it has none."""
    same = all(key in row and row[key] == earlier.get(key) for key in ("program", "versions"))
    if not same or "export" in row or "export" not in earlier:
        return row
    return {**row, **{key: value for key, value in earlier.items() if key.startswith("export")}}


def _shown(rows: Iterator[tuple[Key, Row]], suite: str, total: int) -> Iterator[tuple[Key, Row]]:
    failed = 0
    with progress_bar(iterable=rows, desc=suite, total=total, unit="model") as bar:
        for key, row in bar:
            failed += is_available(row) and not succeeded(row)
            bar.set_postfix_str(f"{failed} failed, {key[1]}")
            yield key, row
