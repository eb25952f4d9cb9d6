"""The whole pipeline: which GHN, the model's graph, its prediction, the write, the report."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from ghn_init.accounting import account, check_state, names_left_out, notes
from ghn_init.assign import Journal, agreeing, bind, own_value, write
from ghn_init.blending import Blend, blended
from ghn_init.default import resolve_ghn
from ghn_init.ghn import GHN
from ghn_init.ghn.plan import Head, Plan
from ghn_init.graph import ArchGraph
from ghn_init.isolation import Surroundings, own_generators, plain_settings
from ghn_init.report import GHNSource, InitReport, Response, by_reason, remember, remembered
from ghn_init.response import Far, measure_response
from ghn_init.tensor_statistics import changes, measure_parameters
from ghn_init.tracing.leaf import Leaves
from ghn_init.tracing.trace import Method, OnUntraceable, trace
from ghn_init.wrappers import unwrapped

logger = logging.getLogger("ghn_init")

GHNLike: TypeAlias = "bool | str | os.PathLike[str] | GHN"
Only: TypeAlias = "Collection[str] | Callable[[str], bool] | None"


def apply(
    model: nn.Module,
    ghn: GHNLike = True,
    *,
    example_inputs: Any = None,
    graph: ArchGraph | None = None,
    head: Head = "auto",
    blend: float | Blend = 1.0,
    seed: int = 0,
    only: Only = None,
    materialize: bool | str | torch.device = False,
    method: Method = "auto",
    leaf: Leaves = None,
    on_untraceable: OnUntraceable = "raise",
    far: Far = "ignore",
    device: torch.device | str | int | None = None,
    statistics: bool = False,
    **hub: Any,
) -> InitReport:
    """Initialise a model in place with weights that a GHN predicts.

    All or nothing: on any error, an interrupt included, the model is bit-equal to what it was. The
    same GHN and model give the same bits, on any number of threads, processes and ranks. The model is
    never run (with ``far=``, a copy of it is); torch settings are as before, and so are the random
    generators (where other threads run meanwhile, a forward that draws random numbers may advance them).
    Parameters keep their identity, device, dtype, ``requires_grad`` and optimiser state.

    Args:
        model: Any module; ``torch.compile`` and data-parallel wrappers are seen through.
        ghn: ``True`` for the default GHN, a Hub id, a path, ``"bundled"``, or a :class:`ghn_init.GHN`; see
            :func:`ghn_init.default.resolve_ghn`.
        example_inputs: What the model's forward takes, as for :func:`ghn_init.trace`; found for most
            models.
        graph: The model's graph from :func:`ghn_init.trace`, where it is at hand or was made before the model
            was sharded; traced with the convention that the GHN's ``config.graph_convention`` names.
        head: ``auto`` predicts a classifier only if its class count is the GHN's; ``predict`` always;
            ``keep`` never.
        blend: Share of the prediction in what is written, the rest being the model's own values (0 leaves the
            model as it is), or a :class:`ghn_init.blending.Blend` that says more: base, scale, noise.
        seed: Of what is drawn rather than predicted (rows for class tokens, the base of a blend).
        only: Names of the parameters that may change, or a function that tells them; default all.
            A model with adapters (LoRA) is refused without it: adapters must start as they are.
        materialize: Give memory to a model on the meta device: on the CPU, or on this device.
        method: How to trace; see :func:`ghn_init.trace`.
        leaf: Modules that tracing does not enter, as for :func:`ghn_init.trace`.
        on_untraceable: ``keep`` initialises what tracing reached; the rest keeps its values and is listed
            with the error.
        far: What to do with an image classifier that is far from what the GHN was trained on, as told by what
            its prediction makes of a few synthetic images (:func:`ghn_init.response.measure_response`; a copy
            of the model is run on them): ``ignore`` does not look, ``warn`` says so in the log, ``keep``
            leaves the model as it is, too.
        device: Where a GHN that is loaded here runs; a GHN passed as an object stays where it is.
        statistics: Measure every parameter before and after, for :attr:`InitReport.statistics` and the
            pictures of :meth:`InitReport.to_html`. What is written is the same.
        **hub: ``filename, revision, token, cache_dir, local_files_only, force_download, subfolder`` for a GHN
            on the Hub.

    Returns:
        What was done to every parameter.

    Raises:
        GHNInitError: One of its children says what failed, where, and what to do.
    """
    clock = Clock()
    inner = unwrapped(model)
    mixture = Blend.of(blend)
    around = Surroundings()
    with Journal() as journal, journal, around, around, agreeing(model) as ballot:
        check_state(inner, only)
        with plain_settings(), clock("load"):
            loaded = resolve_ghn(ghn, device=device, **hub)
        with plain_settings(), own_generators(seed):
            with clock("trace"):
                graph = graph or _graph_of(inner, loaded, example_inputs, method, leaf, on_untraceable)
            response = _response(inner, loaded, graph, example_inputs, seed, far, clock)
            with clock("plan"):
                left_out, plan = _planned(inner, loaded, graph, head, only, response, far)
                binding = bind(inner, plan.predicted, materialize=materialize)
                ballot.compare(lambda: (_fingerprint(loaded), graph.to_dict(), plan, seed, mixture))
            measured = [measure_parameters(inner)] if statistics else []
            with clock("predict and write"), _evaluating(loaded):
                skip = {*left_out, *binding.skipped, *binding.shares, *binding.elsewhere}
                journal.defers = not statistics
                if mixture.is_bare:
                    groups = loaded.iter_fitted(graph, head=head, seed=seed, skip=skip)
                else:
                    groups = loaded.iter_groups(graph, head=head, seed=seed, skip=skip)
                    groups = blended(groups, mixture, graph, partial(own_value, binding), seed)
                outcome = write(binding, groups, journal=journal)
            measured += [measure_parameters(inner)] if statistics else []
            report = InitReport(
                **account(binding, outcome, plan, graph),
                ghn=GHNSource(loaded.source, loaded.commit),
                graph=graph,
                timings=clock.seconds,
                notes=notes(inner, outcome),
                model=type(inner).__name__,
                statistics=changes(*measured) if statistics else {},
                response=response,
            )
        _log(report, asked=left_out)
        journal.save_step(remembered(inner))
        remember(inner, report)
    return report


def predict(
    model: nn.Module | ArchGraph,
    ghn: GHNLike = True,
    *,
    example_inputs: Any = None,
    head: Head = "auto",
    seed: int = 0,
    only: Only = None,
    method: Method = "auto",
    leaf: Leaves = None,
    on_untraceable: OnUntraceable = "raise",
    device: torch.device | str | int | None = None,
    **hub: Any,
) -> dict[str, Tensor]:
    """Predict a model's weights without touching the model, which may be on the meta device.

    Args:
        model: A module, or its graph from :func:`ghn_init.trace` (traced with the GHN's own
            ``config.graph_convention``).
        ghn: As for :func:`apply`, like all other arguments.

    Returns:
        Name → tensor of the parameter's shape, on the GHN's device and in its dtype. Names are those of the
        graph: a tied parameter is listed once, a parametrised one by the name of its attribute.

    Raises:
        GHNInitError: One of its children says what failed, where, and what to do.
    """
    with plain_settings():
        loaded = resolve_ghn(ghn, device=device, **hub)
    with plain_settings(), own_generators(seed):
        graph = (
            model
            if isinstance(model, ArchGraph)
            else _graph_of(model, loaded, example_inputs, method, leaf, on_untraceable)
        )
        inner = None if isinstance(model, ArchGraph) else unwrapped(model)
        left_out = names_left_out(inner, graph, only)
        with _evaluating(loaded):
            return loaded.predict(graph, head=head, seed=seed, skip=left_out)


class Clock:
    """Wall-clock seconds of named stages."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time a block as ``stage``."""
        start = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - start


