"""The function objects by which torch knows one operation, and sets of them."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch._C._nn as _nn
import torch.nn.functional as F
from torch import fx
from torch._library.custom_ops import CustomOpDef

_OWNERS = (
    torch,
    torch.Tensor,
    F,
    _nn,
    torch.special,
    torch.linalg,
    torch._VF,
    operator,
    torch.ops.aten,
)


def torch_functions(*names: str, owners: tuple[Any, ...] = _OWNERS) -> list[Callable[..., Any]]:
    """Every function that the installed torch offers under these names.

    For ``add``: ``torch.add``, ``torch.Tensor.add``, ``add_``, ``__add__``, ``__radd__``, ``__iadd__``,
    ``operator.add`` and ``torch.ops.aten.add``. A name that this torch lacks gives none.

    Args:
        names: Base names of operations.
        owners: Where to look them up.
    """
    found: dict[Callable[..., Any], None] = {}
    for name in names:
        variants = (name, f"{name}_", f"__{name}__", f"__r{name}__", f"__i{name}__")
        functions = [getattr(owner, variant, None) for owner in owners for variant in variants]
        found.update(dict.fromkeys(function for function in functions if callable(function)))
    return list(found)


def base_function(target: Any) -> Any:
    """What rules are kept under: an overload's packet, the class of an autograd function's ``apply``."""
    if isinstance(target, torch._ops.OpOverload):
        return target.overloadpacket
    if isinstance(target, CustomOpDef):
        return target._opoverload.overloadpacket
    owner = getattr(target, "__self__", None)
    return owner if isinstance(owner, type) and issubclass(owner, torch.autograd.Function) else target


def function_name(target: Any) -> str:
    """Short name of a recorded function, for people."""
    return getattr(base_function(target), "__name__", str(target)).strip("_")


def first_arguments(function: Any) -> tuple[str, ...]:
    """Names of the first three arguments of an operation that was registered with a schema."""
    if not isinstance(function, torch._ops.OpOverloadPacket):
        return ()
    schema = getattr(function, function.overloads()[0])._schema
    return tuple(argument.name for argument in schema.arguments[:3])


def is_whole(node: fx.Node) -> bool:
    """Whether a recorded value holds whole numbers or truth values."""
    dtype: Any = node.meta.get("dtype")
    return dtype is not None and not (dtype.is_floating_point or dtype.is_complex)


def _flex() -> Any:
    try:
        from torch.nn.attention import flex_attention
    except ImportError:  # added in torch 2.5
        return None
    return flex_attention


LAYOUT = frozenset(
    torch_functions(
        *("view", "view_as", "_unsafe_view", "reshape", "reshape_as", "flatten", "unflatten", "ravel"),
        *("permute", "transpose", "t", "swapaxes", "swapdims", "movedim", "moveaxis", "contiguous"),
        *("squeeze", "unsqueeze", "expand", "expand_as", "repeat", "clone", "alias", "detach"),
        *("to", "_to_copy", "type", "type_as", "float", "half", "bfloat16", "double", "lift_fresh_copy"),
        *("dropout", "native_dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"),
        *("dropout1d", "dropout2d", "dropout3d"),
    )
) | {getattr}
"""Operations that change a value's layout or dtype only: also dropout, and attributes (``tensor.mT``)."""

CONCATENATE = frozenset(
    torch_functions("cat", "concat", "concatenate", "hstack", "vstack", "dstack", "column_stack")
)
EMBEDDING = frozenset({F.embedding, *torch_functions("embedding", owners=(torch, torch._VF, torch.ops.aten))})
MULTIPLY = frozenset(torch_functions("mul", "multiply"))
DIVIDE = frozenset(torch_functions("div", "divide", "true_divide", "truediv"))
ADD = frozenset(torch_functions("add"))
SUBTRACT = frozenset(torch_functions("sub", "subtract", "rsub"))
SOFTMAX = frozenset(torch_functions("softmax", "_softmax", "_safe_softmax", "softmin"))
FUSED_ATTENTION = frozenset(
    torch_functions(
        *("scaled_dot_product_attention", "_scaled_dot_product_attention_math"),
        *("_scaled_dot_product_flash_attention", "_scaled_dot_product_flash_attention_for_cpu"),
        *("_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention"),
    )
    + torch_functions("flex_attention", owners=(_flex(),))
)
CONTRACTION = frozenset(torch_functions("matmul", "mm", "bmm", "einsum", "baddbmm", "tensordot"))
"""Products of two tensors that sum over a shared axis."""

POINTWISE = (
    LAYOUT
    | MULTIPLY
    | DIVIDE
    | ADD
    | SUBTRACT
    | frozenset(
        torch_functions(
            *("masked_fill", "where", "clamp", "clamp_min", "clamp_max", "tanh", "neg", "exp", "nan_to_num"),
            *("maximum", "minimum", "max", "relu"),
        )
    )
)
"""Operations on attention scores between the product of queries and keys and the softmax."""

RESCALING = POINTWISE | frozenset(torch_functions("normalize", "layer_norm", "group_norm", "instance_norm"))
"""Operations on attention weights between the softmax and the product with values."""

EXPAND = frozenset(torch_functions("expand", "expand_as", "broadcast_to", "repeat"))
MIXING = frozenset(torch_functions("linear", "conv2d", "convolution", "conv1d"))
"""Layers that may mix the heads of attention weights (Shazeer et al., 2020, talking-heads attention)."""

POOL_TO_POINT = frozenset(
    torch_functions(
        "mean", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "_adaptive_avg_pool2d"
    )
    + torch_functions("_adaptive_avg_pool3d")
)
"""Means over whole axes."""
