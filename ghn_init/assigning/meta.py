"""Give memory to a model built on the meta device: predicted parameters, kept ones, buffers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from ghn_init.assigning.constructed import unsaved_values
from ghn_init.assigning.deferred import Pending
from ghn_init.assigning.journal import Journal
from ghn_init.assigning.targets import check_fit, fill
from ghn_init.errors import AssignError
from ghn_init.parallel import copy_undistributed, is_distributed, local_part, shard_like, with_memory

logger = logging.getLogger("ghn_init")

RESETS = ("reset_parameters", "_reset_parameters")
"""Methods by which a torch module gives its own tensors their initial values."""

MODEL_RESET = "_init_weights"
"""Method by which a model (of transformers, timm and others) gives those of one of its modules theirs."""


class MetaTarget:
    """A parameter on the meta device, which gets its memory when it gets its value."""

    def __init__(self, name: str, model: nn.Module, tensor: Tensor, device: torch.device) -> None:
        self.name, self.model, self.tensor, self.device = name, model, tensor, device

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """The parameter on the meta device."""
        return (self.tensor,)

    def write(self, value: Tensor | Pending, journal: Journal) -> str | None:
        """Replace the parameter, under all its names, by one that holds ``value``."""
        check_fit(self.name, value, self.tensor)
        memory = with_memory(self.tensor, self.device)
        if isinstance(value, Tensor):
            fill(value, memory)
        else:
            _spell_out(value, memory)
        adopt(self.model, self.tensor, memory, journal)
        return None

    def allocate(self, journal: Journal) -> None:
        """Give memory to the parameter of which this process holds no element."""
        adopt(self.model, self.tensor, with_memory(self.tensor, self.device), journal)


def _spell_out(value: Pending, memory: Tensor) -> None:
    """Fill memory without a second tensor of its size: large ones in turn with it leave holes in the heap."""
    plain = type(memory) in (Tensor, nn.Parameter) and memory.device == value.block.device
    copies = value.copies_to(memory.detach()) if plain else None
    if copies is None:
        fill(value.tensor(), memory)
        return
    for part, block in copies:
        part.copy_(block)


def adopt(model: nn.Module, old: Tensor, memory: Tensor, journal: Journal) -> None:
    """Replace ``old`` by ``memory`` wherever the model holds it, so that ties are kept."""
    new = memory
    if isinstance(old, nn.Parameter):
        if type(old) is not nn.Parameter and not is_distributed(old):
            raise AssignError(f"cannot give memory to a {type(old).__name__} on the meta device")
        new = nn.Parameter(memory, requires_grad=old.requires_grad)
        for key in vars(old).keys() - vars(new).keys():
            setattr(new, key, getattr(old, key))
    for module, key in list(_holders(model, old)):
        journal.save_attribute(module, key)
        setattr(module, key, new)
    if not isinstance(old, nn.Parameter):
        for module in model.modules():
            for key in [key for key, held in vars(module).items() if held is old]:
                journal.save_attribute(module, key)
                vars(module)[key] = new


def materialise_rest(model: nn.Module, device: torch.device, journal: Journal) -> list[str]:
    """Give every tensor left on the meta device the value that its module's reset gives it.

    Buffers that are not saved, and that no reset fills, get what their module's constructor computes. What
    neither fills stays on the meta device, where any use of it fails loudly. Of sharded tensors one module's
    are whole at a time: a reset draws whole tensors, the same ones on every rank.

    Returns:
        Names of the tensors that stay on the meta device.
    """
    modules = dict(model.named_modules())
    for path, module in modules.items():
        if any(tensor.is_meta for tensor in _own(module).values()):
            above = [modules[each] for each in _ancestors(path) if each in modules]
            for values in (_reset_values, unsaved_values):
                for key, memory in values(module, above, device).items():
                    old = _own(module)[key]
                    if old.is_meta:
                        memory = _sharded_like(memory.to(device, old.dtype), old, device)
                        adopt(model, old, memory, journal)
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    return [name for name, tensor in named if tensor.is_meta]


def _ancestors(path: str) -> Iterator[str]:
    """Paths of the modules that contain the one at ``path``, innermost first."""
    while path:
        path = path.rpartition(".")[0]
        yield path


def _reset_values(module: nn.Module, above: list[nn.Module], device: torch.device) -> dict[str, Tensor]:
    """What a reset writes into the module's own tensors; those that none fills are left out.

    The module's reset and then its model's run on a twin: the module's own values, and those of its
    children, are not touched.
    """
    twin = _twin(module, device)
    for method in RESETS:
        reset = getattr(twin, method, None)
        if callable(reset):
            reset()
            break
    for ancestor in above:
        if callable(reset := getattr(ancestor, MODEL_RESET, None)):
            _try(reset, twin)
            break
    return {key: tensor.detach() for key, tensor in _own(twin).items() if not _is_unset(tensor)}


def _try(reset: Callable[[nn.Module], object], twin: nn.Module) -> None:
    try:
        reset(twin)
    except Exception as error:  # noqa: BLE001 - a method of that name may do and take anything
        logger.debug("%s.%s failed: %s", type(twin).__name__, MODEL_RESET, error)


def _twin(module: nn.Module, device: torch.device) -> nn.Module:
    tensors = [*module.parameters(), *module.buffers()]
    memo = {id(t): _whole_like(t, torch.device("meta")) for t in tensors}
    for tensor in _own(module).values():
        memo[id(tensor)] = _mark_unset(_whole_like(tensor, device))
    memo = {
        key: nn.Parameter(memo[key], requires_grad=False) if isinstance(tensor, nn.Parameter) else memo[key]
        for tensor in tensors
        for key in [id(tensor)]
    }
    return copy_undistributed(module, memo)  # type: ignore[arg-type]


def _whole_like(tensor: Tensor, device: torch.device) -> Tensor:
    if is_distributed(tensor):
        return torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
    return torch.empty_like(tensor, device=device, requires_grad=False)


def _sharded_like(value: Tensor, tensor: Tensor, device: torch.device) -> Tensor:
    if not is_distributed(tensor):
        return value
    memory = with_memory(tensor, device)
    local_part(memory).copy_(shard_like(value, tensor))
    return memory


def _mark_unset(tensor: Tensor) -> Tensor:
    if tensor.is_floating_point() or tensor.is_complex():
        return tensor.fill_(float("nan"))
    if tensor.dtype != torch.bool:
        tensor.fill_(torch.iinfo(tensor.dtype).min)
    return tensor


def _is_unset(tensor: Tensor) -> bool:
    if tensor.is_floating_point() or tensor.is_complex():
        return bool(tensor.isnan().any())
    # A mask has no value to spare as a mark, and no module of torch resets one.
    return tensor.dtype == torch.bool or bool((tensor == torch.iinfo(tensor.dtype).min).any())


def _own(module: nn.Module) -> dict[str, Tensor]:
    held = {**module._parameters, **module._buffers}
    return {key: tensor for key, tensor in held.items() if tensor is not None}


def _holders(model: nn.Module, tensor: Tensor) -> Iterator[tuple[nn.Module, str]]:
    for module in model.modules():
        for key, held in _own(module).items():
            if held is tensor:
                yield module, key
