"""Random models: a description, from which a module is built under any names, registered in any order."""

from __future__ import annotations

import copy
import math
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import torch
from fuzz_layers import DECORATIONS, build_layer, decorate, proposals, size
from fuzz_ops import OPS, propose_op, propose_pair, propose_raw
from torch import Tensor, nn

MOST_ELEMENTS = 20_000
MOST_PARAMETERS = 500_000
"""Of a layer's matrix: an orthogonal weight with thousands of rows takes hours to build."""


@dataclass(frozen=True)
class Part:
    """A layer, a raw parameter or a block of steps, and the container that it is registered in."""

    key: str
    kind: str
    arguments: dict[str, Any]
    home: int = 0
    decoration: str = ""
    tied_to: str = ""
    state: str = ""


@dataclass(frozen=True)
class Step:
    op: str
    inputs: tuple[int, ...]
    part: str = ""
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Input:
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    plain: int | None = None

    def make(self, seed: int) -> Any:
        if self.plain is not None:
            return self.plain
        generator = torch.Generator().manual_seed(seed)
        if self.dtype.is_floating_point:
            return torch.randn(self.shape, generator=generator).to(self.dtype)
        return torch.randint(0, 30, self.shape, generator=generator)


@dataclass(frozen=True)
class Description:
    """A model without names: containers, parts in them, steps of the forward.

    Attributes:
        containers: Kind and parent of each; 0 is the model itself.
        inputs: What the forward takes.
        passing: ``positional``, ``keyword``, ``dict`` or ``tuple``.
        outputs: Indices of the returned values; inputs count first.
        output: ``tensor``, ``tuple``, ``dict``, ``nested`` or ``list``.
        given: Whether example inputs are passed to the library.
    """

    containers: tuple[tuple[str, int], ...]
    parts: tuple[Part, ...]
    inputs: tuple[Input, ...]
    passing: str
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]
    output: str
    training: bool = False
    given: bool = True

    def example(self) -> Any:
        values = [each.make(index) for index, each in enumerate(self.inputs)]
        if self.passing == "keyword":
            return {f"value{index}": value for index, value in enumerate(values)}
        if self.passing == "dict":
            return ({f"value{index}": value for index, value in enumerate(values)},)
        return (tuple(values),) if self.passing == "tuple" else tuple(values)


ODD_NAMES = (
    *(
        "weight",
        "bias",
        "head",
        "fc",
        "classifier",
        "embed",
        "pos_embed",
        "cls_token",
        "norm",
        "bn",
        "module",
    ),
    *("größe", "with space", "0", "_hidden", "x" * 60, "conv", "attn", "in_proj_weight", "lambda", "gamma"),
    *(
        "weight_g",
        "weight_v",
        "weight_orig",
        "bias_orig",
        "original0",
        "running_mean",
        "_orig_mod",
        "lm_head",
    ),
    *(
        "config",
        "model",
        "encoder",
        "position_ids",
        "downsample",
        "se",
        "q",
        "k",
        "v",
        "-",
        "a-b",
        "__x",
        "10",
    ),
)


@dataclass(frozen=True)
class Naming:
    """Names and order of registration; the default is that of the description."""

    seed: int | None = None
    shuffled: bool = True

    def arrange(self, keys: list[str], scope: str) -> list[tuple[str, str]]:
        """Pairs of key and name, in the order of registration."""
        if self.seed is None:
            return [(key, key) for key in keys]
        rng = Random(f"{self.seed} {scope}")
        fresh = [*rng.sample(ODD_NAMES, min(len(keys), 6)), *(f"n{rng.getrandbits(24)}" for _ in keys)]
        names = rng.sample(list(dict.fromkeys(fresh)), len(keys))
        pairs = list(zip(keys, names, strict=True))
        if self.shuffled:
            rng.shuffle(pairs)
        return pairs


