"""Records a model's forward as a ``torch.fx.Graph`` by running it on a weightless meta copy."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors

from ghn_init.tracing.meta_copy import make_meta_copy
from ghn_init.tracing.special import SPECIAL
from ghn_init.tracing.values import (
    Binding,
    bind,
    binding_of,
    map_tensors,
    meta_like,
    storage_key,
    tensors_in,
)

KNOWN_ELEMENTS = 1 << 20
_PLAIN = (int, float, bool, str, complex, type(None), torch.dtype, torch.device, torch.layout, torch.memory_format)


@dataclass
class Recording:
    """A recorded forward.

    Attributes:
        graph: Only placeholder, get_attr, call_function and output nodes. ``node.meta`` holds ``shape``,
            ``dtype`` and ``module`` (path of the module whose forward ran the operation); a node with several
            outputs has ``shapes`` instead and is read through ``operator.getitem`` nodes.
        parameters: Canonical name → shape.
        tied: Alias → canonical name.
        name: What was recorded, for people.
    """

    graph: fx.Graph
    parameters: dict[str, tuple[int, ...]]
    tied: dict[str, str] = field(default_factory=dict)
    name: str = ""


def aliased(before: Tensor, written: Tensor) -> Tensor:
    """Target of the node that stands for a view of a storage after an in-place write through another view."""
    del written
    return before


class Recorder(TorchFunctionMode):
    """Emits one fx node per torch function that returns tensors."""

    def __init__(self, stack: list[str], originals: Mapping[int, Tensor]) -> None:
        super().__init__()
        self.graph = fx.Graph()
        self.stack = stack
        self.originals = originals
        self.time = 0
        self.written: dict[int, tuple[int, fx.Node, bool, Tensor]] = {}
        self.device_constructors = _device_constructors()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "__get__":
            return self._get(func, args[0])
        special = SPECIAL.get(func)
        if special is not None:
            return special(self, func, args, kwargs)
        return self.call(func, args, kwargs)

    def _get(self, func: Callable[..., Any], tensor: Tensor) -> Any:
        """Read a property of a tensor."""
        name = func.__self__.__name__  # type: ignore[attr-defined]
        if name == "device":
            return torch.device("cpu")
        if name in ("is_meta", "is_cpu"):
            return name == "is_cpu"
        value = func(tensor)
        if isinstance(value, Tensor):
            return self.call(getattr, (tensor, name), {})
        return value

    def link(self, tensor: Tensor) -> Binding:
        """The tensor's binding, brought up to date with in-place writes through other views."""
        binding = binding_of(tensor)
        if binding is None:
            twin = self.originals.get(id(tensor))
            if twin is not None:
                binding = self.link(twin)
                return Binding(binding.node, binding.time, False, twin)
            binding = Binding(None, self.time, known=not tensor.is_meta, slot="constant")
            bind(tensor, binding)
        if binding.node is None:
            binding.node = self.graph.create_node("get_attr", binding.slot or "constant", name=None)
            binding.node.meta.update(shape=tuple(tensor.shape), dtype=tensor.dtype, module=self.stack[-1])
        if self.written:
            self._refresh(tensor, binding)
        return binding

    def _refresh(self, tensor: Tensor, binding: Binding) -> None:
        for view in (tensor, binding.twin):
            last = self.written.get(storage_key(view)) if view is not None else None
            if last is None or last[0] <= binding.time:
                continue
            binding.time = last[0]
            binding.known = binding.known and last[2]
            if last[1].meta.get("shape") == tuple(tensor.shape):
                binding.node = last[1]
            else:
                binding.node = self._emit(aliased, (binding.node, last[1]), {})
                binding.node.meta.update(shape=tuple(tensor.shape), dtype=tensor.dtype)

    def _emit(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> fx.Node:
        node = self.graph.create_node("call_function", func, args, kwargs)
        node.meta["module"] = self.stack[-1]
        return node

    def call(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run one torch function on known values or meta twins, and emit its node."""
        inputs = list(tensors_in(args))
        if kwargs:
            inputs.extend(tensors_in(kwargs))
        self.time += 1
        links = {id(tensor): self.link(tensor) for tensor in inputs}
        known = all(link.known for link in links.values())
        if known and sum(tensor.numel() for tensor in inputs) > KNOWN_ELEMENTS:
            known = False
        result, back = self._run(func, args, kwargs, inputs, links, known)
        outputs = list(tensors_in(result))
        if not outputs and not back:
            return result
        return self._record(func, args, kwargs, result, links, back, known)

    def _run(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        inputs: list[Tensor],
        links: dict[int, Binding],
        known: bool,
    ) -> tuple[Any, list[Tensor]]:
        """Run the function. Returns its result, and the inputs that it wrote to."""
        device = "cpu" if known else "meta"
        if "device" in kwargs or (not inputs and func in self.device_constructors):
            kwargs = {**kwargs, "device": device}
        back: dict[int, Tensor] = {}

        def stand_in(tensor: Tensor) -> Tensor:
            link = links[id(tensor)]
            if known or (tensor.is_meta and link.twin is None):
                return tensor
            if link.twin is None:
                link.twin = meta_like(tensor)
            back[id(link.twin)] = tensor
            return link.twin

        run_args = map_tensors(args, stand_in)
        run_kwargs = map_tensors(kwargs, stand_in) if kwargs else kwargs
        run_args = tuple(_move(arg, device) for arg in run_args)
        used = [stand_in(tensor) for tensor in inputs]
        versions = [tensor._version for tensor in used]
        result = func(*run_args, **run_kwargs)
        changed = [
            tensor
            for tensor, stand, version in zip(inputs, used, versions, strict=True)
            if stand._version != version
        ]
        if back:
            result = map_tensors(result, lambda tensor: back.get(id(tensor), tensor))
        return result, changed

    def _record(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        result: Any,
        links: dict[int, Binding],
        changed: list[Tensor],
        known: bool,
    ) -> Any:
        outputs = list(tensors_in(result))
        if not changed and all(id(tensor) in links for tensor in outputs):
            return result
        to_node = lambda value: _argument(value, links)  # noqa: E731
        node = self._emit(func, tuple(to_node(arg) for arg in args), {k: to_node(v) for k, v in kwargs.items()})
        if isinstance(result, Tensor):
            node.meta.update(shape=tuple(result.shape), dtype=result.dtype)
            if id(result) not in links:
                bind(result, Binding(node, self.time, known=known and not result.is_meta))
        elif outputs:
            self._unpack(node, result, links, known)
        for tensor in changed:
            self._wrote(tensor, links[id(tensor)], node, known)
        return result

    def _unpack(self, node: fx.Node, result: Any, links: dict[int, Binding], known: bool) -> None:
        """Bind each output of a node with several to its own ``getitem`` node."""
        items = list(result.items()) if isinstance(result, dict) else list(enumerate(result))
        node.meta["shapes"] = [tuple(v.shape) if isinstance(v, Tensor) else None for _, v in items]
        for key, value in items:
            if not isinstance(value, (Tensor, tuple, list, dict)) or not any(True for _ in tensors_in(value)):
                continue
            if isinstance(value, Tensor) and id(value) in links:
                continue
            item = self._emit(operator.getitem, (node, key), {})
            if isinstance(value, Tensor):
                item.meta.update(shape=tuple(value.shape), dtype=value.dtype)
                bind(value, Binding(item, self.time, known=known and not value.is_meta))
            else:
                self._unpack(item, value, links, known)

    def _wrote(self, tensor: Tensor, link: Binding, node: fx.Node, known: bool) -> None:
        """Note an in-place write: the tensor and every view of its storage now hold a new value."""
        node.meta.setdefault("shape", tuple(tensor.shape))
        node.meta.setdefault("dtype", tensor.dtype)
        link.node, link.time, link.known = node, self.time, link.known and known
        for view in (tensor, link.twin):
            if view is not None:
                self.written[storage_key(view)] = (self.time, node, link.known, view)


def _move(argument: Any, device: str) -> Any:
    return torch.device(device) if isinstance(argument, torch.device) else argument


def _argument(value: Any, links: dict[int, Binding]) -> Any:
    """A function's argument in fx form; objects that fx cannot hold become their name."""
    if isinstance(value, Tensor):
        return links[id(value)].node
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, (tuple, list)):
        items = [_argument(item, links) for item in value]
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, dict):
        return {str(key): _argument(item, links) for key, item in value.items()}
    if isinstance(value, slice):
        return slice(*(_argument(item, links) for item in (value.start, value.stop, value.step)))
    if value is Ellipsis or isinstance(value, range):
        return value
    return repr(value)


