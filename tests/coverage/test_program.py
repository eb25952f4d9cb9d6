"""Which models are one program, and writes of exported graphs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ghn_init.coverage.edges import exported_relation, recorded_relation
from ghn_init.coverage.program import program_digest
from ghn_init.coverage.writes import follow_writes
from ghn_init.errors import TraceError
from ghn_init.tracing.exported import export_program
from ghn_init.tracing.lower import lower
from ghn_init.tracing.trace import record_model


def digest(model: nn.Module, *shape: int) -> str:
    recording = record_model(model, torch.empty(shape, device="meta"))
    return program_digest(recording, lower(recording))


class Named(nn.Module):
    def __init__(self, first: str, second: str, width: int) -> None:
        super().__init__()
        self.order = (first, second)
        for name in self.order:
            self.add_module(name, nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        for name in self.order:
            x = self.get_submodule(name)(x)
        return x


def test_sizes_and_names_do_not_count() -> None:
    assert digest(Named("a", "b", 4), 2, 4) == digest(Named("left", "right", 32), 3, 32)


def test_operations_operands_sharing_and_types_do() -> None:
    layer = nn.Linear(4, 4)
    different = [
        digest(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), 2, 4),
        digest(nn.Sequential(layer, layer), 2, 4),
        digest(nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4)), 2, 4),
        digest(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)), 2, 4),
        digest(nn.Conv2d(4, 4, 3), 2, 4, 8, 8),
        digest(nn.Conv2d(4, 4, 3, groups=4), 2, 4, 8, 8),
    ]
    assert len(set(different)) == len(different)


class Writer(nn.Module):
    """Adds in place to what was read before, through a view of all of it."""

    seen: Tensor

    def __init__(self, part: bool = False, parameter: bool = False) -> None:
        super().__init__()
        self.first, self.second, self.third = (nn.Linear(4, 4) for _ in range(3))
        self.part, self.parameter = part, parameter
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        flat = y.view(-1)
        before = self.third(y)
        if self.part:
            y[:, :2].add_(self.second(x)[:, :2])
        elif self.parameter:
            with torch.no_grad():
                self.third.weight.clamp_(-1, 1)
        else:
            y.add_(self.second(x)).relu_()
            self.seen.add_(1)
        return flat.sum() * self.seen + before.sum() + self.third(x).sum()


@pytest.mark.parametrize("options", [{}, {"part": True}, {"parameter": True}])
def test_what_was_written_is_read(options: dict[str, bool]) -> None:
    model, args = Writer(**options), (torch.rand(3, 4),)
    ours = recorded_relation(record_model(model, args))
    try:
        theirs = [exported_relation(model, args, {}, decomposed=decomposed) for decomposed in (False, True)]
    except TraceError as error:
        if "requires gradients, and received a mutation" not in str(error):
            raise
        pytest.skip("torch 2.6 decomposes no write to a parameter")
    assert theirs == [ours, ours]
    assert (("second.bias", "output") in ours) is (not options.get("parameter"))


def test_writes_to_a_part_or_to_a_parameter_are_left_to_torch_export() -> None:
    for model, followed in ((Writer(), True), (Writer(part=True), False), (Writer(parameter=True), False)):
        program, _, _ = export_program(model, (torch.rand(3, 4),), {})
        names = frozenset(program.graph_signature.inputs_to_parameters)
        assert follow_writes(program.graph, names) is followed
