"""The recorder's data flow against that of ``torch.export``, read without the library's own front-ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from ghn_init.tracing.recorder import record

Relation = set[tuple[str, str]]
# Factories that take a shape and a dtype from a tensor, but no value.
FRESH = {
    *("empty_like", "zeros_like", "ones_like", "full_like", "new_empty", "new_zeros", "new_ones", "new_full"),
    "empty_permuted",
}


def feeds(graph: fx.Graph, sources: dict[fx.Node, str]) -> Relation:
    """Which parameter's consumer feeds which other's without another consumer in between.

    A consumer of a parameter is an operation on activations (values that depend on an input) that also takes
    a value computed from the parameter alone. ``input`` and ``output`` stand for the model's ends.

    Args:
        graph: A graph of operations without writes in place.
        sources: Name of each parameter's node, ``input`` for inputs.
    """
    pure: dict[fx.Node, set[str]] = {}  # parameters that a value is computed from, where no input is
    flow: dict[fx.Node, set[str]] = {}  # last consumers before an activation
    relation: Relation = set()
    for node in graph.nodes:
        name = sources.get(node)
        operands = (
            [] if str(getattr(node.target, "__name__", "")).split(".")[0] in FRESH else node.all_input_nodes
        )
        if name == "input":
            flow[node] = {"input"}
        elif name is not None:
            pure[node] = {name}
        elif node.op == "output":
            found = [consumer for operand in operands for consumer in flow.get(operand, ())]
            relation |= {(consumer, "output") for consumer in found}
        elif any(operand in flow for operand in operands):
            before = set().union(*(flow.get(operand, set()) for operand in operands))
            taken = set().union(*(pure.get(operand, set()) for operand in operands))
            relation |= {(consumer, parameter) for consumer in before for parameter in taken}
            flow[node] = taken or before
        else:
            pure[node] = set().union(*(pure.get(operand, set()) for operand in operands))
    return relation


def exported(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Relation:
    program = torch.export.export(model, args, kwargs, strict=False).run_decompositions({})
    names = program.graph_signature.inputs_to_parameters
    first = {id(p): name for name, p in model.named_parameters()}
    every = dict(model.named_parameters(remove_duplicate=False))
    inputs = set(program.graph_signature.user_inputs)
    sources = {}
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in names:
            sources[node] = first[id(every[names[node.name]])]
        elif node.op == "placeholder" and node.name in inputs:
            sources[node] = "input"
    mutated = set(program.graph_signature.buffers_to_mutate)
    output = next(iter(reversed(program.graph.nodes)))
    output.args = (tuple(v for v in output.args[0] if isinstance(v, fx.Node) and v.name not in mutated),)
    return feeds(program.graph, sources)


def recorded(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Relation:
    recording = record(model, args, kwargs)
    sources = {node: "input" for node in recording.graph.nodes if node.op == "placeholder"}
    for node in recording.graph.nodes:
        if node.op == "get_attr" and node.target in recording.parameters:
            sources[node] = str(node.target)
    return feeds(recording.graph, sources)


def image_model(library: str, name: str, size: int = 224) -> Callable[[], tuple[nn.Module, Any, Any]]:
    def build() -> tuple[nn.Module, Any, Any]:
        module = pytest.importorskip(library)
        model = (
            module.create_model(name) if library == "timm" else module.models.get_model(name, weights=None)
        )
        return model.eval(), (torch.rand(2, 3, size, size),), {}

    return build


def text_model(name: str, config: str, **options: Any) -> Callable[[], tuple[nn.Module, Any, Any]]:
    def build() -> tuple[nn.Module, Any, Any]:
        transformers = pytest.importorskip("transformers")
        keywords = {"input_ids": torch.arange(4, 16).repeat(2, 1)}
        settings = getattr(transformers, config)(vocab_size=120, use_cache=False, **options)
        if settings.is_encoder_decoder:
            keywords["decoder_input_ids"] = torch.arange(4, 10).repeat(2, 1)
        return getattr(transformers, name)(settings).eval(), (), keywords

    return build


SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
ENCODER_DECODER = {
    **{"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64},
    **{"encoder_attention_heads": 4, "decoder_attention_heads": 4},
}


class Scribbler(nn.Module):
    """Writes in place through views, into computed constants, and reads before and after."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third, self.last = (nn.Linear(8, 8) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        early = y + 1
        y[:, :4].add_(self.second(x)[:, :4])
        slots = torch.zeros(2, 2, 8)
        slots[:, 0] = self.third(y)
        slots[:, 1] = early
        left, right = slots[:, 0], slots[:, 1]
        right.mul_(2)
        return self.last(left + slots.sum(1)) + torch.zeros_like(y)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(20, 8), nn.Linear(8, 3)
        self.cells = nn.ModuleList([nn.GRUCell(8, 8), nn.GRUCell(8, 8)])

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        states = [torch.zeros_like(x[:, 0]) for _ in self.cells]
        for step in range(3):
            value = x[:, step]
            for index, cell in enumerate(self.cells):
                value = states[index] = cell(value, states[index])
        return self.head(states[-1])


