"""Differential equations, operators on functions, spikes, flows, processes, proteins, speech and tables."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ghn_init.coverage.case import Case
from ghn_init.coverage.suites.others_case import Build, case, floats, found, tokens

_ESM: dict[str, Any] = {"num_layers": 2, "embed_dim": 32, "attention_heads": 2}
_LLM: dict[str, Any] = {
    "n_layer": 2,
    "n_embd": 64,
    "n_head": 4,
    "padded_vocab_size": 200,
    "intermediate_size": 96,
}
_EEG: dict[str, Any] = {"n_chans": 22, "n_outputs": 4, "n_times": 1000, "sfreq": 250}
_EEGS = (
    *("EEGNet", "ShallowFBCSPNet", "Deep4Net", "EEGConformer", "ATCNet", "FBCNet", "SincShallowNet", "BIOT"),
    *("TIDNet", "EEGInceptionERP", "EEGTCNet", "EEGNeX", "CTNet", "IFNet"),
)


class _Equation(nn.Module):
    """A state that a layer moves on, by a solver of ``torchdiffeq``."""

    def __init__(self, solver: str, method: str) -> None:
        super().__init__()
        self.field = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 4))
        self.head, self.stem = nn.Linear(4, 2), nn.Linear(3, 4)
        self.solver, self.method = solver, method

    def forward(self, x: Tensor) -> Tensor:
        solve = found(f"torchdiffeq:{self.solver}")
        options: dict[str, Any] = (
            {"adjoint_params": tuple(self.field.parameters())} if "adjoint" in self.solver else {}
        )
        times = torch.tensor([0.0, 1.0])
        return self.head(
            solve(lambda t, y: self.field(y), self.stem(x), times, method=self.method, **options)[-1]
        )


class _Controlled(nn.Module):
    """A state that a path drives, by ``torchcde``."""

    def __init__(self) -> None:
        super().__init__()
        self.field, self.stem, self.head = nn.Linear(8, 24), nn.Linear(3, 8), nn.Linear(8, 1)

    def forward(self, coefficients: Tensor) -> Tensor:
        path = found("torchcde:CubicSpline")(coefficients)
        start = self.stem(path.evaluate(path.interval[0]))
        ends = found("torchcde:cdeint")(
            X=path, func=self.slope, z0=start, t=path.interval, method="rk4", adjoint=False
        )
        return self.head(ends[:, -1])

    def slope(self, time: Tensor, state: Tensor) -> Tensor:
        return self.field(state).tanh().view(*state.shape[:-1], 8, 3)


class _Stochastic(nn.Module):
    """A state that drifts and diffuses, by ``torchsde``."""

    noise_type, sde_type = "diagonal", "ito"

    def __init__(self) -> None:
        super().__init__()
        self.drift, self.diffusion = nn.Linear(3, 3), nn.Linear(3, 3)

    def f(self, time: Tensor, state: Tensor) -> Tensor:
        return self.drift(state)

    def g(self, time: Tensor, state: Tensor) -> Tensor:
        return self.diffusion(state).sigmoid()

    def forward(self, state: Tensor) -> Tensor:
        times = torch.linspace(0, 1, 4)
        return found("torchsde:sdeint")(self, state, times, method="euler", dt=0.25)


class _Spiking(nn.Module):
    """Two layers of neurons of ``snntorch``, the first recurrent, over a few steps."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(16, 8), nn.Linear(8, 4)
        self.recurrent = found("snntorch:RLeaky")(beta=0.9, linear_features=8)
        self.leaky = found("snntorch:Leaky")(beta=0.9, learn_beta=True)

    def forward(self, x: Tensor) -> Tensor:
        (spikes, inner), outer = self.recurrent.init_rleaky(), self.leaky.init_leaky()
        for _ in range(3):
            spikes, inner = self.recurrent(self.first(x), spikes, inner)
            _, outer = self.leaky(self.second(spikes), outer)
        return outer


class _Exact(nn.Module):
    """An exact Gaussian process of ``gpytorch`` on features of a network."""

    def __init__(self) -> None:
        super().__init__()
        kernels = "gpytorch.kernels:"
        self.features = nn.Linear(3, 2)
        self.kernel = Build(kernels + "ScaleKernel", Build(kernels + "RBFKernel"))()

    def forward(self, x: Tensor) -> Tensor:
        return self.kernel(self.features(x)).to_dense()


def _local(library: str, build: Any, name: str, inputs: Any) -> Case:
    """A model that is written here with functions of a library."""

    def make() -> nn.Module:
        found(f"{library}:__name__")
        return build()

    return Case(f"{library}/{name}", library, make, lambda model: inputs)


def _flow(*layers: Build) -> Build:
    return Build(
        "normflows:NormalizingFlow", Build("normflows.distributions:DiagGaussian", 4), [*layers, *layers]
    )


_FLOWS = "normflows.flows:"
_SPLINES = (
    Build(_FLOWS + "AutoregressiveRationalQuadraticSpline", 4, 1, 16),
    Build(_FLOWS + "LULinearPermute", 4),
)
_COUPLING = Build(_FLOWS + "AffineCouplingBlock", Build("normflows.nets:MLP", [2, 16, 4]))
_TASKS: dict[str, Any] = {"in_channels": 1, "out_channels": 1, "hidden_channels": 16}
_SWITCH: dict[str, Any] = {
    "context_length": 16,
    "num_blocks": 3,
    "embedding_dim": 32,
    "slstm_at": [1],
}

