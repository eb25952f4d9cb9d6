"""Account for every parameter of a model: predicted, kept, or skipped, and why."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from torch import nn
from torch._guards import detect_fake_mode
from torch.nn.modules.batchnorm import _NormBase

from ghn_init.assign import Binding, Outcome, holders
from ghn_init.errors import AssignError, ConfigError
from ghn_init.ghn.plan import Plan
from ghn_init.graph import ArchGraph

UNUSED = "no operation of the traced forward uses it"


def names_left_out(
    model: nn.Module | None, graph: ArchGraph, only: Collection[str] | Callable[[str], bool] | None
) -> frozenset[str]:
    """Tensors of the graph that ``only`` does not allow to change.

    A tensor is allowed if its own name is, or that of a parameter that holds it.

    Raises:
        ConfigError: ``only`` has a name that the model does not.
    """
    if only is None:
        return frozenset()
    allowed = only if callable(only) else _known(model, graph, only).__contains__
    names_of: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False) if model is not None else ():
        names_of.setdefault(id(parameter), []).append(name)
    left_out = set()
    for name in graph.slots:
        held_by = holders(model, name) if model is not None else ()
        if not any(allowed(each) for each in (name, *(n for t in held_by for n in names_of[id(t)]))):
            left_out.add(name)
    return frozenset(left_out)


def check_state(model: nn.Module, only: object) -> None:
    """Refuse a model whose parameters are not the architecture's own, or not here.

    An adapter starts as the identity, which a prediction for it would destroy: the caller must say what may
    change.

    Raises:
        AssignError: There are adapters or learned prompts (as those of peft), or parameters that another
            library holds in pieces (ZeRO-3, FSDP1); or all tensors are fake here.
    """
    if detect_fake_mode() is not None:
        raise AssignError("no tensor has a value inside FakeTensorMode: call apply outside of it")
    for path, module in model.named_modules() if isinstance(model, nn.Module) else ():
        if only is None and _holds_adapters(module):
            raise AssignError(
                f"module {path!r} ({type(module).__name__}) holds adapters, which must start as they are: "
                "apply before adding adapters, or pass only= with the parameters that may change"
            )
        if type(module).__name__ == "FullyShardedDataParallel":
            raise AssignError(
                f"module {path!r} is wrapped in FullyShardedDataParallel, which flattens parameters: apply "
                "before wrapping (sync_module_states=True then sends rank 0's), or use fully_shard"
            )
        for name, parameter in module._parameters.items():
            whole = getattr(parameter, "ds_shape", None)
            if whole is not None and parameter is not None and whole != parameter.shape:
                raise AssignError(
                    f"parameter {name!r} of module {path!r} is partitioned by ZeRO-3: apply on every rank "
                    "inside deepspeed.zero.GatheredParameters(list(model.parameters()), modifier_rank=0), or "
                    "before deepspeed.initialize"
                )


def _holds_adapters(module: nn.Module) -> bool:
    """Whether a module is a layer with adapters beside it, or a model around another with adapters."""
    if hasattr(module, "adapter_layer_names") and hasattr(module, "base_layer"):
        return True
    # Adapters that are no layers: prompts, prefixes, adapted attention. Merged ones leave no configuration.
    return bool(getattr(module, "peft_config", None)) and hasattr(module, "base_model")


def _known(model: nn.Module | None, graph: ArchGraph, only: Collection[str]) -> frozenset[str]:
    names = frozenset([only] if isinstance(only, str) else only)
    known = {*graph.slots, *graph.unreached, *graph.tied}
    if model is not None:
        known.update(name for name, _ in model.named_parameters(remove_duplicate=False))
    if unknown := sorted(names - known):
        raise ConfigError(
            f"only= names {len(unknown)} tensors that the model does not have, {unknown[0]!r} among them"
        )
    return names


def account(binding: Binding, outcome: Outcome, plan: Plan, graph: ArchGraph) -> dict[str, Any]:
    """``predicted``, ``kept``, ``skipped``, ``sizes`` and ``tied`` of an :class:`ghn_init.InitReport`."""
    model = binding.model
    named = dict(model.named_parameters(remove_duplicate=False))
    why_skipped = {**binding.skipped, **outcome.skipped}
    why_kept: dict[int, str] = {}
    for name, reason in {**graph.unreached, **plan.kept}.items():
        why_kept.update((id(tensor), reason) for tensor in holders(model, name))
    predicted: dict[str, int] = {}
    skipped: dict[str, str] = {}
    for tensor, node in plan.predicted.items():
        reason = why_skipped.get(binding.shares.get(tensor, tensor))
        for name in binding.held_by[tensor]:
            if reason is None:
                predicted[name] = node
            else:
                skipped.setdefault(name, reason)
    skipped = {name: reason for name, reason in skipped.items() if name not in predicted}
    kept = {
        name: why_kept.get(id(parameter), UNUSED)
        for name, parameter in named.items()
        if name not in predicted and name not in skipped
    }
    first: dict[int, str] = {}
    tied = {name: first[id(p)] for name, p in named.items() if first.setdefault(id(p), name) != name}
    return {
        "predicted": {name: predicted[name] for name in named if name in predicted},
        "kept": kept,
        "skipped": {name: skipped[name] for name in named if name in skipped},
        "sizes": {name: parameter.numel() for name, parameter in named.items()},
        "tied": tied,
    }


def notes(model: nn.Module, outcome: Outcome) -> tuple[str, ...]:
    """Remarks for people: what the user should know or do next."""
    found = [f"{name}: {remark}" for name, remark in outcome.remarks.items()]
    if outcome.left_on_meta:
        found.append(
            "left on the meta device, for neither a reset nor the constructor of their module gives them a "
            f"value: {', '.join(outcome.left_on_meta)}"
        )
    running = sum(isinstance(m, _NormBase) and m.running_mean is not None for m in model.modules())
    if running:
        found.append(
            f"running statistics of {running} normalisation layers are not predicted: call "
            "ghn_init.calibrate_batchnorm(model, loader) before evaluating, or train first"
        )
    return tuple(found)
