"""All or nothing: a fault at any write, of any kind, leaves the model bit-equal."""

from __future__ import annotations

import contextlib
import warnings

import pytest
import torch
from states import IMAGE, ConvNet, Snapshot, TiedNet, tiny_ghn
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.utils import parametrizations
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models import squeezenet1_1

import ghn_init
from ghn_init import AssignError
from ghn_init.assign import Journal, write


def stream(model: nn.Module, fail_at: int, fault: BaseException):
    for index, (name, parameter) in enumerate(model.named_parameters()):
        if index == fail_at:
            raise fault
        yield {name: torch.full(parameter.shape, 0.5)}


@pytest.mark.parametrize(
    "fault", [KeyboardInterrupt(), MemoryError(), RuntimeError("lost rank"), SystemExit()]
)
def test_a_fault_between_writes_restores_every_bit(fault):
    model = squeezenet1_1(num_classes=10)
    before = Snapshot(model)
    count = len(before.tensors) - len(list(model.named_buffers()))
    for fail_at in (0, 1, count // 2, count - 1):
        with pytest.raises(type(fault)) as caught:
            write(model, stream(model, fail_at, fault))
        assert caught.value is fault
        assert before.changed() == []


class FaultyMemory(TorchFunctionMode):
    """Raises ``fault`` in the ``fail_at``-th copy into the memory of the model, which has changed by then."""

    def __init__(self, model: nn.Module, fail_at: int, fault: BaseException) -> None:
        super().__init__()
        self.memory = {parameter.data_ptr() for parameter in model.parameters()}
        self.fail_at, self.fault, self.writes = fail_at, fault, 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func is torch.Tensor.copy_ and args[0].data_ptr() in self.memory:
            self.writes += 1
            if self.writes == self.fail_at:
                raise self.fault
        return result


@pytest.mark.parametrize(
    ("memory_limit", "fault", "step"),
    [
        pytest.param(100_000, KeyboardInterrupt(), 1, id="memory-and-file-at-every-write"),
        pytest.param(0, RuntimeError("CUDA out of memory"), 9, id="file"),
        pytest.param(2**30, RuntimeError("CUDA out of memory"), 9, id="memory"),
    ],
)
def test_a_fault_inside_any_write_of_a_real_model_restores_every_bit(memory_limit, fault, step):
    model = squeezenet1_1(num_classes=10)
    values = {name: torch.full(p.shape, 0.5) for name, p in model.named_parameters()}
    before = Snapshot(model)
    expected = AssignError if isinstance(fault, RuntimeError) else KeyboardInterrupt
    for fail_at in range(1, len(values) + 1, step):
        with FaultyMemory(model, fail_at, fault), pytest.raises(expected), Journal(memory_limit) as journal:
            write(model, [values], journal=journal)
        assert before.changed() == [], fail_at


def test_an_interrupt_while_values_are_put_back_does_not_leave_them_half_restored():
    model = TiedNet()
    values = {name: torch.full(p.shape, 0.5) for name, p in model.named_parameters()}
    before = Snapshot(model)

    def groups():
        yield values
        raise RuntimeError("the interrupt comes when the first value is put back")

    mode = FaultyMemory(model, len(values) + 1, KeyboardInterrupt())
    with mode, pytest.raises(KeyboardInterrupt):
        write(model, groups())
    assert mode.writes == 2 * len(values) + 1
    assert before.changed() == []


def parametrised() -> nn.Sequential:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.Sequential(
            parametrizations.weight_norm(nn.Linear(6, 5)),
            parametrizations.spectral_norm(nn.Linear(5, 5)),
            parametrizations.orthogonal(nn.Linear(5, 4)),
            nn.utils.weight_norm(nn.Linear(4, 4)),
            nn.utils.spectral_norm(nn.Linear(4, 3)),
        )


def test_parametrised_tensors_are_restored_with_their_buffers():
    model = parametrised()
    before = Snapshot(model)
    outputs = [layer.weight.clone() for layer in model.eval()]
    before.modes = [module.training for module in model.modules()]

    def groups():
        yield {f"{i}.weight": torch.randn(layer.weight.shape) for i, layer in enumerate(model)}
        raise MemoryError

    with pytest.raises(MemoryError):
        write(model, groups())
    assert before.changed() == []
    for layer, output in zip(model, outputs, strict=True):
        assert torch.equal(layer.weight, output)


def test_materialised_parameters_are_taken_back():
    with torch.device("meta"):
        model = TiedNet()
    before = Snapshot(model)

    def groups():
        yield {"embed.weight": torch.ones(12, 8)}
        raise MemoryError

    from ghn_init.assign import bind

    with pytest.raises(MemoryError):
        write(bind(model, ["embed.weight", "hidden.weight"], materialize=True), groups())
    assert before.changed() == []


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("step", ["account", "notes", "InitReport"])
def test_a_fault_after_the_last_write_of_apply_restores_every_bit(step, at_once, monkeypatch):
    model = ConvNet()
    before = Snapshot(model)

    def interrupted(*args, **kwargs):
        assert ("conv.weight" in before.changed()) is at_once
        raise KeyboardInterrupt

    monkeypatch.setattr(f"ghn_init.api.{step}", interrupted)
    with pytest.raises(KeyboardInterrupt):
        # Measuring what was written needs it written; else that is the last step of all.
        ghn_init.apply(model, tiny_ghn(), example_inputs=IMAGE, statistics=at_once)
    assert before.changed() == []


def test_values_put_off_are_written_when_the_block_ends_and_not_on_an_exception():
    ghn, model = tiny_ghn(), squeezenet1_1(num_classes=10)
    graph = ghn_init.trace(model)
    expected = ghn.predict(graph, head="predict")
    before = Snapshot(model)
    for fault in (None, KeyboardInterrupt):
        with contextlib.suppress(KeyboardInterrupt), Journal() as journal, journal:
            written = write(model, ghn.iter_fitted(graph, head="predict"), journal=journal).written
            assert set(written) == set(expected)
            assert before.changed() == []
            if fault is not None:
                raise fault
        assert bool(before.changed()) is (fault is None)
        for name, value in expected.items():
            assert torch.equal(model.get_parameter(name), value) is (fault is None)
        model = squeezenet1_1(num_classes=10)
        before = Snapshot(model)


@pytest.mark.parametrize("limit", [0, 100_000])
def test_what_cannot_wait_is_written_at_once_and_undone_with_the_rest(limit, monkeypatch):
    monkeypatch.setattr("ghn_init.assigning.deferred.MOST_DEFERRED", limit)
    ghn, model = tiny_ghn(), squeezenet1_1(num_classes=10)
    graph = ghn_init.trace(model)
    before = Snapshot(model)
    with contextlib.suppress(ZeroDivisionError), Journal() as journal, journal:
        write(model, ghn.iter_fitted(graph, head="predict"), journal=journal)
        assert before.changed()
        raise ZeroDivisionError
    assert before.changed() == []
    write(model, ghn.iter_fitted(graph, head="predict"))
    for name, value in ghn.predict(graph, head="predict").items():
        assert torch.equal(model.get_parameter(name), value)


@pytest.mark.parametrize("most", [1 << 26, 2_400])
def test_decoded_values_wait_only_if_no_others_are_decoded(most, monkeypatch):
    monkeypatch.setattr("ghn_init.ghn.grouping._MOST_DECODED", most)
    ghn, model = tiny_ghn(), squeezenet1_1(num_classes=10)
    graph = ghn_init.trace(model)
    expected = ghn.predict(graph, head="predict")
    seen: dict[int, tuple[StorageWeakRef, int]] = {}
    elements: list[int] = []

    def watched():
        for group in ghn.iter_fitted(graph, head="predict"):
            for each in group.values():
                storage = each.block.untyped_storage()
                if each.block.dim() > 1:
                    seen[storage._cdata] = StorageWeakRef(storage), storage.nbytes() // 4
                del each, storage
            elements.append(sum(size for reference, size in seen.values() if not reference.expired()))
            yield group
            del group

    before = Snapshot(model)
    with Journal() as journal, journal:
        write(model, watched(), journal=journal)
        assert bool(before.changed()) is (most == 2_400)
    for name, value in expected.items():
        assert torch.equal(model.get_parameter(name), value)
    assert len(elements) > 5
    assert max(elements) <= most
    assert sum(size for _, size in seen.values()) > 2 * 2_400


class FaultyCall(TorchDispatchMode):
    """Raises in the midst of copies that were put off, or before; a mode sees every call of torch."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.copy_.default and args[0].shape == (8, 3, 3, 3):
            raise RuntimeError("device lost")
        return func(*args, **(kwargs or {}))


def test_under_a_mode_that_sees_every_call_nothing_is_put_off():
    model = ConvNet()
    graph = ghn_init.trace(model, IMAGE)
    before = Snapshot(model)
    with pytest.raises(AssignError, match="device lost"), FaultyCall():
        ghn_init.apply(model, tiny_ghn(), graph=graph)
    assert before.changed() == []