CASES = [
    case("ncps.torch:CfC", 8, Build("ncps.wirings:AutoNCP", 16, 4), inputs=floats(2, 5, 8)),
    case("ncps.torch:LTC", 8, Build("ncps.wirings:AutoNCP", 16, 4), inputs=floats(2, 5, 8)),
    _local("torchdiffeq", lambda: _Equation("odeint", "rk4"), "rk4", None),
    _local("torchdiffeq", lambda: _Equation("odeint_adjoint", "rk4"), "adjoint", None),
    _local("torchdiffeq", lambda: _Equation("odeint", "dopri5"), "dopri5", floats(2, 3)),
    _local("torchcde", _Controlled, "spline", floats(2, 6, 12)),
    _local("torchsde", _Stochastic, "euler", floats(2, 3)),
    case("neuralop.models:FNO", n_modes=(8, 8), **_TASKS, inputs=floats(2, 1, 32, 32)),
    case("neuralop.models:TFNO", n_modes=(8, 8), **_TASKS, inputs=floats(2, 1, 32, 32)),
    case(
        "torch_harmonics.examples.models:SphericalFourierNeuralOperator",
        img_size=(32, 64),
        in_chans=2,
        out_chans=2,
        embed_dim=8,
        num_layers=2,
        scale_factor=2,
        inputs=floats(1, 2, 32, 64),
    ),
    case("tltorch:FactorizedLinear", (4, 4), (4, 8), rank=0.5, factorization="tucker", inputs=floats(2, 16)),
    _local("snntorch", _Spiking, "recurrent", None),
    _local("gpytorch", _Exact, "deep kernel", None),
    Case("normflows/splines", "normflows", _flow(*_SPLINES), lambda model: floats(5, 4)),
    Case("normflows/coupling", "normflows", _flow(_COUPLING), lambda model: floats(5, 4)),
    case("pyro.nn:AutoRegressiveNN", 4, [16]),
    case("esm.model.esm2:ESM2", **_ESM),
    case(
        "whisper.model:Whisper", Build("whisper.model:ModelDimensions", 80, 100, 32, 2, 2, 200, 16, 32, 2, 2)
    ),
    case("segment_anything.build_sam:build_sam_vit_b", inputs=lambda model: ([_picture()], False)),
    case("facenet_pytorch:InceptionResnetV1", classify=True, num_classes=10),
    case("facenet_pytorch.models.mtcnn:RNet", pretrained=False, inputs=floats(2, 3, 24, 24)),
    case("litgpt:GPT", Build("litgpt:Config.from_name", "pythia-14m"), name="pythia"),
    case("litgpt:GPT", Build("litgpt:Config.from_name", "Llama-2-7b-hf", **_LLM), name="llama"),
    case(
        "litgpt:GPT",
        Build("litgpt:Config.from_name", "Mixtral-8x7B-v0.1", n_query_groups=2, block_size=64, **_LLM),
        name="mixtral",
    ),
    case("s5:S5Block", 8, 8, bidir=False, inputs=floats(2, 10, 8)),
    case(
        "xlstm:xLSTMBlockStack",
        Build(
            "xlstm:xLSTMBlockStackConfig",
            mlstm_block=Build("xlstm:mLSTMBlockConfig"),
            slstm_block=Build(
                "xlstm:sLSTMBlockConfig", slstm=Build("xlstm:sLSTMLayerConfig", backend="vanilla")
            ),
            **_SWITCH,
        ),
        inputs=floats(2, 16, 32),
    ),
    case("pytorch_tcn:TCN", 8, [16, 16, 16]),
    case("pytorch_tcn:TCN", 8, [16, 16], use_gate=True, use_norm="weight_norm", causal=False, name="gates"),
    case("complexPyTorch.complexLayers:ComplexLinear", 4, 3, inputs=lambda model: torch.ones(2, 4) + 0j),
    case("pytorch_tabnet.tab_network:TabNet", 10, 3, group_attention_matrix=torch.eye(10)),
    case(
        "tabm:TabM.make",
        n_num_features=6,
        cat_cardinalities=[3, 4],
        d_out=2,
        inputs=(floats(4, 6), tokens(3, 4, 2)),
        name="TabM",
    ),
    case("pytorch_metric_learning.losses:ArcFaceLoss", 5, 8, inputs=(floats(4, 8), tokens(4, 4))),
    case("labml_nn.hypernetworks.hyper_lstm:HyperLSTM", 6, 8, 4, 4, 1, inputs=floats(5, 2, 6)),
    case("labml_nn.resnet:ResNetBase", [2, 2], [16, 32], None),
    *(case(f"braindecode.models:{name}", **_EEG, inputs=floats(2, 22, 1000)) for name in _EEGS),
]


def _picture() -> dict[str, Any]:
    """An image with a prompt of two points."""
    points = {"point_coords": floats(1, 2, 2), "point_labels": torch.ones(1, 2, device="cpu")}
    return {"image": floats(3, 1024, 1024), "original_size": (1024, 1024), **points}
