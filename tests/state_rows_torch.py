"""Rows of the table of states: what PyTorch itself does to a model."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from state_cases import Case, state
from states import IMAGE, ConvNet, TiedNet, tiny_ghn
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.nn.utils import parametrizations

import ghn_init

GHN = tiny_ghn()
TOKENS = torch.zeros(1, 4, dtype=torch.long)


for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
    state(str(dtype).removeprefix("torch."))(lambda tmp, dtype=dtype: Case(ConvNet().to(dtype)))


def integers(dtype: torch.dtype) -> Case:
    model = ConvNet()
    model.conv.weight = nn.Parameter(model.conv.weight.detach().to(dtype), requires_grad=False)
    old = model.conv.weight.view(torch.uint8).clone()

    def untouched(report):
        assert torch.equal(model.conv.weight.view(torch.uint8), old)

    return Case(model, skipped={"conv.weight": f"has dtype {dtype}"}, after=untouched)


def holding(weight: Tensor, reason: str) -> Case:
    model = ConvNet()
    model.head.weight = nn.Parameter(weight, requires_grad=False)
    return Case(model, skipped={"head.weight": reason})


state("sparse")(lambda tmp: holding(torch.eye(10, 8).to_sparse(), "has layout torch.sparse_coo"))
state("sparse rows")(lambda tmp: holding(torch.eye(10, 8).to_sparse_csr(), "has layout torch.sparse_csr"))
state("qint8")(
    lambda tmp: holding(torch.quantize_per_tensor(torch.eye(10, 8), 0.1, 0, torch.qint8), "dtype torch.qint8")
)


@state("gaps in memory")
def _(tmp):
    model = ConvNet()
    model.head.weight = nn.Parameter(torch.zeros(10, 32)[:, ::4])
    return Case(model)


state("float8")(lambda tmp: integers(torch.float8_e4m3fn))
state("int8")(lambda tmp: integers(torch.int8))
state("channels_last")(lambda tmp: Case(ConvNet().to(memory_format=torch.channels_last)))
state("frozen")(lambda tmp: Case(ConvNet().requires_grad_(False)))
state("train mode")(lambda tmp: Case(ConvNet().train()))
state("data parallel")(lambda tmp: Case(wrapped := nn.DataParallel(ConvNet()), inside=wrapped.module))
state("cuda")(lambda tmp: Case(ConvNet().to(cuda())))
state("cuda bfloat16")(lambda tmp: Case(ConvNet().to(cuda(), torch.bfloat16)))


def cuda() -> str:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    return "cuda"


@state("several devices")
def _(tmp):
    model = ConvNet()
    model.head.to(cuda())

    def on_both(report):
        assert {parameter.device.type for parameter in model.parameters()} == {"cpu", "cuda"}

    return Case(model, after=on_both)


@state("under an optimiser")
def _(tmp):
    model = ConvNet()
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.randn(2, 3, 8, 8)).sum().backward()
    optimiser.step()
    held = list(model.parameters())
    moment = optimiser.state[model.conv.weight]["exp_avg"].clone()

    def goes_on(report):
        assert all(a is b for a, b in zip(held, model.parameters(), strict=True))
        assert torch.equal(optimiser.state[model.conv.weight]["exp_avg"], moment)
        written = model.conv.weight.detach().clone()
        optimiser.step()
        assert not torch.equal(model.conv.weight, written)

    return Case(model, after=goes_on)


@state("after a backward")
def _(tmp):
    model = ConvNet()
    model(torch.randn(2, 3, 8, 8)).sum().backward()
    grad = model.conv.weight.grad.clone()
    return Case(model, after=lambda report: torch.testing.assert_close(model.conv.weight.grad, grad))


def compiled(in_place: bool) -> Case:
    graphs: list[Any] = []
    backend = lambda graph, _: graphs.append(graph) or graph.forward  # noqa: E731
    model = ConvNet().eval()
    called = model
    if in_place:
        model.compile(backend=backend)
    else:
        called = torch.compile(model, backend=backend)
    image = torch.randn(1, 3, 8, 8)
    called(image)

    def without_recompiling(report):
        plain = ConvNet().eval()
        plain.load_state_dict(model.state_dict())
        assert torch.equal(called(image), plain(image))
        assert len(graphs) == 1

    return Case(called, inside=model, after=without_recompiling)


state("compiled")(lambda tmp: compiled(False))
state("compiled in place")(lambda tmp: compiled(True))


def quietly(wrap: Callable[..., nn.Module], layer: nn.Module, **options: Any) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return wrap(layer, **options)


def computed(
    wrap: Callable[..., nn.Module], check: Callable[[Tensor, Tensor], None], layer: str = "conv"
) -> Case:
    """The weight that the wrapped layer computes with after the next forward is checked against the value."""
    model = ConvNet()
    quietly(wrap, model.get_submodule(layer))
    value = ghn_init.predict(ConvNet(), GHN, example_inputs=IMAGE)[f"{layer}.weight"]

    def read(name: str) -> Tensor:
        path, _, attribute = name.rpartition(".")
        return value if name == f"{layer}.weight" else getattr(model.get_submodule(path), attribute)

    def right(report):
        model.eval()(IMAGE)
        check(model.get_submodule(layer).weight.detach(), value)

    return Case(model, read=read, after=right)


def unit_norm(weight: Tensor, value: Tensor) -> None:
    sigma = torch.linalg.matrix_norm(weight.flatten(1), 2)
    torch.testing.assert_close(sigma, torch.tensor(1.0), rtol=1e-3, atol=0)
    cosine = torch.nn.functional.cosine_similarity(weight.flatten(), value.flatten(), dim=0)
    torch.testing.assert_close(cosine, torch.tensor(1.0))


def orthogonal(weight: Tensor, value: Tensor) -> None:
    torch.testing.assert_close(weight.mT @ weight, torch.eye(8), atol=1e-5, rtol=0)


state("weight_norm")(lambda tmp: computed(parametrizations.weight_norm, torch.testing.assert_close))
state("weight_norm hook")(lambda tmp: computed(nn.utils.weight_norm, torch.testing.assert_close))
state("spectral_norm")(lambda tmp: computed(parametrizations.spectral_norm, unit_norm))
state("spectral_norm hook")(lambda tmp: computed(nn.utils.spectral_norm, unit_norm))
state("orthogonal")(lambda tmp: computed(parametrizations.orthogonal, orthogonal, "head"))


@state("pruned")
def _(tmp):
    def halve(layer):
        return nn.utils.prune.random_unstructured(layer, "weight", 0.5)

    def masked(weight, value):
        assert torch.equal(weight, torch.where(weight == 0, 0, value))
        assert 0 < int((weight == 0).sum()) < weight.numel()

    return computed(halve, masked)


def tied_case(model: TiedNet, **changes: Any) -> Case:
    def still_tied(report):
        assert model.out.weight is model.embed.weight
        assert report.tied == {"out.weight": "embed.weight"}
        assert model(TOKENS).isfinite().all()

    return Case(model, like=TiedNet(), inputs=TOKENS, after=still_tied, **changes)


state("tied")(lambda tmp: tied_case(TiedNet()))


@state("meta, tied, materialised")
def _(tmp):
    with torch.device("meta"):
        model = TiedNet()
    return tied_case(model, options={"materialize": True})


@state("buffers")
def _(tmp):
    model = ConvNet()
    model.norm.running_mean.normal_()
    old = {name: buffer.clone() for name, buffer in model.named_buffers()}

    def untouched(report):
        assert all(torch.equal(buffer, old[name]) for name, buffer in model.named_buffers())

    return Case(model, after=untouched)


@state("inference tensors")
def _(tmp):
    model = ConvNet()
    with torch.inference_mode():
        model.conv.weight = nn.Parameter(torch.zeros(8, 8, 3, 3))
    return Case(model, skipped={"conv.weight": "inference mode"})


@state("checkpointed activations")
def _(tmp):
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

    model = ConvNet()
    model.conv = checkpoint_wrapper(model.conv)
    wrapped = dict(zip(dict(ConvNet().named_parameters()), model.parameters(), strict=True))
    return Case(model, read=wrapped.__getitem__)


def on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.device("meta"):
        return build()


state("meta")(lambda tmp: Case(on_meta(ConvNet), refused="materialize=True"))


@state("meta, materialised")
def _(tmp):
    model = on_meta(ConvNet)

    def usable(report):
        reference = ConvNet()
        for name, buffer in model.named_buffers():
            assert torch.equal(buffer, reference.get_buffer(name))
        model(torch.randn(2, 3, 8, 8)).sum().backward()

    return Case(model, options={"materialize": True}, after=usable)


@state("meta, part on the cpu")
def _(tmp):
    model = ConvNet()
    model.head = on_meta(lambda: nn.Linear(8, 10))
    held = model.conv.weight

    def only_the_part_is_new(report):
        assert model.conv.weight is held
        assert not model.head.weight.is_meta

    return Case(model, options={"materialize": True}, after=only_the_part_is_new)


@state("ZeRO-3-shaped")
def _(tmp):
    model = ConvNet()
    model.conv.weight.ds_shape = model.conv.weight.shape
    model.conv.weight.data = torch.empty(0)
    return Case(model, refused="GatheredParameters")


@state("lazy")
def _(tmp):
    model = ConvNet()
    model.head = nn.LazyLinear(10)
    return Case(model, refused="lazy")


@state("expanded")
def _(tmp):
    model = ConvNet()
    model.head.bias = nn.Parameter(torch.zeros(1).expand(10))
    return Case(model, refused="share memory")


@state("elements that share memory")
def _(tmp):
    model = ConvNet()
    model.head.weight = nn.Parameter(torch.zeros(80).as_strided((10, 8), (7, 1)))
    return Case(model, refused=r"has strides \(7, 1\): several of its elements")


@state("one flat buffer")
def _(tmp):
    model = ConvNet()
    flat = torch.zeros(sum(parameter.numel() for parameter in model.parameters()))
    torch.nn.utils.vector_to_parameters(flat, model.parameters())
    return Case(model)


@state("fake")
def _(tmp):
    with FakeTensorMode():
        model = ConvNet()
    return Case(model, refused="is a fake tensor and has no memory")
