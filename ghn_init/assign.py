"""Named tensors into a live model: each parameter's device and dtype, ties once, all or nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ghn_init.assigning.agreement import agreeing
from ghn_init.assigning.binding import Binding, bind, holders
from ghn_init.assigning.deferred import Pending
from ghn_init.assigning.journal import Journal
from ghn_init.assigning.meta import MetaTarget, materialise_rest
from ghn_init.assigning.targets import PlainTarget, RefusedError, check_fit
from ghn_init.errors import AssignError, GHNInitError, PredictionError
from ghn_init.parallel import is_distributed

__all__ = ["Binding", "Journal", "Outcome", "agreeing", "bind", "holders", "own_value", "write"]


@dataclass
class Outcome:
    """What :func:`write` did.

    Attributes:
        written: Names of the tensors written.
        skipped: Name of a tensor → why it could not be written.
        remarks: Name of a tensor → how the weight that the model computes with differs from it.
        left_on_meta: Names of parameters and buffers that nothing could give a value.
    """

    written: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)
    left_on_meta: list[str] = field(default_factory=list)


def write(
    model: nn.Module | Binding,
    groups: Iterable[Mapping[str, Tensor | Pending]],
    *,
    journal: Journal | None = None,
) -> Outcome:
    """Write groups of predicted tensors into a model, in place, all of them or none.

    Parameters keep their identity, device, dtype, ``requires_grad`` and optimiser state. Only one
    group is held at a time. Old values are kept until the last write, in memory and above a limit in a
    temporary file; on any exception, an interrupt included, they are put back. Values that are not spelled
    out are held up to a limit, and all written together when the journal's block ends.

    Args:
        model: A model, or a :class:`Binding`, for which all of ``targets`` must come.
        groups: Mappings of tensor name → value of the parameter's shape, spelled out or not.
        journal: Keeps the old values for longer: what is written is put back if the journal's own block
            raises; default for the time of this call.

    Raises:
        AssignError: A tensor does not fit or cannot be written.
        PredictionError: A value is not finite, or a bound tensor did not come.
    """
    if journal is None:
        with Journal() as journal, journal:
            return write(model, groups, journal=journal)
    outcome = Outcome()
    binding = model if isinstance(model, Binding) else None
    with torch.inference_mode(False), torch.no_grad():
        for group in groups:
            _write_group(binding or bind(model, group), group, journal, outcome)  # type: ignore[arg-type]
            del group  # before the next one is made
        if binding is not None:
            _check_complete(binding, outcome)
            for target in binding.elsewhere.values():
                if isinstance(target, MetaTarget):
                    target.allocate(journal)
            if binding.materialize is not None:
                outcome.left_on_meta = materialise_rest(binding.model, binding.materialize, journal)
    return outcome


def own_value(binding: Binding, name: str) -> Tensor:
    """The values that a model has now where a predicted tensor would be written.

    Raises:
        AssignError: They cannot be read without running the model's own code or asking other processes: the
            tensor is parametrised, offloaded, sharded or on the meta device.
    """
    target = binding.targets[name]
    if not isinstance(target, PlainTarget) or is_distributed(target.tensor):
        raise AssignError(
            f"parameter {name!r} has no values at hand to blend with (it is parametrised, offloaded, sharded "
            "or on the meta device): blend with base='kaiming', or apply before that"
        )
    return target.tensor.detach()


def _write_group(
    binding: Binding, group: Mapping[str, Tensor | Pending], undo: Journal, outcome: Outcome
) -> None:
    for name, value in group.items():
        if name in binding.skipped or name in binding.shares or name in binding.elsewhere:
            continue
        if name not in binding.targets:
            raise AssignError(f"a prediction came for {name!r}, which was not asked for")
        target = binding.targets[name]
        if not isinstance(value, Tensor) and _waits(name, value, target, undo):
            outcome.written.append(name)
            continue
        mark = undo.mark()
        try:
            if isinstance(target, MetaTarget):
                remark = target.write(value, undo)
            else:
                remark = target.write(value if isinstance(value, Tensor) else value.tensor(), undo)
        except RefusedError as refusal:
            undo.rollback(mark)
            outcome.skipped[name] = str(refusal)
            continue
        except GHNInitError:
            raise
        except (RuntimeError, OSError, TypeError, ValueError) as error:
            raise AssignError(
                f"parameter {name!r} of shape {tuple(value.shape)} could not be written, and every value "
                f"written before was put back: {error}"
            ) from error
        outcome.written.append(name)
        if remark is not None:
            outcome.remarks[name] = remark


def _waits(name: str, value: Pending, target: object, undo: Journal) -> bool:
    """Whether a value is put off until all are there; else it must be written now."""
    if not isinstance(target, PlainTarget) or is_distributed(target.tensor):
        return False
    check_fit(name, value, target.tensor)
    return undo.defer(target.tensor, value)


def _check_complete(binding: Binding, outcome: Outcome) -> None:
    missing = binding.targets.keys() - set(outcome.written) - outcome.skipped.keys()
    if missing:
        raise PredictionError(
            f"the GHN gave no value for {len(missing)} of {len(binding.targets)} tensors, "
            f"{min(missing)!r} among them"
        )