class Fuzzed(nn.Module):
    """The model of a description."""

    def __init__(self, description: Description, naming: Naming | None = None, scope: str = "") -> None:
        super().__init__()
        self.description = description
        self.paths: dict[str, str] = {}
        self._register(naming or Naming(), scope)
        self.train(description.training)

    def _register(self, naming: Naming, scope: str) -> None:
        plan = self.description
        members: dict[int, list[str]] = {index: [] for index in range(len(plan.containers))}
        for index, (_, parent) in enumerate(plan.containers[1:], 1):
            members[parent].append(f"box{index}")
        for part in plan.parts:
            members[part.home].append(part.key)
        built: dict[str, Any] = {"": self}
        made = {part.key: build_part(part, naming, f"{scope}/{part.key}") for part in plan.parts}
        for part in plan.parts:
            if part.tied_to:
                tie(made[part.tied_to], made[part.key])
        prefix = {0: ""}
        for index, (kind, _) in enumerate(plan.containers):
            holder = built["" if index == 0 else f"box{index}"]
            for place, (key, name) in enumerate(naming.arrange(members[index], f"{scope}:{index}")):
                child = made.get(key)
                if child is None:
                    child = built[key] = getattr(nn, plan.containers[int(key[3:])][0])()
                if kind == "ModuleList":
                    name = str(place)
                self.paths[key] = prefix[index] + name
                if key.startswith("box"):
                    prefix[int(key[3:])] = f"{self.paths[key]}."
                register(holder, name, child)

    def part(self, key: str) -> Any:
        holder: Any = self
        for name in self.paths[key].split("."):
            holder = holder._modules[name] if name in holder._modules else holder._parameters[name]
        return holder

    def identities(self) -> Iterator[tuple[str, str]]:
        """What each parameter is in the description, and its name here."""
        for part in self.description.parts:
            path, held = self.paths[part.key], self.part(part.key)
            if isinstance(held, Fuzzed):
                yield from ((f"{part.key}/{i}", f"{path}.{name}") for i, name in held.identities())
            elif isinstance(held, Tensor):
                yield part.key, path
            else:
                named = held.named_parameters(remove_duplicate=False)
                yield from ((f"{part.key}.{name}", f"{path}.{name}") for name, _ in named)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        values = list(kwargs.values()) if kwargs else list(args)
        if len(values) == 1 and isinstance(values[0], (dict, tuple)):
            values = list(values[0].values() if isinstance(values[0], dict) else values[0])
        for step in self.description.steps:
            part = self.part(step.part) if step.part else None
            values.append(perform(step, values, part))
        found = [values[index] for index in self.description.outputs]
        return {
            "tensor": found[0],
            "tuple": tuple(found),
            "dict": dict(enumerate(found)),
            "list": found,
            "nested": {"a": (found[0], [found[-1]]), "n": len(found)},
        }[self.description.output]


def register(holder: nn.Module, name: str, child: Any) -> None:
    if isinstance(holder, nn.ModuleList) and isinstance(child, nn.Module):
        holder.append(child)
    elif isinstance(child, nn.Module):
        holder._modules[name] = child
    else:
        holder._parameters[name] = child


def perform(step: Step, values: list[Any], part: Any) -> Any:
    inputs = [values[index] for index in step.inputs]
    if step.op == "call":
        result = part(*inputs, *step.arguments)
        while isinstance(result, tuple):
            result = result[0]
        return result
    return OPS[step.op](*((part,) if step.part else ()), *inputs, *step.arguments)


def build_part(part: Part, naming: Naming, scope: str) -> Any:
    """The layer or parameter; its values depend on its place in the description only."""
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would format a stack trace for CUDA at each call.
        torch.default_generator.manual_seed(zlib.crc32(scope.encode()))
        if part.kind == "Block":
            return Fuzzed(part.arguments["description"], naming, scope)
        if part.kind == "Parameter":
            return make_parameter(part)
        layer = build_layer(part.kind, part.arguments)
        if part.decoration:
            decorate(layer, part.decoration)
        if part.state == "frozen":
            layer.requires_grad_(False)
        elif part.state == "double":
            layer.double()
        elif part.state == "transposed":
            for module in layer.modules():
                for name, value in list(module._parameters.items()):
                    if value is not None and value.dim() == 2:
                        module._parameters[name] = nn.Parameter(value.detach().t().contiguous().t())
        if naming.seed is not None and naming.shuffled and part.kind not in ("LSTM", "GRU", "RNN"):
            for module in layer.modules():
                names = sorted(module._parameters, key=lambda name: zlib.crc32(f"{naming}{name}".encode()))
                module._parameters = {name: module._parameters[name] for name in names}
        return layer


