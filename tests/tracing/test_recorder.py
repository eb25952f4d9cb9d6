from __future__ import annotations

import operator
import threading
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.utils.checkpoint import checkpoint

from ghn_init.errors import InputError, TraceError
from ghn_init.tracing.recorder import Recording, record

X = torch.empty(2, 8)


def functions(recording: Recording) -> list[str]:
    return [
        getattr(n.target, "__name__", str(n.target)) for n in recording.graph.nodes if n.op == "call_function"
    ]


def reads(recording: Recording) -> list[str]:
    return [str(node.target) for node in recording.graph.nodes if node.op == "get_attr"]


def ancestors(node: Any) -> set[str]:
    """Names of the tensors that a node's value depends on."""
    seen, todo, names = set(), [node], set()
    while todo:
        node = todo.pop()
        if node in seen:
            continue
        seen.add(node)
        if node.op in ("get_attr", "placeholder"):
            names.add(str(node.target))
        todo.extend(node.all_input_nodes)
    return names


def output_ancestors(recording: Recording) -> list[set[str]]:
    output = next(iter(reversed(recording.graph.nodes)))
    return [ancestors(node) for node in output.args[0]]


class Lambda(nn.Module):
    """Parameters ``a`` and ``b`` of width 8, and a forward given as a function."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.ones(8)), nn.Parameter(torch.ones(8))
        self.register_buffer("index", torch.arange(8))
        self.function = function

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(self, *args, **kwargs)


def test_graph_holds_four_kinds_of_nodes_with_shapes_and_module_paths() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))
    recording = record(model, (torch.empty(2, 3, 8, 8),))
    assert {node.op for node in recording.graph.nodes} == {
        "placeholder",
        "get_attr",
        "call_function",
        "output",
    }
    assert functions(recording) == ["conv2d", "relu", "flatten", "linear"]
    assert reads(recording) == ["0.weight", "0.bias", "3.weight", "3.bias"]
    conv, *_, linear = [node for node in recording.graph.nodes if node.op == "call_function"]
    assert (conv.meta["shape"], conv.meta["module"]) == ((2, 4, 6, 6), "0")
    assert (linear.meta["shape"], linear.meta["module"]) == ((2, 5), "3")
    assert conv.target is F.conv2d
    assert linear.meta["dtype"] is torch.float32
    assert recording.parameters["3.weight"] == (5, 144)
    recording.graph.lint()


def test_write_in_place_reaches_every_view_of_the_storage() -> None:
    def forward(self: Any, x: Tensor) -> Any:
        y = x * 1
        left = y[:, :4]
        left.mul_(self.a[:4])
        return y, left, x

    whole, left, untouched = output_ancestors(record(Lambda(forward), (X,)))
    assert whole == {"input", "a"}
    assert left == {"input", "a"}
    assert untouched == {"input"}


def test_writes_through_two_views_are_both_seen_and_later_reads_too() -> None:
    def forward(self: Any, x: Tensor) -> Any:
        y = x * 1
        before = y + 1
        y[:, :4] += self.a[:4]
        middle = y.sum(1)
        y[:, 4:] = self.b[4:]
        return before, middle, y.t()

    before, middle, after = output_ancestors(record(Lambda(forward), (X,)))
    assert before == {"input"}
    assert middle == {"input", "a"}
    assert after == {"input", "a", "b"}


def test_computed_constant_that_is_filled_with_activations_depends_on_them() -> None:
    def forward(self: Any, x: Tensor) -> Any:
        slots = torch.zeros(2, 3, 8)
        view = slots[:, 1]
        slots[:, 0] = x * self.a
        return slots, view, torch.zeros_like(x)

    slots, view, zeros = output_ancestors(record(Lambda(forward), (X,)))
    assert slots == {"input", "a"}
    assert view == {"input", "a"}
    assert zeros == set()


def test_values_that_depend_on_no_weight_are_computed() -> None:
    def forward(self: Any, x: Tensor) -> Any:
        positions = torch.arange(x.shape[1], device=x.device)
        keep = positions[positions % 2 == 0].tolist()
        assert keep == [0, 2, 4, 6]
        assert int(self.index.max()) == 7
        assert bool((positions < 8).all())
        mask = torch.ones(8, dtype=torch.bool)
        mask[positions[:3]] = False
        return x[:, mask] * self.a[keep][:1], x[:, : positions[5]]

    recording = record(Lambda(forward), (X,))
    output = next(iter(reversed(recording.graph.nodes)))
    assert [node.meta["shape"] for node in output.args[0]] == [(2, 5), (2, 5)]


def test_whole_number_inputs_keep_their_values_and_stay_inputs() -> None:
    def forward(self: Any, ids: Tensor) -> Any:
        assert ids.tolist() == [[3, 1]]
        return self.a[ids[:, : int(ids[0, 1])]]

    recording = record(Lambda(forward), (torch.tensor([[3, 1]]),))
    assert output_ancestors(recording) == [{"input", "a"}]
    assert next(iter(reversed(recording.graph.nodes))).args[0][0].meta["shape"] == (1, 1)


def test_multi_head_attention_is_recorded_from_inside() -> None:
    recording = record(
        nn.MultiheadAttention(8, 2, batch_first=True), (torch.empty(2, 5, 8),) * 3, {"need_weights": False}
    )
    assert functions(recording).count("linear") == 2 or functions(recording).count("linear") == 4
    assert "scaled_dot_product_attention" in functions(recording)
    assert not recording.unreached


@pytest.mark.parametrize("training", [True, False])
def test_transformer_layers(training: bool) -> None:
    model = nn.Transformer(8, 2, 1, 1, 16, batch_first=True).train(training)
    recording = record(model, (torch.empty(2, 5, 8), torch.empty(2, 4, 8)))
    assert not recording.unreached
    assert functions(recording).count("scaled_dot_product_attention") == 3


def test_outputs_of_a_chunk_are_read_by_getitem() -> None:
    def forward(self: Any, x: Tensor) -> Any:
        left, right = (x * self.a).chunk(2, dim=1)
        return left, right * self.b[4:]

    recording = record(Lambda(forward), (X,))
    items = [node for node in recording.graph.nodes if node.target is operator.getitem]
    assert [node.args[1] for node in items] == [0, 1]
    assert items[0].args[0].meta["shapes"] == [(2, 4), (2, 4)]
    assert output_ancestors(recording) == [{"input", "a"}, {"input", "a", "b"}]


def test_tied_parameters_have_one_name() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(10, 4), nn.Linear(4, 10, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, ids: Tensor) -> Tensor:
            return self.head(self.embed(ids))

    recording = record(Tied(), (torch.zeros(2, 3, dtype=torch.long),))
    assert recording.parameters == {"embed.weight": (10, 4)}
    assert recording.tied == {"head.weight": "embed.weight"}
    (weight,) = [node for node in recording.graph.nodes if node.op == "get_attr"]
    assert len(weight.users) == 2


def parametrised() -> dict[str, nn.Module]:
    parametrize = torch.nn.utils.parametrizations
    pruned = nn.Linear(8, 8)
    prune.l1_unstructured(pruned, "weight", 0.5)
    return {
        "weight_norm": parametrize.weight_norm(nn.Linear(8, 8)),
        "spectral_norm": parametrize.spectral_norm(nn.Linear(8, 8)),
        "orthogonal": parametrize.orthogonal(nn.Linear(8, 8)),
        "old weight_norm": torch.nn.utils.weight_norm(nn.Linear(8, 8)),
        "old spectral_norm": torch.nn.utils.spectral_norm(nn.Linear(8, 8)),
        "pruned": pruned,
    }


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("kind", list(parametrised()))
def test_parametrised_weight_is_one_parameter_named_by_its_attribute(kind: str) -> None:
    layer = parametrised()[kind]
    before = {key: value.clone() for key, value in layer.state_dict().items()}
    class_before = type(layer)
    recording = record(nn.Sequential(layer), (X,))
    assert recording.parameters == {"0.weight": (8, 8), "0.bias": (8,)}
    assert sorted(reads(recording)) == ["0.bias", "0.weight"]
    assert functions(recording) == ["linear"]
    assert type(layer) is class_before
    assert all(torch.equal(value, before[key]) for key, value in layer.state_dict().items())
    assert layer(torch.ones(2, 8)).shape == (2, 8)


def test_batch_norm_in_train_mode_takes_one_value_per_channel() -> None:
    recording = record(nn.BatchNorm2d(4).train(), (torch.empty(1, 4, 1, 1),))
    assert functions(recording) == ["batch_norm"]


def test_train_mode_draws_no_random_branch_and_moves_no_generator() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        for parameter in (self.a, self.b):
            if torch.rand([]) > 0.2:  # a layer that is sometimes skipped
                x = F.dropout(x * parameter, 0.5, training=True)
        return x

    model = Lambda(forward)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    recording = record(model, (X,))
    assert not recording.unreached
    assert torch.equal(torch.rand(3), expected)


def test_unused_and_dead_parameters_are_told_apart() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        _ = x * self.a
        return x + 1

    unreached = record(Lambda(forward), (X,)).unreached
    assert unreached == {"a": "its result does not reach the output", "b": "not used by this forward"}


class Scale(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return x * weight

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        return grads[0] * weight, grads[0] * x


class Same(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return -grads[0]


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_and_autograd_functions(reentrant: bool) -> None:
    def forward(self: Any, x: Tensor) -> Any:
        y = checkpoint(lambda z: Scale.apply(z, self.a), x, use_reentrant=reentrant)
        return Same.apply(y) * self.b

    assert output_ancestors(record(Lambda(forward), (X,))) == [{"input", "a", "b"}]


def test_branches_on_unknown_values_take_the_side_that_uses_more_parameters() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        y = x * self.a
        return y * self.b if (y > 0).any() else y

    assert not record(Lambda(forward), (X,)).unreached


def test_all_experts_are_recorded() -> None:
    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate = nn.Linear(8, 4)
            self.experts = nn.ModuleList(nn.Linear(8, 8) for _ in range(4))

        def forward(self, x: Tensor) -> Tensor:
            weights, chosen = self.gate(x).softmax(-1).topk(2)
            out = torch.zeros_like(x)
            mask = F.one_hot(chosen, 4).permute(2, 1, 0)
            for expert in mask.sum(dim=(-1, -2)).gt(0).nonzero():
                slot, row = torch.where(mask[int(expert)])
                out.index_add_(0, row, self.experts[int(expert)](x[row]) * weights[row, slot, None])
            return out

    recording = record(Experts(), (X,))
    assert not recording.unreached
    assert output_ancestors(recording)[0] >= {f"experts.{i}.weight" for i in range(4)} | {"gate.weight"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_precision_also_mixed(dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 2)).to(dtype)
    model[1].float()
    assert functions(record(model, (X,))) == ["linear", "layer_norm", "linear"]


def test_model_on_meta() -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Embedding(10, 8), nn.LSTM(8, 6, 2, bidirectional=True))
    recording = record(model, (torch.zeros(4, 2, dtype=torch.long),))
    assert not recording.unreached
    output = next(iter(reversed(recording.graph.nodes)))
    assert [node.meta["shape"] for node in output.args[0]] == [(4, 2, 12), (4, 2, 6), (4, 2, 6)]


def test_packed_sequences() -> None:
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(8, 4, batch_first=True)

        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            return nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0]

    recording = record(Packed(), (torch.empty(2, 5, 8), torch.tensor([3, 5])))
    assert next(iter(reversed(recording.graph.nodes))).args[0][0].meta["shape"] == (2, 5, 4)
    assert output_ancestors(recording)[0] >= {"input", "rnn.weight_ih_l0", "rnn.bias_hh_l0"}


def test_failing_forward_tells_module_operation_and_shapes() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(8, 8), nn.Linear(9, 8)))
    with pytest.raises(
        InputError, match=r"'0\.1', operation linear on shapes \(2, 8\), \(8, 9\), \(8,\)"
    ) as caught:
        record(model, (X,))
    assert "example_inputs" in str(caught.value)


def test_forward_without_tensors_is_told() -> None:
    with pytest.raises(TraceError, match="returned no tensor but str"):
        record(Lambda(lambda self, x: "nothing"), (X,))


def test_fake_tensors_give_the_same_graph() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 5))
    inputs = (torch.empty(2, 3, 8, 8),)
    meta, fake = record(model, inputs), record(model, inputs, fake=True)
    assert functions(meta) == functions(fake)
    assert reads(meta) == reads(fake)


def test_flexible_attention_with_a_learned_score_bias() -> None:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    class Flexible(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.bias = nn.Linear(32, 96), nn.Parameter(torch.zeros(4))

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.qkv(x).view(2, 16, 3, 4, 8).permute(2, 0, 3, 1, 4)
            causal = create_block_mask(lambda b, h, i, j: i >= j, None, None, 16, 16, device=x.device)
            return flex_attention(
                q, k, v, score_mod=lambda s, b, h, i, j: s + self.bias[h], block_mask=causal
            )

    recording = record(Flexible(), (torch.empty(2, 16, 32),))
    assert output_ancestors(recording) == [{"input", "qkv.weight", "qkv.bias", "bias"}]
    assert next(iter(reversed(recording.graph.nodes))).args[0][0].meta["shape"] == (2, 4, 16, 8)


def test_vmapped_operations() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        mask = torch.vmap(lambda i: torch.vmap(lambda j: i >= j)(torch.arange(8)))(torch.arange(2))
        return torch.vmap(lambda row: row * self.a + 1)(x).masked_fill(mask, 0) + self.b

    # The mask was computed inside the transform: a constant of the graph.
    assert output_ancestors(record(Lambda(forward), (X,))) == [{"input", "a", "b", "constant"}]


STARTED = {name: threading.Event() for name in ("first", "second", "first is done")}


class Overlapping(nn.Module):
    """Says that its forward runs, and ends it after something else."""

    def __init__(self, says: str, waits: str) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.says, self.waits = says, waits

    def forward(self, x: Tensor) -> Tensor:
        STARTED[self.says].set()
        assert STARTED[self.waits].wait(60)
        return self.linear(x)


def test_overlapping_recordings_leave_the_compiler_as_it_was():
    stance = pytest.importorskip("torch._dynamo.eval_frame")
    before = stance._stance.stance

    def second() -> None:
        assert STARTED["first"].wait(60)
        record(Overlapping("second", "first is done"), (X,))

    thread = threading.Thread(target=second)
    thread.start()
    record(Overlapping("first", "second"), (X,))
    assert stance._stance.stance == "force_eager"  # the second recording still needs it
    STARTED["first is done"].set()
    thread.join()
    assert stance._stance.stance == before == "default"
