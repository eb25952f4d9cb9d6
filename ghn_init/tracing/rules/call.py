"""One recorded call, as a rule sees it."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from torch import fx

from ghn_init.graph.arch_graph import Role
from ghn_init.tracing.builder import INPUT, GraphBuilder, Shape
from ghn_init.tracing.flow import CONSTANT, Flow, merge, union
from ghn_init.tracing.lookahead import Lookahead, nodes_in
from ghn_init.tracing.rules.functions import CONTRACTION, function_name, is_whole

if TYPE_CHECKING:
    from ghn_init.tracing.conventions import Convention

_NORMS = ("bn", "ln")


class Call:
    """A recorded call of one function, and the means to add its nodes to the graph.

    Attributes:
        node: The recorded ``torch.fx`` node.
        builder: The graph so far.
        ahead: What later operations say about this one.
        convention: How edges are drawn.
    """

    def __init__(
        self,
        node: fx.Node,
        flows: dict[fx.Node, Flow],
        builder: GraphBuilder,
        ahead: Lookahead,
        convention: Convention,
    ) -> None:
        self.node = node
        self.builder = builder
        self.ahead = ahead
        self.convention = convention
        self._flows = flows

    @property
    def op(self) -> str:
        """Short name of the function."""
        return function_name(self.node.target)

    @property
    def module(self) -> str:
        """Path of the module whose forward made the call."""
        return self.node.meta.get("module", "")

    def arg(self, position: int, name: str, default: Any = None) -> Any:
        """An argument as recorded: a ``torch.fx.Node`` for a tensor, else the plain value."""
        if position < len(self.node.args):
            return self.node.args[position]
        return self.node.kwargs.get(name, default)

    def flow(self, value: Any) -> Flow:
        """What an argument carries; of a list, what its items carry together."""
        if isinstance(value, fx.Node):
            return self._flows.get(value, CONSTANT)
        return merge(self._flows.get(node, CONSTANT) for node in nodes_in(value))

    def shape(self, value: Any) -> Shape | None:
        """Shape of a tensor argument, if recorded."""
        if not isinstance(value, fx.Node):
            return ()
        shape = value.meta.get("shape")
        return None if shape is None else tuple(shape)

    def size(self, value: Any) -> int | None:
        """Number of elements of a tensor argument, if recorded."""
        shape = self.shape(value)
        return None if shape is None else prod(shape)

    @property
    def where(self) -> str:
        """The call, for people: the operation and the module that made it."""
        return f"{self.op} in {repr(self.module) if self.module else 'the model itself'}"

    def wire(self, reason: str = "") -> Flow:
        """The call is no primitive: its result carries what its arguments carry.

        Args:
            reason: Why parameters that meet activations here keep their values; by default, that no rule
                tells what they are.
        """
        flows = [self.flow(value) for value in nodes_in((self.node.args, self.node.kwargs))]
        result = merge(flows)
        if result.live:
            for flow in flows:
                self.builder.keep(flow.params if flow.is_param else (), reason or self._unknown())
        return result

    def _unknown(self) -> str:
        if is_whole(self.node):
            return f"only compared with activations ({self.where}): no value of it flows on"
        return f"no rule for {self.where}"

    def emit(
        self, primitive: str, *data: Any, weight: Any = None, bias: Any = None, shape: Shape | None = None
    ) -> Flow:
        """Add a node of a primitive.

        Args:
            primitive: One of the 15 types.
            data: Arguments whose values the node reads. A parameter among them counts as learned activations
                (queries, latents) and becomes a ``pos_enc`` node that feeds this one.
            weight: Argument that holds the weight. If it is computed from activations, it is data; if it is a
                constant, the operation is fixed and, unless it is a norm, counts as wire.
            bias: Argument that holds the bias: a second slot of a norm, else a ``bias`` node of its own.
            shape: ``(1, 1, kh, kw)`` of an operation without parameters that has a window.

        Returns:
            What the result carries.
        """
        held = self.flow(weight)
        shift = self.flow(bias)
        if not held.params and all(self.flow(value).is_param for value in data):
            return merge(self.flow(value) for value in (*data, weight, bias))
        preds = union(self.tokens(value) for value in data)
        if weight is not None and held.live:
            return self.bias(Flow(sources=union((preds, held.sources, shift.sources))), shift)
        if primitive in _NORMS:
            return self._norm(primitive, preds, held, shift)
        if not held.params:
            if weight is not None:
                self.builder.keep(shift.params, f"bias of an operation with a fixed weight ({self.where})")
                return Flow(sources=preds)
            return Flow(sources=(self.builder.node(primitive, preds, shape, self.op, self.module),))
        return self.weighted(primitive, preds or (INPUT,), held, shift)

    def tokens(self, value: Any) -> tuple[int, ...]:
        """Nodes that feed a data argument; learned activations get their node here."""
        flow = self.flow(value)
        if not flow.is_param:
            return flow.feeds
        return union(
            (self.builder.owning("pos_enc", {"weight": name}, (), self.op, self.module),)
            for name in self.builder.main(flow)
        )

    def attention(self, *operands: Any) -> Flow:
        """Add an ``msa`` node fed by queries, keys and values; masks count only where parameters made them.

        A second product with the same attention weights belongs to the node of the first.
        """
        flows = [self.flow(operand) for operand in operands]
        learned = union(
            self.tokens(operand) for operand, flow in zip(operands, flows, strict=True) if flow.is_param
        )
        # Through masks the input reaches attention in some spellings of it only.
        live = union(flow.sources for flow in flows)
        computed = tuple(source for source in live if source != INPUT) or live
        sources = union((learned, computed)) or (INPUT,)
        softmax = self.ahead.attends.get(self.node, self.node)
        known = self.builder.attention.get(softmax)
        if known is not None:
            later = set(sources) - self.builder.drafts[known].preds
            return Flow(sources=tuple(sorted({known, *later})))
        node = self.builder.node("msa", sources, None, self.op, self.module)
        self.builder.attention[softmax] = node
        return Flow(sources=(node,))

    def weighted(self, primitive: str, preds: tuple[int, ...], held: Flow, shift: Flow = CONSTANT) -> Flow:
        """A node for each weight that ``held`` stands for, then one for each bias.

        Of a product of parameters the factors follow each other: ``x (A B)`` is ``(x A) B``. A vector is no
        weight that a GHN decodes.
        """
        names = self._matrices(held)
        if held.kind == "product":
            for name in names if self.node.target in CONTRACTION else reversed(names):
                preds = (self.builder.owning(primitive, {"weight": name}, preds, self.op, self.module),)
            names, built = [], list(preds)
        else:
            built = [
                self.builder.owning(primitive, {"weight": name}, preds, self.op, self.module)
                for name in names
            ]
        result = Flow(sources=union((index,) for index in built), open=built[-1]) if built else Flow(preds)
        return self.bias(result, shift) if shift.params else result

    def _matrices(self, held: Flow) -> list[str]:
        names = list(held.params) if held.kind == "product" else self.builder.main(held)
        matrices = [name for name in names if len(self.builder.parameters[name]) > 1]
        vectors = [name for name in names if name not in matrices]
        self.builder.keep(vectors, f"a vector where a layer has its weight ({self.where})")
        return matrices

    def bias(self, value: Flow, shift: Flow) -> Flow:
        """Plain biases added to a value, one node after the other."""
        sources = value.sources
        for name in self._shifts(shift):
            sources = (self.builder.owning("bias", {"bias": name}, sources, self.op, self.module),)
        return Flow(sources=sources)

    def _shifts(self, shift: Flow) -> list[str]:
        chosen = [name for name in shift.params if self.builder.numel(name) > 1 or len(shift.params) == 1]
        self.builder.keep(
            [name for name in shift.params if name not in chosen],
            f"part of how a bias is computed ({self.where})",
        )
        return chosen

    def offset_norm(self, primitive: str, preds: tuple[int, ...], held: Flow, shift: Flow = CONSTANT) -> Flow:
        """A norm whose weight is ``1 + parameter``: it starts at zero, where no GHN puts it."""
        self.builder.keep(held.params, f"added to a constant before it scales a norm's result ({self.where})")
        preds = preds or (INPUT,)
        if biases := self.builder.main(shift):
            index = self.builder.owning(primitive, {"bias": biases[0]}, preds, self.op, self.module)
        else:
            shape = self.builder.parameters[max(held.params, key=self.builder.numel)]
            index = self.builder.node(primitive, preds, shape, self.op, self.module)
        return Flow(sources=(index,), open=index)

    def _norm(self, primitive: str, preds: tuple[int, ...], held: Flow, shift: Flow) -> Flow:
        if held.kind == "offset":
            return self.offset_norm(primitive, preds, held, shift)
        names: dict[Role, str] = {}
        if weights := self.builder.main(held):
            names["weight"] = weights[0]
        if biases := self.builder.main(shift):
            names["bias"] = biases[0]
        if names:
            index = self.builder.owning(primitive, names, preds or (INPUT,), self.op, self.module)
        elif self.convention.bare_norms:
            index = self.builder.node(primitive, preds, None, self.op, self.module)
            return Flow(sources=(index,), open=index, kind="normalised")
        else:
            return Flow(sources=preds, kind="normalised")
        return Flow(sources=(index,), open=index)
