"""Teach ghn_init an operation of your own: here a layer of prototypes, written as an autograd function.

python examples/custom_rule.py
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import ghn_init


class Distances(torch.autograd.Function):
    """Squared distances of each row to each prototype; stands for a kernel that torch knows nothing of."""

    @staticmethod
    def forward(ctx, x: Tensor, prototypes: Tensor) -> Tensor:
        ctx.save_for_backward(x, prototypes)
        return (x[:, None] - prototypes[None]).square().sum(2)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, prototypes = ctx.saved_tensors
        steps = 2 * grad[..., None] * (x[:, None] - prototypes[None])
        return steps.sum(1), -steps.sum(0)


class Prototypes(nn.Module):
    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(torch.randn(classes, features))

    def forward(self, x: Tensor) -> Tensor:
        return -Distances.apply(x, self.prototypes)


@ghn_init.register_rule(Distances.apply)
def distances(call):
    # one row for each output, one column for each input: it acts like the weight of a linear layer
    return call.emit("conv", call.arg(0, "x"), weight=call.arg(1, "prototypes"))


def main() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), Prototypes(16, 10)
    )
    report = ghn_init.apply(model, "bundled", example_inputs=torch.zeros(1, 3, 32, 32))
    node = report.graph.nodes[report.predicted["4.prototypes"]]
    print(f"4.prototypes is predicted as {node.primitive} of shape {node.shape}")
    model(torch.randn(2, 3, 32, 32)).sum().backward()


if __name__ == "__main__":
    main()
