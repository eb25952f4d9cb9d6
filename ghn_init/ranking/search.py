"""Search a family of architectures with the ranking's score as fitness; Optuna does the searching."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from ghn_init.errors import ConfigError
from ghn_init.extras import needed
from ghn_init.logging import progress_bar
from ghn_init.ranking.assess import Task, assess
from ghn_init.ranking.candidates import candidates, fits
from ghn_init.ranking.estimates import FEWEST
from ghn_init.ranking.prepare import prepare
from ghn_init.ranking.progress import Progress
from ghn_init.ranking.rank import ranking_of
from ghn_init.ranking.ranking import Ranked, Ranking
from ghn_init.training.families import FAMILIES
from ghn_init.training.spaces import Architecture

if TYPE_CHECKING:
    import optuna

T = TypeVar("T")
METHODS = ("random", "evolution", "tpe")
_DRAWS = 50
"""Trials for each evaluation that is asked for: repeated and too costly architectures are drawn again."""


def search(
    family: str | Sequence[str],
    data: Any,
    ghn: Any = True,
    *,
    method: str = "evolution",
    evaluations: int | None = 100,
    minutes: float | None = None,
    population: int = 20,
    max_parameters: float | None = None,
    max_flops: float | None = None,
    image_size: int = 32,
    smooth: bool = False,
    seed: int = 0,
    resume: Any = None,
    progress: bool | None = None,
    on_scored: Callable[[Ranked, Architecture], None] | None = None,
    **options: Any,
) -> tuple[Ranking, dict[str, Architecture]]:
    """Look for the architecture with the best score.

    Each random decision of the family's own sampler becomes one parameter of an Optuna trial, so that any
    space that can be drawn from can be searched.

    Args:
        family: Name in :data:`ghn_init.training.families.FAMILIES`, or several.
        data: As for :func:`ghn_init.rank`.
        ghn: As for :func:`ghn_init.rank`.
        method: ``random``; ``evolution``, a genetic algorithm (NSGA-II with one objective); or ``tpe``, a
            tree-structured Parzen estimator.
        evaluations: How many different architectures to score at most.
        minutes: When to stop; the architecture under way is finished.
        population: Of the evolution.
        max_parameters: Largest number of parameters; others are not scored and do not count.
        max_flops: Largest number of floating-point operations of one forward pass.
        image_size: Side of the images in pixels.
        smooth: Smooth the final scores, as for :func:`ghn_init.rank`; the search itself goes by plain ones.
        seed: Of the search.
        resume: File that keeps what was scored; an interrupted search goes through it again without scoring.
        progress: As for :func:`ghn_init.rank`.
        on_scored: Called with each result and its architecture.
        **options: Further arguments of :func:`ghn_init.rank`: ``images``, ``steps``, ...

    Returns:
        The ranking of all that was scored, and name → architecture, which :func:`ghn_init.ranking.train_best`
        trains the best of.

    Raises:
        ConfigError: The family or the method is unknown, or there is no budget.
    """
    if evaluations is None and minutes is None:
        raise ConfigError("a search needs a budget: evaluations=, minutes= or both")
    if smooth and evaluations is not None and evaluations < FEWEST:
        raise ConfigError(f"smoothing needs at least {FEWEST} candidates, and evaluations is {evaluations}")
    families = _known(family)
    budget = {"max_parameters": max_parameters, "max_flops": max_flops, "image_size": image_size}
    sampler = _sampler(method, population, seed)
    task = prepare(data, ghn, seed=seed, **options)
    journal = Progress(resume, {**task.settings, "families": list(families), "method": method})
    journal.read()
    with progress_bar(total=evaluations, unit="architecture", show=progress) as bar:

        def scored(entry: Ranked, architecture: Architecture) -> None:
            bar.update()
            if on_scored is not None:
                on_scored(entry, architecture)

        run = _Search(families, budget, task, journal, evaluations, scored)
        _optimize(run, sampler, minutes)
    if not run.found:
        raise ConfigError(
            f"no architecture of {', '.join(families)} within {budget} was found: widen the budget"
        )
    rows = [journal.rows[name] for name in run.found]
    return ranking_of(rows, task, smooth=smooth, families=list(families), method=method), run.found


def _known(family: str | Sequence[str]) -> tuple[str, ...]:
    families = (family,) if isinstance(family, str) else tuple(family)
    unknown = [name for name in families if name not in FAMILIES]
    if unknown or not families:
        raise ConfigError(f"unknown family {', '.join(unknown) or '(none)'!r}; known: {', '.join(FAMILIES)}")
    return families


@dataclass
class _Search:
    """What is searched, and what was scored so far."""

    families: Sequence[str]
    budget: Mapping[str, Any]
    task: Task
    journal: Progress
    evaluations: int | None
    on_scored: Callable[[Ranked, Architecture], None]
    found: dict[str, Architecture] = field(default_factory=dict)

    def score(self, trial: optuna.Trial) -> float:
        """Score of the architecture that a trial draws; one that is outside of the budget is pruned."""
        import optuna

        family = self.families[0]
        if len(self.families) > 1:
            family = trial.suggest_categorical("family", self.families)
        drawn = Architecture(family, FAMILIES[family].sample(TrialRandom(trial, family)))
        (candidate,) = candidates([drawn])
        name = candidate.name
        if name not in self.found:
            if not fits(drawn, **self.budget):
                raise optuna.TrialPruned
            if name not in self.journal.rows:
                row = assess(candidate, self.task)
                self.journal.add({key: row[key] for key in ("entry", "right", "features")})
            self.found[name] = drawn
            self.on_scored(Ranked(**self.journal.rows[name]["entry"]), drawn)
        if self.evaluations is not None and len(self.found) >= self.evaluations:
            trial.study.stop()
        entry = self.journal.rows[name]["entry"]
        if entry["error"] is not None:
            raise optuna.TrialPruned
        return entry["score"]


def _optimize(run: _Search, sampler: optuna.samplers.BaseSampler, minutes: float | None) -> None:
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.optimize(
            run.score,
            n_trials=None if run.evaluations is None else _DRAWS * run.evaluations,
            timeout=None if minutes is None else 60 * minutes,
        )
    finally:
        optuna.logging.set_verbosity(verbosity)


def _sampler(method: str, population: int, seed: int) -> optuna.samplers.BaseSampler:
    with needed("rank", "a search"):
        from optuna import samplers

    if method == "random":
        return samplers.RandomSampler(seed=seed)
    if method == "evolution":
        return samplers.NSGAIISampler(population_size=population, seed=seed)
    if method == "tpe":
        return samplers.TPESampler(seed=seed)
    raise ConfigError(f"unknown method {method!r}; known: {', '.join(METHODS)}")


class TrialRandom(Random):
    """A source of randomness whose decisions an Optuna trial takes: the k-th one is the parameter ``"k..."``.

    A decision's parameter is named by the family, its position and its kind, so that a decision that stands
    for something else in another architecture is another parameter.
    """

    def __new__(cls, trial: optuna.Trial, family: str) -> TrialRandom:
        """Before Python 3.11 the base takes no arguments of its own here."""
        return super().__new__(cls)

    def __init__(self, trial: optuna.Trial, family: str) -> None:
        super().__init__(0)
        self._trial, self._family, self._position = trial, family, 0

    def _name(self, kind: str) -> str:
        self._position += 1
        return f"{self._family} {self._position}: {kind}"

    def random(self) -> float:
        """A number in [0, 1)."""
        return self._trial.suggest_float(self._name("real"), 0.0, 1.0 - 1e-9)

    def uniform(self, a: float, b: float) -> float:
        """A number in [a, b]."""
        return a + (b - a) * self.random()

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        """A whole number of ``range(start, stop, step)``."""
        options = range(start) if stop is None else range(start, stop, step)
        return options[self._trial.suggest_int(self._name(f"of {len(options)}"), 0, len(options) - 1)]

    def randint(self, a: int, b: int) -> int:
        """A whole number in [a, b]."""
        return self.randrange(a, b + 1)

    def choice(self, seq: Sequence[T]) -> T:  # type: ignore[override]
        """One of a sequence."""
        return seq[self.randrange(len(seq))]

    def choices(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, population: Sequence[T], weights: Any = None, *, k: int = 1, **_: Any
    ) -> list[T]:
        """One of a sequence, ``k`` times; weights do not bind a search."""
        return [self.choice(population) for _ in range(k)]

    def sample(self, population: Sequence[T], k: int, **_: Any) -> list[T]:  # type: ignore[override]
        """``k`` different ones of a sequence."""
        left = list(population)
        return [left.pop(self.randrange(len(left))) for _ in range(k)]
