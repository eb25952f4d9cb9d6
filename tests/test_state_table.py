"""Every state that a model can be in: how it is built, and what ``apply`` must then have done."""

from __future__ import annotations

import copy

import pytest
import state_rows_torch  # noqa: F401 - registers its rows
import torch
from state_cases import ROWS
from state_rows_libraries import SMALL
from states import Snapshot, tiny_ghn
from torch import Tensor, nn
from torch._subclasses import FakeTensor
from torch.nn.parameter import is_lazy

import ghn_init

GHN = tiny_ghn()


def close(value: Tensor, expected: Tensor) -> bool:
    return torch.allclose(value, expected.to(value), rtol=1e-5, atol=1e-7)


def without_values(tensor: Tensor) -> bool:
    return is_lazy(tensor) or isinstance(tensor, FakeTensor)


@pytest.mark.parametrize("name", sorted(ROWS))
def test_state(name, tmp_path):
    case = ROWS[name](tmp_path)
    if case.refused is not None:
        before = None if any(map(without_values, case.model.parameters())) else Snapshot(case.model)
        with pytest.raises(ghn_init.GHNInitError, match=case.refused):
            ghn_init.apply(case.model, GHN, example_inputs=case.inputs, **case.options)
        assert before is None or before.changed() == []
        return
    inside = case.model if case.inside is None else case.inside
    trained = {key: parameter.requires_grad for key, parameter in inside.named_parameters()}
    expected = ghn_init.predict(case.like, GHN, example_inputs=case.inputs)
    report = ghn_init.apply(case.model, GHN, example_inputs=case.inputs, **case.options)
    assert len([*report.predicted, *report.kept, *report.skipped]) == len(report.sizes)
    for key, value in expected.items():
        if key in case.skipped:
            assert case.skipped[key] in report.skipped[key]
            continue
        now = (case.read or inside.get_parameter)(key).detach()
        assert torch.equal(now, value.to(now)) if case.exact else close(now, value)
    assert trained == {key: parameter.requires_grad for key, parameter in inside.named_parameters()}
    case.after(report)


@pytest.mark.slow
def test_trainer_builds_the_initialised_model_and_trains_it(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(num_labels=10, **SMALL)
    graphs: list[nn.Module] = []

    def model_init() -> nn.Module:
        model = transformers.AutoModelForSequenceClassification.from_config(config, ghn_init=GHN)
        graphs.append(copy.deepcopy(model))
        return model

    data = [{"input_ids": torch.arange(8), "labels": torch.tensor(i % 10)} for i in range(8)]
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), max_steps=2, per_device_train_batch_size=4, report_to=[], use_cpu=True,
        save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    trainer = transformers.Trainer(model_init=model_init, args=arguments, train_dataset=data)
    trainer.train()
    assert trainer.state.global_step == 2
    first, last = graphs[0], graphs[-1]
    predicted = ghn_init.predict(first, GHN)
    assert all(torch.equal(last.get_parameter(name), value) for name, value in predicted.items())
    for name in ("classifier.weight", "bert.encoder.layer.0.attention.self.query.weight"):
        assert not torch.equal(trainer.model.get_parameter(name), predicted[name])