def record(model: nn.Module, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Recording:
    """Record ``model(*args, **kwargs)``.

    Args:
        model: Any module, on any device; it is neither run nor changed.
        args: Positional inputs; tensors stand for their shape and dtype.
        kwargs: Keyword inputs.

    Returns:
        The recording, without the operations that no output depends on.
    """
    copied = make_meta_copy(model)
    recorder = Recorder(copied.stack, copied.originals)
    inputs = recorder_inputs(recorder, args, kwargs or {})
    with torch.no_grad(), recorder:
        result = copied.module(*inputs[0], **inputs[1])
    outputs = list(tensors_in(result))
    recorder.graph.output(tuple(recorder.link(tensor).node for tensor in outputs))
    _prune(recorder.graph)
    return Recording(recorder.graph, copied.parameters, copied.tied, type(model).__name__)


def recorder_inputs(recorder: Recorder, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """The inputs as placeholders: whole-number tensors keep their value, others become meta."""

    def enter(tensor: Tensor) -> Tensor:
        known = not tensor.is_meta and not tensor.is_floating_point()
        value = tensor.detach().to("cpu", copy=True) if known else meta_like(tensor)
        node = recorder.graph.placeholder("input")
        node.meta.update(shape=tuple(tensor.shape), dtype=tensor.dtype, module="")
        bind(value, Binding(node, 0, known=known))
        return value

    return map_tensors(args, enter), map_tensors(kwargs, enter)


def _prune(graph: fx.Graph) -> None:
    """Drop operations that no output depends on."""
    for node in reversed(graph.nodes):
        if not node.users and node.op not in ("placeholder", "output"):
            graph.erase_node(node)
