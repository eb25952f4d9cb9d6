"""Networks of repeated cells, after DeepNets-1M (Knyazev et al. 2021, Appendix A) at small size."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CELL_OPS = (
    "skip", "max_pool", "avg_pool", "sep_conv", "dil_conv",
    "conv_1x1", "conv_kxk", "conv_1xk_kx1", "msa", "cse",
)  # fmt: skip
NORMS = ("bn", "ln", "none")
STEMS = {"conv_s1": 1, "conv_s2": 2, "conv_pool": 2, "double_conv": 2, "patch": 4}
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}

Choice = tuple[str, int]  # operation, index of the state that it reads


class ChannelNorm(nn.Module):
    """Layer norm over the channels of ``(B, C, H, W)``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Normalises each position of ``(B, C, H, W)``."""
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Attention(nn.Module):
    """A transformer block on the positions of a feature map: pre-norm attention and MLP, both residual."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.heads = max(1, channels // 16)
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same shape, ``H`` and ``W`` divided by the stride."""
        if self.stride > 1:
            x = F.avg_pool2d(x, self.stride)
        batch, channels, height, width = x.shape
        tokens = x.flatten(2).transpose(1, 2)  # (B, N, C)
        qkv = self.qkv(self.norm1(tokens)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])  # (B, heads, N, C / heads)
        tokens = tokens + self.proj(mixed.transpose(1, 2).flatten(2))
        tokens = tokens + self.mlp(self.norm2(tokens))
        return tokens.transpose(1, 2).reshape(batch, channels, height, width)


class ChannelGate(nn.Module):
    """Squeeze and excitation (Hu et al. 2018)."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.reduce = nn.Conv2d(channels, max(4, channels // 4), 1)
        self.expand = nn.Conv2d(max(4, channels // 4), channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Scales the channels of ``(B, C, H, W)``."""
        if self.stride > 1:
            x = F.max_pool2d(x, self.stride)
        gate = self.expand(F.relu(self.reduce(x.mean((2, 3), keepdim=True))))
        return x * gate.sigmoid()


def make_norm(kind: str, channels: int) -> nn.Module:
    """The norm ``kind`` (one of :data:`NORMS`) for ``(B, C, H, W)``."""
    if kind == "bn":
        return nn.BatchNorm2d(channels)
    return ChannelNorm(channels) if kind == "ln" else nn.Identity()


class Recipe:
    """What all the operations of one network share: norm, activation, kernel size."""

    def __init__(self, norm: str, act: str, kernel: int) -> None:
        self.norm, self.act, self.kernel = norm, act, kernel

    def conv(self, c_in: int, c_out: int, kernel: int | tuple[int, int], stride: int = 1) -> list[nn.Module]:
        """Activation, dense convolution, norm."""
        kh, kw = kernel if isinstance(kernel, tuple) else (kernel, kernel)
        conv = nn.Conv2d(c_in, c_out, (kh, kw), stride, (kh // 2, kw // 2), bias=self.norm == "none")
        return [ACTIVATIONS[self.act](), conv, make_norm(self.norm, c_out)]

    def depthwise(self, channels: int, stride: int, dilation: int) -> list[nn.Module]:
        """Activation, depthwise (dilated) convolution, pointwise convolution, norm."""
        pad = dilation * (self.kernel // 2)
        spread = nn.Conv2d(channels, channels, self.kernel, stride, pad, dilation, channels, bias=False)
        return [ACTIVATIONS[self.act](), spread, *self.conv(channels, channels, 1)[1:]]

    def op(self, name: str, channels: int, stride: int) -> nn.Module:
        """One operation of a cell on ``channels`` channels."""
        if name == "skip":
            return nn.Identity() if stride == 1 else nn.Sequential(*self.conv(channels, channels, 1, stride))
        if name == "max_pool":
            return nn.MaxPool2d(3, stride, 1)
        if name == "avg_pool":
            return nn.AvgPool2d(3, stride, 1, count_include_pad=False)
        if name == "sep_conv":
            first, second = self.depthwise(channels, stride, 1), self.depthwise(channels, 1, 1)
            return nn.Sequential(*first, *second)
        if name == "dil_conv":
            return nn.Sequential(*self.depthwise(channels, stride, 2))
        if name == "conv_1xk_kx1":
            act, *rows = self.conv(channels, channels, (1, self.kernel), 1)
            columns = self.conv(channels, channels, (self.kernel, 1), stride)
            return nn.Sequential(act, rows[0], *columns[1:])
        if name == "msa":
            return Attention(channels, stride)
        if name == "cse":
            return ChannelGate(channels, stride)
        return nn.Sequential(*self.conv(channels, channels, 1 if name == "conv_1x1" else self.kernel, stride))


class Cell(nn.Module):
    """A directed acyclic graph of operations on the outputs of the two cells before (Liu et al. 2019)."""

    def __init__(
        self,
        recipe: Recipe,
        choices: list[tuple[Choice, Choice]],
        c_before: int,
        c_last: int,
        channels: int,
        *,
        reduction: bool,
        shrink_before: bool,
        concat: bool,
    ) -> None:
        super().__init__()
        self.before = nn.Sequential(*recipe.conv(c_before, channels, 1, 2 if shrink_before else 1))
        self.last = nn.Sequential(*recipe.conv(c_last, channels, 1))
        self.sources = [tuple(index for _, index in pair) for pair in choices]
        self.left, self.right = (
            nn.ModuleList(
                recipe.op(pair[side][0], channels, 2 if reduction and pair[side][1] < 2 else 1)
                for pair in choices
            )
            for side in (0, 1)
        )
        self.concat = concat
        self.channels = channels * (len(choices) if concat else 1)

    def forward(self, before: Tensor, last: Tensor) -> Tensor:
        """Outputs of the cell before last and of the last cell to this cell's output."""
        states = [self.before(before), self.last(last)]
        for (first, second), left, right in zip(self.sources, self.left, self.right, strict=True):
            states.append(left(states[first]) + right(states[second]))
        steps = states[2:]
        if self.concat:
            return torch.cat(steps, 1) if len(steps) > 1 else steps[0]
        total = steps[0]
        for step in steps[1:]:
            total = total + step
        return total


class CellNet(nn.Module):
    """Stem, cells with two reductions, classifier.

    Args:
        channels: Width of the first cells; doubled at each reduction.
        cells: Number of cells.
        normal: For each step of a normal cell two ``(operation, state index)`` pairs.
        reduce: The same for the reduction cells, at 1/3 and 2/3 of the depth.
        norm: ``bn``, ``ln`` or ``none``.
        act: ``relu``, ``gelu`` or ``silu``.
        kernel: Side of the larger kernels (3, 5 or 7).
        stem: One of :data:`STEMS`.
        pos_enc: Add a learned position embedding after the stem.
        concat: Concatenate a cell's steps, else add them.
        glob_avg: Pool globally before the classifier, else to 2x2 and flatten.
        fc_dim: Width of a hidden classifier layer, 0 for none.
        num_classes: Number of classes.
        image_size: Side of the input images in pixels.
    """

    def __init__(
        self,
        *,
        channels: int,
        cells: int,
        normal: list[tuple[Choice, Choice]],
        reduce: list[tuple[Choice, Choice]],
        norm: str,
        act: str,
        kernel: int,
        stem: str,
        pos_enc: bool,
        concat: bool,
        glob_avg: bool,
        fc_dim: int,
        num_classes: int = 10,
        image_size: int = 32,
    ) -> None:
        super().__init__()
        recipe = Recipe(norm, act, kernel)
        self.stem = _stem(stem, channels, recipe)
        side = image_size // STEMS[stem]
        self.pos_enc = nn.Parameter(0.02 * torch.randn(1, channels, side, side)) if pos_enc else None
        self.cells = nn.ModuleList()
        c_before = c_last = width = channels
        shrink_before = False
        for index in range(cells):
            reduction = cells > 2 and index in (cells // 3, 2 * cells // 3)
            width *= 2 if reduction else 1
            cell = Cell(
                recipe, reduce if reduction else normal, c_before, c_last, width,
                reduction=reduction, shrink_before=shrink_before, concat=concat,
            )  # fmt: skip
            self.cells.append(cell)
            c_before, c_last, shrink_before = c_last, cell.channels, reduction
        self.final = nn.Sequential(make_norm(norm, c_last), ACTIVATIONS[act]())
        self.pool = nn.AdaptiveAvgPool2d(1 if glob_avg else 2)
        features = c_last if glob_avg else 4 * c_last
        hidden = [nn.Linear(features, fc_dim), ACTIVATIONS[act]()] if fc_dim else []
        self.classifier = nn.Sequential(*hidden, nn.Linear(fc_dim or features, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(B, 3, S, S)`` to logits ``(B, num_classes)``."""
        x = self.stem(x)
        if self.pos_enc is not None:
            x = x + self.pos_enc
        before = last = x
        for cell in self.cells:
            before, last = last, cell(before, last)
        return self.classifier(self.pool(self.final(last)).flatten(1))


def _stem(kind: str, channels: int, recipe: Recipe) -> nn.Module:
    if kind == "patch":
        conv = nn.Conv2d(3, channels, 4, 4, bias=recipe.norm == "none")
        return nn.Sequential(conv, make_norm(recipe.norm, channels))
    layers = recipe.conv(3, channels, 3, 2 if kind in ("conv_s2", "double_conv") else 1)[1:]
    if kind == "double_conv":
        layers += recipe.conv(channels, channels, 3)
    if kind == "conv_pool":
        layers.append(nn.MaxPool2d(3, 2, 1))
    return nn.Sequential(*layers)