def too_large(part: Part) -> bool:
    """Whether a layer has a matrix of too many elements to be worth the time."""
    named = {key: size for key, size in part.arguments.items() if type(size) is int}
    sizes = [*named.values(), *(named[key] for key in ("dim", "d_model", "embed_dim") if key in named)]
    if part.decoration == "orthogonal" and sizes:
        sizes.append(max(sizes))
    return math.prod(sorted(sizes)[-2:]) > MOST_PARAMETERS


def make_parameter(part: Part) -> nn.Parameter:
    value = torch.randn(part.arguments["shape"]) * 0.3
    if part.state in ("complex64", "float16", "bfloat16", "int64", "float64", "bool"):
        value = value.to(getattr(torch, part.state))
    if part.state == "transposed" and value.dim() == 2:
        value = value.t().contiguous().t()
    if part.state == "expanded":
        value = value[..., None].expand(*value.shape, 2)
    floating = value.is_floating_point() or value.is_complex()
    return nn.Parameter(value, requires_grad=floating and part.state != "frozen")


def tie(source: Any, other: Any) -> None:
    """Let two layers hold one weight."""
    other._parameters["weight"] = source._parameters["weight"]


def describe(rng: Random, *, most_steps: int = 18, inside: Input | None = None) -> Description:
    """Draw a model; steps that fail in plain torch are drawn again.

    Args:
        rng: Source of every choice.
        most_steps: Steps tried.
        inside: The only input, of a block inside a model.
    """
    return _Drawing(rng, inside).run(most_steps)


IMAGES = [(2, 3, 16, 16), (1, 3, 1, 33), (2, 1, 7, 9), (2, 4, 13, 5), (1, 5, 11, 11)]
OTHERS = [(2, 7, 8), (1, 5, 12), (3, 1, 1), (2, 6), (4, 13), (1, 1), (2, 3, 5, 6, 7), (2, 2, 31), (2, 16, 6)]