FAST = {
    "scribbler": lambda: (Scribbler(), (torch.rand(2, 8),), {}),
    "recurrent": lambda: (Recurrent(), (torch.zeros(2, 3, dtype=torch.long),), {}),
    "transformer": lambda: (
        nn.Transformer(8, 2, 1, 2, 16, batch_first=True).train(),
        (torch.rand(2, 5, 8), torch.rand(2, 4, 8)),
        {},
    ),
    "resnet18": image_model("torchvision", "resnet18"),
    "bert": text_model("BertForSequenceClassification", "BertConfig", **SMALL),
    "t5": text_model(
        "T5ForConditionalGeneration", "T5Config", d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4
    ),
}
SPREAD = {
    **{
        f"torchvision/{name}": image_model("torchvision", name)
        for name in (
            "googlenet",
            "densenet121",
            "efficientnet_b0",
            "swin_t",
            "vit_b_32",
            "shufflenet_v2_x0_5",
        )
    },
    **{
        f"timm/{name}": image_model("timm", name)
        for name in (
            *(
                "convnext_atto",
                "nf_regnet_b1",
                "mixer_s32_224",
                "deit_tiny_patch16_224",
                "xcit_nano_12_p16_224",
            ),
            *(
                "coat_tiny",
                "levit_128s",
                "mobilevit_xxs",
                "res2net50_14w_8s",
                "hrnet_w18_small",
                "ghostnet_100",
            ),
            *("volo_d1_224", "pvt_v2_b0", "poolformer_s12", "edgenext_xx_small"),
        )
    },
    "timm/crossvit_tiny_240": image_model("timm", "crossvit_tiny_240", 240),
    "gpt2": text_model("GPT2LMHeadModel", "GPT2Config", n_embd=32, n_layer=2, n_head=4),
    "llama": text_model("LlamaForCausalLM", "LlamaConfig", **SMALL, num_key_value_heads=2),
    "albert": text_model("AlbertModel", "AlbertConfig", **SMALL, embedding_size=16),
    "bart": text_model("BartModel", "BartConfig", **ENCODER_DECODER),
    "deberta": text_model(
        "DebertaV2Model", "DebertaV2Config", **SMALL, relative_attention=True, pos_att_type=["c2p", "p2c"]
    ),
    "falcon": text_model(
        "FalconForCausalLM", "FalconConfig", hidden_size=32, num_hidden_layers=2, num_attention_heads=4
    ),
}


def compare(build: Callable[[], tuple[nn.Module, Any, Any]]) -> None:
    model, args, kwargs = build()
    ours, theirs = recorded(model, args, kwargs), exported(model, args, kwargs)
    assert len(ours) > 3
    assert listing(ours - theirs) == []
    assert listing(theirs - ours) == []


def listing(relation: Iterable[tuple[str, str]]) -> list[str]:
    return [f"{source} -> {target}" for source, target in sorted(relation)]


@pytest.mark.parametrize("name", list(FAST))
def test_edges_are_those_of_export(name: str) -> None:
    compare(FAST[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", list(SPREAD))
def test_edges_are_those_of_export_on_a_spread(name: str) -> None:
    compare(SPREAD[name])