def _graph_of(
    model: nn.Module,
    ghn: GHN,
    example_inputs: Any,
    method: Method,
    leaf: Leaves,
    on_untraceable: OnUntraceable,
) -> ArchGraph:
    return trace(
        model,
        example_inputs,
        method=method,
        convention=ghn.config.graph_convention,
        leaf=leaf,
        on_untraceable=on_untraceable,
    )


def _response(
    model: nn.Module, ghn: GHN, graph: ArchGraph, example_inputs: Any, seed: int, far: Far, clock: Clock
) -> Response | None:
    with clock("response") if far != "ignore" else nullcontext(), _evaluating(ghn):
        return measure_response(model, ghn, graph, example_inputs, seed, far)


def _planned(
    model: nn.Module,
    ghn: GHN,
    graph: ArchGraph,
    head: Head,
    only: Only,
    response: Response | None,
    far: Far,
) -> tuple[frozenset[str], Plan]:
    """What is left out and what is planned: everything and nothing of a far model that is to be kept."""
    left_out = names_left_out(model, graph, only)
    if far != "keep" or response is None or not response.is_far:
        return left_out, ghn.plan(graph, head=head, skip=left_out)
    return frozenset(graph.slots), Plan(
        {}, dict.fromkeys(graph.slots, f"far from the GHN's training: {response}")
    )


def _fingerprint(ghn: GHN) -> tuple[object, ...]:
    """Equal for two GHNs, on any devices, that are built alike and begin with the same numbers."""
    return ghn.config, [parameter.flatten()[:8].tolist() for parameter in ghn.parameters()]


@contextmanager
def _evaluating(ghn: GHN) -> Iterator[None]:
    modes = [(module, module.training) for module in ghn.modules()]
    ghn.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _log(report: InitReport, asked: Collection[str]) -> None:
    logger.info(report.summary)
    unasked = {name: why for name, why in report.kept.items() if name not in asked}
    lines = by_reason({**unasked, **report.skipped})
    if lines:
        logger.warning("%s: these parameters keep the model's own values: %s", report.model, "; ".join(lines))
    if report.response is not None and report.response.is_far:
        logger.warning(
            "%s is far from what %s was trained on (%s): the prediction is likely no better than chance%s",
            *(report.model, report.ghn, report.response),
            " and may train worse than the model's own init" if report.predicted else "; nothing was written",
        )