class _Drawing:
    """One description under way; every value is computed, so that each step is known to run."""

    def __init__(self, rng: Random, inside: Input | None) -> None:
        self.rng, self.inside = rng, inside
        boxes = [("Module", 0)]
        for index in range(1, rng.choice((1, 1, 2, 4))):
            boxes.append((rng.choice(("Module", "ModuleList", "ModuleDict")), rng.randrange(index)))
        self.containers = tuple(boxes)
        self.parts: dict[str, Part] = {}
        self.built: dict[str, Any] = {}
        self.steps: list[Step] = []
        self.inputs = [inside] if inside else self._inputs()
        self.values: list[Any] = [each.make(index) for index, each in enumerate(self.inputs)]

    def _inputs(self) -> list[Input]:
        rng, shape = self.rng, self.rng.choice(IMAGES + OTHERS)
        found = [Input(shape)]
        if rng.random() < 0.3:
            found = [Input((2, rng.choice((1, 5, 7))), torch.int64)]
        if rng.random() < 0.2:
            found.append(Input(rng.choice((shape, (2, 6)))))
        if rng.random() < 0.1:
            found.append(Input((), plain=3))
        return found

    def run(self, most_steps: int) -> Description:
        for _ in range(self.rng.randint(most_steps // 4, most_steps)):
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")
                self._try(*self._propose())
        rng = self.rng
        for _ in range(rng.choice((0, 0, 0, 1, 2))):
            self._idle()
        floats = [i for i, v in enumerate(self.values) if isinstance(v, Tensor)]
        return Description(
            containers=self.containers,
            parts=tuple(self.parts.values()),
            inputs=tuple(self.inputs),
            passing="positional" if self.inside else rng.choice(("positional", "keyword", "dict", "tuple")),
            steps=tuple(self.steps),
            outputs=(floats[-1], *(rng.sample(floats, 1) if rng.random() < 0.3 else ())),
            output="tensor"
            if self.inside
            else rng.choice(("tensor", "tensor", "tuple", "dict", "list", "nested")),
            training=rng.random() < 0.5,
            given=rng.random() < 0.85,
        )

    def _propose(self) -> tuple[Step, Part | None]:
        rng = self.rng
        tensors = [i for i, v in enumerate(self.values) if isinstance(v, Tensor)]
        index = tensors[-1] if rng.random() < 0.75 else rng.choice(tensors)
        x = self.values[index]
        choice = rng.random()
        if choice < 0.08 and self.parts:
            key = rng.choice(list(self.parts))
            again = [s for s in self.steps if s.part == key]
            return (replace(again[0], inputs=(index,)) if again else Step("clone", (index,))), None
        if choice < 0.2:
            same = [i for i in tensors if i != index and self.values[i].shape == x.shape] or [index]
            op, arguments = propose_pair(rng, x, self.values[other := rng.choice(same)])
            return Step(op, (index, other), arguments=arguments), None
        key = f"part{len(self.parts)}"
        home = rng.randrange(len(self.containers))
        found = proposals(x)
        if choice < 0.36 and x.dim():
            op, shape = propose_raw(rng, x, size(rng))
            home = home if self.containers[home][0] == "Module" else 0
            state = rng.choice(("", "", "", "frozen", "transposed"))
            return Step(op, (index,), key), Part(key, "Parameter", {"shape": shape}, home, state=state)
        if choice < 0.4 and (owner := self._tieable(x)):
            rows, columns = self.built[owner].weight.shape
            arguments = {"in_features": columns, "out_features": rows, "bias": rng.random() < 0.3}
            return Step("call", (index,), key), Part(key, "Linear", arguments, home, tied_to=owner)
        if choice < 0.46 and not self.inside and x.is_floating_point():
            inner = describe(rng, most_steps=5, inside=Input(tuple(x.shape)))
            if inner.parts:
                return Step("call", (index,), key), Part(key, "Block", {"description": inner}, home)
        if choice < 0.6 or not found:
            if not x.is_floating_point():
                return Step("clone", (index,)), None
            op, arguments = propose_op(rng, x)
            return Step(op, (index,), arguments=arguments), None
        kind, arguments = rng.choice(found)(rng, x)
        times = 3 if kind == "MultiheadAttention" else 1
        if kind == "Linear" and rng.random() < 0.05:
            kind, times = "Bilinear", 2
            arguments = {"in1_features": x.shape[-1], "in2_features": x.shape[-1], "out_features": size(rng)}
        return Step("call", (index,) * times, key), Part(key, kind, arguments, home, *self._variation())

    def _tieable(self, x: Tensor) -> str:
        """A layer whose matrix may also be the weight of a linear layer on ``x``."""
        found = [
            part.key
            for part in self.parts.values()
            if part.kind in ("Linear", "Embedding") and not part.decoration
            if x.is_floating_point() and x.dim() and self.built[part.key].weight.shape[1] == x.shape[-1]
        ]
        return self.rng.choice(found) if found else ""

    def _variation(self) -> tuple[str, str, str]:
        """Decoration, tie and state of a layer."""
        choice = self.rng.random()
        if choice < 0.12:
            return self.rng.choice(DECORATIONS), "", ""
        return "", "", "frozen" if choice > 0.95 else "transposed" if choice > 0.9 else ""

    def _try(self, step: Step, part: Part | None) -> None:
        try:
            if part is not None:
                if too_large(part):
                    return
                self.built[part.key] = build_part(part, Naming(), part.key)
                if part.tied_to:
                    tie(self.built[part.tied_to], self.built[part.key])
            held = copy.deepcopy(self.built[step.part]) if step.part else None
            if isinstance(held, nn.Module):
                held.train()
            result = perform(step, self.values, held) if step.op != "raise" else self.values[step.inputs[0]]
        except Exception:
            return
        if not isinstance(result, Tensor) or not 0 < result.numel() <= MOST_ELEMENTS or result.dim() > 6:
            return
        if part is not None:
            self.parts[part.key] = part
        self.steps.append(step)
        self.values.append(result)

    def _idle(self) -> None:
        """A parameter that no step uses, of a kind that few models hold."""
        rng, key = self.rng, f"part{len(self.parts)}"
        shape = rng.choice([(), (1,), (0,), (3, 0, 2), (5, 7), (2, 2, 3)])
        state = rng.choice(("complex64", "float16", "bfloat16", "int64", "float64", "bool", "frozen", ""))
        state = "expanded" if rng.random() < 0.02 else state
        self.parts[key] = Part(key, "Parameter", {"shape": shape}, state=state)
