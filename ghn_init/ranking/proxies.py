"""Zero-cost proxies: scores of an untrained network that take one batch or none.

Further ones join with :func:`register_proxy`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.overrides import TorchFunctionMode

from ghn_init.errors import ConfigError
from ghn_init.ranking.evidence import call, logits

Proxy = Callable[[nn.Module, Any, Tensor], float]
PROXIES: dict[str, Proxy] = {}


def register_proxy(name: str) -> Callable[[Proxy], Proxy]:
    """Make ``proxy(model, inputs, labels) -> float`` known by a name; larger means better.

    It gets a copy that it may change, with the candidate's own initial weights, in evaluation mode.
    """

    def add(proxy: Proxy) -> Proxy:
        PROXIES[name] = proxy
        return proxy

    return add


def proxy_named(name: str) -> Proxy:
    """The proxy of that name.

    Raises:
        ConfigError: There is none.
    """
    if name not in PROXIES:
        raise ConfigError(f"no proxy is called {name!r}; known: {', '.join(sorted(PROXIES))}")
    return PROXIES[name]


def on_a_copy(name: str, model: nn.Module, inputs: Any, labels: Tensor) -> float:
    """A proxy's score of a model that stays as it is.

    Weights that start at zero (heads, mostly) would make everything before them look useless: on the copy
    they are drawn at random.

    Args:
        name: Of the proxy.
        model: With its own initial weights.
        inputs: One batch.
        labels: Class indices ``(B,)``.
    """
    twin = copy.deepcopy(model).eval()
    for parameter in twin.parameters():
        if parameter.ndim > 1 and not parameter.any():
            nn.init.kaiming_uniform_(parameter)
    return proxy_named(name)(twin, inputs, labels)


@register_proxy("synflow")
def synflow(model: nn.Module, inputs: Any, labels: Tensor) -> float:
    """Logarithm of the synaptic flow of Tanaka et al., 2020 (eq. 2), summed over parameters as in
    Abdelfattah et al., 2021; uses no data: an input of ones, absolute weights, norms without effect.
    """
    model = copy.deepcopy(model).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_()
    ones = torch.ones_like(inputs[:1], dtype=torch.double)
    with torch.enable_grad(), _NormsAsIdentity():
        total = logits(model, ones, 1).sum()
        grads = torch.autograd.grad(total, list(model.parameters()), allow_unused=True)
    flow = sum(
        float((parameter * grad).detach().sum())
        for parameter, grad in zip(model.parameters(), grads, strict=True)
        if grad is not None
    )
    return float(torch.tensor(max(flow, 0.0), dtype=torch.double).log1p())


@register_proxy("naswot")
def naswot(model: nn.Module, inputs: Any, labels: Tensor) -> float:
    """Log-determinant of the kernel of activation patterns (Mellor et al., 2021, eq. 2), over all activations
    of rectifier kind; at most 64 examples.
    """
    _use_batch(model)
    mode = _Patterns()
    with torch.no_grad(), mode:
        call(model, inputs[:64])
    if mode.kernel is None:
        raise ValueError("the network has no activation of rectifier kind")
    return float(torch.linalg.slogdet(mode.kernel.double())[1])


@register_proxy("grad_norm")
def grad_norm(model: nn.Module, inputs: Any, labels: Tensor) -> float:
    """Norm of the loss's gradient on one batch (Abdelfattah et al., 2021)."""
    _use_batch(model)
    with torch.enable_grad():
        loss = F.cross_entropy(logits(model, inputs, int(labels.max()) + 1), labels)
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        grads = torch.autograd.grad(loss, parameters, allow_unused=True)
    return float(sum(grad.double().square().sum() for grad in grads if grad is not None)) ** 0.5


def _use_batch(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, _NormBase):
            module.train()


class _NormsAsIdentity(TorchFunctionMode):
    """Normalisation returns its input."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _NORMS:
            return args[0]
        return func(*args, **(kwargs or {}))


class _Patterns(TorchFunctionMode):
    """Adds up the kernel: for each pair of examples, units whose activation is on in both or off in both."""

    kernel: Tensor | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _RECTIFIERS and isinstance(args[0], Tensor):
            on = (args[0].detach() > 0).flatten(1).float()
            agree = on @ on.T + (1 - on) @ (1 - on).T
            self.kernel = agree if self.kernel is None else self.kernel + agree
        return func(*args, **(kwargs or {}))


_NORMS = frozenset({F.batch_norm, F.layer_norm, F.group_norm, F.instance_norm, F.rms_norm, torch.batch_norm})
_RECTIFIERS = frozenset(
    {
        *(
            F.relu,
            F.relu6,
            F.gelu,
            F.silu,
            F.hardswish,
            F.leaky_relu,
            F.elu,
            F.selu,
            F.mish,
            F.softplus,
            F.hardtanh,
        ),
        *(torch.relu, torch.relu_, F.relu_, Tensor.relu, Tensor.relu_, F.prelu),
    }
)
