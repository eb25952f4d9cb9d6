"""The torch-function mode that runs each operation without weights and emits its fx node."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors

from ghn_init.errors import TraceError
from ghn_init.tracing.control import call_operator, is_control
from ghn_init.tracing.execution import Execution, makes_few
from ghn_init.tracing.guesses import Guesses
from ghn_init.tracing.shapes import ShapeCache
from ghn_init.tracing.special import PLAIN_ANSWERS, SPECIAL
from ghn_init.tracing.transforms import call_inside, transforming
from ghn_init.tracing.values import (
    Binding,
    StandIns,
    aliased,
    as_size,
    bind,
    binding_of,
    describe,
    elements_held,
    fx_argument,
    map_tensors,
    storage_key,
    tensors_in,
    wrapped_in,
)

# Values above this many elements are not computed; only index arithmetic and masks need them.
KNOWN_ELEMENTS = 1 << 20
_INDEXING = (Tensor.__getitem__, Tensor.__setitem__, torch.index_put, Tensor.index_put, Tensor.index_put_)
# Lengths of packed sequences are sizes.
_SIZED = (torch._pack_padded_sequence, torch._pad_packed_sequence)  # type: ignore[attr-defined]


class Recorder(TorchFunctionMode):
    """Emits one fx node per torch function that returns or writes tensors.

    Args:
        stack: Paths of the modules whose forward is running; kept up to date by the meta copy.
        originals: ``id`` of a tensor of the user's model → its twin in the copy.
        stand_ins: How tensors without values are made.
        guesses: Answers to questions about values that nobody computed.
    """

    def __init__(
        self, stack: list[str], originals: Mapping[int, Tensor], stand_ins: StandIns, guesses: Guesses
    ) -> None:
        super().__init__()
        self.graph = fx.Graph()
        self.stack = stack
        self.originals = originals
        self.stand_ins = stand_ins
        self.guesses = guesses
        self.time = 0
        self.written: dict[int, tuple[int, fx.Node, bool, Tensor]] = {}
        self.inside: dict[int, Tensor] = {}
        self.generator = torch.Generator().manual_seed(0)
        self.constructors = _device_constructors()
        self.failure: tuple[BaseException, str] | None = None
        self._shapes = ShapeCache()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "__get__":
            return self._get(func, args[0])
        if transforming():
            return call_inside(self, func, args, kwargs)
        if is_control(func):
            return call_operator(self, func, args, kwargs)
        if func in PLAIN_ANSWERS:
            return func(*args, **kwargs)
        special = SPECIAL.get(func)
        try:
            if special is not None:
                return special(self, func, args, kwargs)
            return self.call(func, args, kwargs)
        except Exception as error:
            if self.failure is None or self.failure[0] is not error:
                self.failure = (error, describe(func, args, kwargs))
            raise

    def _get(self, func: Any, tensor: Tensor) -> Any:
        """Read a property of a tensor."""
        name = func.__self__.__name__
        if name == "device":
            return torch.device("cpu")
        if name in ("is_meta", "is_cpu"):
            return name == "is_cpu"
        value = func(tensor)
        if not isinstance(value, Tensor):
            return value
        if transforming():
            return call_inside(self, getattr, (tensor, name), {})
        return self.call(getattr, (tensor, name), {})

    def link(self, tensor: Tensor) -> Binding:
        """The tensor's binding, with a node, brought up to date with in-place writes through other views.

        Raises:
            TraceError: The tensor was made by code that torch functions do not see.
        """
        binding = binding_of(tensor)
        if binding is None:
            binding = self._adopt(tensor)
        if binding.node is None:
            binding.node = self.graph.create_node("get_attr", binding.slot or "constant")
            binding.node.meta.update(shape=tuple(tensor.shape), dtype=tensor.dtype, module=self.stack[-1])
        if self.written:
            self._refresh(tensor, binding)
        return binding

    def _adopt(self, tensor: Tensor) -> Binding:
        """Binding of a tensor that no recorded operation made; parameters among them are constants."""
        original = self.originals.get(id(tensor))
        if original is not None:
            binding = self.link(original)
            return Binding(binding.node, binding.time, known=False, twin=original)
        if self.stand_ins.made(tensor) and not isinstance(tensor, nn.Parameter):
            inside = self.inside.get(storage_key(tensor))
            if inside is not None:
                bind(tensor, self.link(inside))
                return self.link(inside)
            raise TraceError(
                f"A tensor of shape {tuple(tensor.shape)} was made where operations cannot be recorded "
                "(scripted or compiled code, another thread, or a C++ extension) in module "
                f"{self.stack[-1] or '(the model itself)'!r}"
            )
        for part in wrapped_in(tensor):
            if not self.link(part).known:
                bind(tensor, Binding(self.link(part).node, self.time, known=False))
                return self.link(tensor)
        known = tensor.device.type == "cpu" and not self.stand_ins.made(tensor)
        binding = Binding(None, self.time, known=known, slot="constant")
        bind(tensor, binding)
        return binding

    def _refresh(self, tensor: Tensor, binding: Binding) -> None:
        for view in (tensor, binding.twin):
            last = None if view is None else self.written.get(storage_key(view))
            if last is None or last[0] <= binding.time:
                continue
            time, node, known, _ = last
            binding.time, binding.known = time, binding.known and known
            if node.meta.get("shape") == tuple(tensor.shape):
                binding.node = node
            else:
                binding.node = self.emit(aliased, (binding.node, node), {})
                binding.node.meta.update(shape=tuple(tensor.shape), dtype=tensor.dtype)

    def emit(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> fx.Node:
        """Append a call_function node; arguments are in fx form."""
        node = self.graph.create_node("call_function", func, name=getattr(func, "__name__", "operation"))
        # Given to create_node, they would be searched for symbolic sizes, which there are none of.
        node.args = args
        if kwargs:
            node.kwargs = kwargs
        node.meta["module"] = self.stack[-1]
        return node

    def nodes_of(self, value: Any) -> Any:
        """Arguments in fx form."""

        def node_of(tensor: Tensor) -> fx.Node:
            node = self.link(tensor).node
            assert node is not None
            return node

        return fx_argument(value, node_of)

    def call(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        run: Callable[..., Any] | None = None,
        known: bool = True,
    ) -> Any:
        """Run one torch function, on values where all are known, else on stand-ins, and emit its node.

        Args:
            func: The function to put into the graph.
            args: Its arguments, as the model gave them.
            kwargs: Its keyword arguments.
            run: What to run instead of ``func``.
            known: Whether the value may be computed.
        """
        inputs = tensors_in((args, kwargs)) if kwargs else tensors_in(args)
        self.time += 1
        links = {id(tensor): self.link(tensor) for tensor in inputs}
        known = known and all(link.known for link in links.values())
        if known and sum(tensor.numel() for tensor in inputs) > KNOWN_ELEMENTS:
            known = False
        if known and not inputs and func in self.constructors:
            known = makes_few(KNOWN_ELEMENTS, func, args, kwargs)
        key = None
        if inputs and not any(link.known for link in links.values()):
            key = self._shapes.key(func, args, kwargs)
            recalled = None if key is None else self._shapes.recall(key, inputs)
            if recalled is not None:
                self._record(func, args, kwargs, recalled[0], links, recalled[1], False)
                return recalled[0]
        execution = Execution(self.stand_ins, self.constructors, run or func, inputs, links, known)
        if func in _INDEXING or func in _SIZED:
            execution.real = {id(tensor) for tensor in tensors_in(args[1]) if links[id(tensor)].known}
        result = execution.run(args, kwargs)
        changed = execution.changed
        if key is not None:
            self._shapes.learn(key, inputs, result, changed)
        outputs = tensors_in(result)
        if not changed and all(id(tensor) in links for tensor in outputs):
            return result
        if known and sum(map(elements_held, outputs)) > KNOWN_ELEMENTS and not changed:
            known, result = False, map_tensors(result, self.stand_ins.like)
        self._record(func, args, kwargs, result, links, changed, known)
        return result

    def call_known(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        value: Callable[[], Any],
    ) -> Any:
        """Emit the function's node, and take its value from ``value()``."""
        self.time += 1
        links = {id(tensor): self.link(tensor) for tensor in tensors_in((args, kwargs))}
        result = value()
        self._record(func, args, kwargs, result, links, [], True)
        return result

    def call_fresh(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a factory that takes another tensor's shape, dtype and device but not its value.

        The node gets that tensor's shape instead of the tensor, for no value flows.
        """
        if not (args and isinstance(args[0], Tensor)) or any(
            not self.link(tensor).known for tensor in tensors_in((args[1:], kwargs))
        ):
            return self.call(func, args, kwargs)
        like, shape = args[0], tuple(args[0].shape)
        args = (like, *map_tensors(args[1:], as_size))
        with self.stand_ins.context():
            empty = torch.empty((1,) * len(shape), dtype=like.dtype, device=self.stand_ins.device).expand(
                shape
            )
            options = {**kwargs, "device": self.stand_ins.device} if "device" in kwargs else kwargs
            size = func(empty, *args[1:], **options).numel()
        known = size <= KNOWN_ELEMENTS

        def run(_: Any, *rest: Any, **more: Any) -> Any:
            device = torch.device("cpu") if known else self.stand_ins.device
            template = torch.empty((1,) * len(shape), dtype=like.dtype, device=device).expand(shape)
            return func(template, *rest, **more)

        return self.call(func, (shape, *args[1:]), kwargs, run=run, known=known)

    def _record(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        result: Any,
        links: dict[int, Binding],
        changed: list[Tensor],
        known: bool,
    ) -> None:
        node = self.emit(func, self.nodes_of(args), self.nodes_of(kwargs))
        if isinstance(result, Tensor):
            node.meta.update(shape=tuple(result.shape), dtype=result.dtype)
            if id(result) not in links:
                self._bind(result, node)
        else:
            self._unpack(node, result, links)
        for tensor in changed:
            self._wrote(tensor, links[id(tensor)], node, known)

    def _bind(self, tensor: Tensor, node: fx.Node) -> None:
        """Link a result, and what shares its memory by means that no mode sees (``as_subclass``)."""
        known = not self.stand_ins.made(tensor)
        bind(tensor, Binding(node, self.time, known=known))
        if not known:
            self.inside[storage_key(tensor)] = tensor

    def _unpack(self, node: fx.Node, result: Any, links: Mapping[int, Any]) -> None:
        """Bind each output of a node with several to its own ``getitem`` node."""
        if not isinstance(result, (tuple, list, dict)):
            return
        items = list(result.items() if isinstance(result, dict) else enumerate(result))
        node.meta["shapes"] = [tuple(each.shape) if isinstance(each, Tensor) else None for _, each in items]
        for key, value in items:
            if not any(id(tensor) not in links for tensor in tensors_in(value)):
                continue
            item = self.emit(operator.getitem, (node, key), {})
            if isinstance(value, Tensor):
                item.meta.update(shape=tuple(value.shape), dtype=value.dtype)
                self._bind(value, item)
            else:
                self._unpack(item, value, links)

    def _wrote(self, tensor: Tensor, link: Binding, node: fx.Node, known: bool) -> None:
        """Note an in-place write: the tensor and every view of its storage now hold a new value."""
        node.meta.setdefault("shape", tuple(tensor.shape))
        node.meta.setdefault("dtype", tensor.dtype)
        link.node, link.time, link.known = node, self.time, link.known and known
        for view in (tensor, link.twin):
            if view is not None:
                # The view is kept so that the storage's address stays its own.
                self.written[storage_key(view)] = (self.time, node, link.known, view)
