"""transformers: constructors, from_config, from_pretrained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from hook_checks import differing, same_bits, seeded, state
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    CLIPConfig,
    CLIPModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForSequenceClassification,
    ViTConfig,
    ViTForImageClassification,
)

import ghn_init
from ghn_init.errors import GHNInitError, HookError
from ghn_init.report import report_of


def bert_config(**changes) -> BertConfig:
    small = {
        "vocab_size": 50,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 64,
    }
    return BertConfig(**{**small, **changes})


def vit_config(**changes) -> ViTConfig:
    small = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "image_size": 16,
        "patch_size": 4,
        "num_labels": 10,
    }
    return ViTConfig(**{**small, **changes})


def clip_config() -> CLIPConfig:
    text = {
        "vocab_size": 50,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 16,
        "eos_token_id": 49,
    }
    vision = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "image_size": 16,
        "patch_size": 4,
    }
    return CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)


def applied(model: nn.Module, ghn: ghn_init.GHN) -> nn.Module:
    ghn_init.apply(model, ghn)
    return model


@pytest.fixture
def vit_folder(tmp_path: Path) -> Path:
    seeded(ViTForImageClassification, vit_config()).save_pretrained(tmp_path / "vit")
    return tmp_path / "vit"


WAYS = {
    "constructor argument": lambda ghn: ViTForImageClassification(vit_config(), ghn_init=ghn),
    "_from_config": lambda ghn: ViTForImageClassification._from_config(vit_config(), ghn_init=ghn),
    "from_config": lambda ghn: AutoModelForImageClassification.from_config(vit_config(), ghn_init=ghn),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_constructor_equals_apply_on_the_built_model(way, ghn):
    model = seeded(WAYS[way], ghn)
    assert same_bits(model, applied(seeded(WAYS[way], None), ghn))
    assert "vit.embeddings.patch_embeddings.projection.weight" in report_of(model).predicted


@pytest.mark.parametrize("way", WAYS)
def test_nothing_changes_without_a_ghn(way):
    model = seeded(WAYS[way], None)
    after = torch.rand(3)
    false = seeded(WAYS[way], False)
    ghn_init.unpatch()
    original = seeded(ViTForImageClassification, vit_config())
    assert torch.equal(torch.rand(3), after)
    assert same_bits(model, original)
    assert same_bits(false, original)
    assert report_of(false) is None
    with pytest.raises(TypeError, match="ghn_init"):
        WAYS[way](True)


def test_a_plain_constructor_in_a_block(ghn, other_ghn):
    with ghn_init.enabled(ghn):
        inside = seeded(ViTForImageClassification, vit_config())
        other = seeded(ViTForImageClassification, vit_config(), ghn_init=other_ghn)
        off = seeded(ViTForImageClassification, vit_config(), ghn_init=False)
        with ghn_init.enabled(False):
            disabled = seeded(ViTForImageClassification, vit_config())
    outside = seeded(ViTForImageClassification, vit_config())
    assert same_bits(inside, applied(seeded(ViTForImageClassification, vit_config()), ghn))
    assert same_bits(other, applied(seeded(ViTForImageClassification, vit_config()), other_ghn))
    assert same_bits(off, outside)
    assert same_bits(disabled, outside)


def test_a_class_derived_by_the_user_is_initialised_when_it_is_complete(ghn):
    class Longer(ViTForImageClassification):
        def __init__(self, config: ViTConfig) -> None:
            super().__init__(config)
            self.extra = nn.Linear(config.num_labels, config.num_labels)

        def forward(self, *args, **kwargs):
            output = super().forward(*args, **kwargs)
            output.logits = self.extra(output.logits)
            return output

    with ghn_init.enabled(ghn):
        model = Longer(vit_config())
    assert {"extra.weight", "classifier.weight"} <= set(report_of(model).predicted)


def test_a_class_whose_constructor_is_a_mixin_s(ghn):
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        pad_token_id=0,
    )
    ghn_init.unpatch()
    assert "__init__" not in vars(LlamaForSequenceClassification)
    ghn_init.patch()
    model = LlamaForSequenceClassification(config, ghn_init=ghn)
    assert "model.layers.0.self_attn.q_proj.weight" in report_of(model).predicted


def test_config_json_stays_clean(ghn, tmp_path):
    model = AutoModelForImageClassification.from_config(vit_config(), ghn_init=ghn)
    model.save_pretrained(tmp_path / "a")
    plain = AutoModelForImageClassification.from_config(vit_config())
    plain.save_pretrained(tmp_path / "b")
    again = AutoModelForImageClassification.from_pretrained(tmp_path / "a", ghn_init=ghn)
    again.save_pretrained(tmp_path / "c")
    texts = [json.loads((tmp_path / name / "config.json").read_text()) for name in "abc"]
    assert texts[0] == texts[1] == texts[2]
    assert "ghn" not in json.dumps(texts[0])


@pytest.mark.parametrize("auto", [True, False])
def test_from_pretrained_predicts_only_a_new_head(auto, ghn, vit_folder):
    saved = state(seeded(ViTForImageClassification, vit_config()))
    vit = ViTForImageClassification.base_model_prefix
    base = ViTForImageClassification.from_pretrained(vit_folder)
    getattr(base, vit).save_pretrained(vit_folder / "base")
    cls = AutoModelForImageClassification if auto else ViTForImageClassification
    model = cls.from_pretrained(vit_folder / "base", num_labels=10, ghn_init=ghn)
    report = report_of(model)
    assert set(report.predicted) == {"classifier.weight", "classifier.bias"}
    assert set(report.kept) | set(report.skipped) == {
        name for name, _ in model.named_parameters() if not name.startswith("classifier.")
    }
    for name, value in model.state_dict().items():
        assert name.startswith("classifier.") or torch.equal(value, saved[name]), name
    whole = applied(seeded(ViTForImageClassification, vit_config()), ghn)
    assert torch.equal(model.classifier.weight, whole.classifier.weight)
    assert not model.training


def test_from_pretrained_with_a_mismatched_head(ghn, vit_folder):
    saved = state(seeded(ViTForImageClassification, vit_config()))
    model, info = ViTForImageClassification.from_pretrained(
        vit_folder, num_labels=7, ignore_mismatched_sizes=True, ghn_init=ghn, output_loading_info=True
    )
    report = report_of(model)
    mismatched = {key if isinstance(key, str) else key[0] for key in info["mismatched_keys"]}
    assert mismatched == {"classifier.weight", "classifier.bias"}
    assert not report.predicted
    assert "class" in report.kept["classifier.weight"]
    assert model.classifier.weight.shape == (7, 16)
    for name, value in model.state_dict().items():
        assert name.startswith("classifier.") or torch.equal(value, saved[name])


def test_a_complete_checkpoint_is_left_alone(ghn, vit_folder):
    model = AutoModelForImageClassification.from_pretrained(vit_folder, ghn_init=ghn)
    with ghn_init.enabled(ghn):
        inside = AutoModelForImageClassification.from_pretrained(vit_folder)
    plain = AutoModelForImageClassification.from_pretrained(vit_folder)
    assert same_bits(model, plain)
    assert same_bits(inside, plain)
    assert report_of(model) is None


def test_a_block_around_from_pretrained(ghn, tmp_path):
    seeded(BertModel, bert_config()).save_pretrained(tmp_path)
    with ghn_init.enabled(ghn):
        model = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=10)
        off = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=10, ghn_init=False)
    assert set(report_of(model).predicted) == {"classifier.weight", "classifier.bias"}
    assert report_of(off) is None
    assert differing(model, off) <= {"classifier.weight", "classifier.bias"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, "bfloat16"])
def test_dtype(dtype, ghn):
    model = AutoModel.from_config(bert_config(), dtype=dtype, ghn_init=ghn)
    full = AutoModel.from_config(bert_config(), ghn_init=ghn)
    wanted = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    assert {parameter.dtype for parameter in model.parameters()} == {wanted}
    name = "encoder.layer.0.intermediate.dense.weight"
    assert name in report_of(model).predicted
    assert torch.equal(model.get_parameter(name), full.get_parameter(name).to(wanted))


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_attn_implementation(implementation, ghn):
    model = AutoModel.from_config(bert_config(), attn_implementation=implementation, ghn_init=ghn)
    assert model.config._attn_implementation == implementation
    primitives = {node.primitive for node in report_of(model).graph.nodes}
    assert "msa" in primitives


def test_device_map(ghn, tmp_path):
    seeded(BertModel, bert_config()).save_pretrained(tmp_path)
    model = BertForSequenceClassification.from_pretrained(
        tmp_path, num_labels=10, device_map="cpu", ghn_init=ghn
    )
    assert set(report_of(model).predicted) == {"classifier.weight", "classifier.bias"}


def test_tied_weights_stay_tied(ghn):
    config = GPT2Config(vocab_size=50, n_positions=32, n_embd=16, n_layer=1, n_head=2)
    model = GPT2LMHeadModel(config, ghn_init=ghn)
    assert model.lm_head.weight is model.transformer.wte.weight
    assert "transformer.h.0.mlp.c_fc.weight" in report_of(model).predicted


def test_a_tied_weight_of_the_checkpoint_is_not_predicted(ghn, tmp_path):
    config = GPT2Config(vocab_size=50, n_positions=32, n_embd=16, n_layer=1, n_head=2)
    seeded(GPT2LMHeadModel, config).save_pretrained(tmp_path)
    loaded = GPT2LMHeadModel.from_pretrained(tmp_path, ghn_init=ghn)
    assert same_bits(loaded, seeded(GPT2LMHeadModel, config))


def test_nested_models_are_initialised_once_as_a_whole(ghn):
    model = seeded(CLIPModel, clip_config(), ghn_init=ghn)
    assert same_bits(model, applied(seeded(CLIPModel, clip_config()), ghn))
    predicted = set(report_of(model).predicted)
    assert any(name.startswith("text_model.") for name in predicted)
    assert any(name.startswith("vision_model.") for name in predicted)
    assert report_of(model.vision_model) is None


def test_the_timm_wrapper_is_initialised_once_as_a_whole(ghn):
    config = transformers.TimmWrapperConfig(architecture="test_resnet", num_labels=10, do_pooling=True)
    model = seeded(transformers.TimmWrapperForImageClassification, config, ghn_init=ghn)
    assert report_of(model.timm_model) is None
    assert len(report_of(model).predicted) > 10
    plain = transformers.TimmWrapperForImageClassification
    assert same_bits(model, applied(seeded(plain, config), ghn))


def test_a_pretrained_timm_backbone_is_left_alone(ghn, tmp_path):
    import timm

    backbone = seeded(timm.create_model, "test_resnet")
    torch.save(backbone.state_dict(), tmp_path / "weights.pth")
    config = transformers.TimmBackboneConfig(backbone="test_resnet", features_only=True, out_indices=[-1])
    overlay = {"pretrained_cfg_overlay": {"file": str(tmp_path / "weights.pth")}}
    if not getattr(config, "use_pretrained_backbone", False):  # else transformers passes it on itself
        overlay["pretrained"] = True
    with ghn_init.enabled(ghn):
        model = transformers.TimmBackbone._from_config(config, **overlay)
    assert torch.equal(model._backbone.conv1[0].weight, backbone.conv1[0].weight)


def test_meta_and_empty_weights_are_refused(ghn):
    accelerate = pytest.importorskip("accelerate")
    with pytest.raises(HookError, match="meta device"), accelerate.init_empty_weights():
        BertModel(bert_config(), ghn_init=ghn)
    with pytest.raises(HookError, match="meta device"), torch.device("meta"):
        BertModel(bert_config(), ghn_init=ghn)


def test_a_constructor_that_raises_leaves_nothing_behind(ghn):
    class Broken(BertModel):
        def __init__(self, config: BertConfig) -> None:
            super().__init__(config)
            raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more") as held, ghn_init.enabled(ghn):
        Broken(bert_config())
    with pytest.raises(TypeError):
        BertModel(bert_config(), ghn_init=ghn, no_such_argument=1)
    assert held.value is not None
    assert report_of(BertModel(bert_config())) is None
    assert report_of(BertModel(bert_config(), ghn_init=ghn)) is not None


def test_classes_defined_while_the_hooks_are_out_are_hooked_when_they_are_in(ghn):
    ghn_init.unpatch()

    class Late(BertModel):
        def __init__(self, config: BertConfig) -> None:
            super().__init__(config)
            self.marker = True

    own = Late.__init__
    ghn_init.patch()
    assert report_of(Late(bert_config(), ghn_init=ghn)) is not None
    ghn_init.unpatch()
    assert Late.__init__ is own


def test_trainer_model_init_builds_the_same_model_each_time(ghn, tmp_path):
    pytest.importorskip("accelerate")

    def model_init() -> nn.Module:
        return AutoModelForImageClassification.from_config(vit_config(), ghn_init=ghn)

    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=1,
        report_to=[],
        use_cpu=True,
        save_strategy="no",
        disable_tqdm=True,
    )
    data = [{"pixel_values": torch.rand(3, 16, 16), "labels": index % 10} for index in range(4)]
    trainer = transformers.Trainer(model_init=model_init, args=arguments, train_dataset=data)
    built = state(trainer.model)
    report = report_of(trainer.model)
    trainer.train()
    assert report.predicted
    again = model_init().state_dict()
    assert all(torch.equal(again[name], built[name]) for name in report.predicted)
    assert not same_bits(trainer.model, model_init())


def test_errors_of_the_ghn_reach_the_caller(tmp_path):
    with pytest.raises((GHNInitError, OSError)):
        BertModel(bert_config(), ghn_init=str(tmp_path / "no such ghn"))
