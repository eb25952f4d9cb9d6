"""Many families of timm and transformers, each built through its hook: every parameter accounted for."""

from __future__ import annotations

import pytest
import timm
import torch
import transformers
from hook_checks import seeded
from torch import nn

from ghn_init.report import report_of

pytestmark = pytest.mark.slow

FAMILIES = [
    "beit_base_patch16_224",
    "cait_xxs24_224",
    "coat_lite_tiny",
    "convit_tiny",
    "convnext_atto",
    "crossvit_tiny_240",
    "davit_tiny",
    "densenet121",
    "dla34",
    "edgenext_xx_small",
    "efficientformerv2_s0",
    "efficientnet_b0",
    "efficientnet_b1_pruned",
    "efficientvit_m0",
    "eva02_tiny_patch14_224",
    "fastvit_t8",
    "focalnet_tiny_srf",
    "gcvit_xxtiny",
    "ghostnet_050",
    "hgnetv2_b0",
    "hiera_tiny_224",
    "levit_128s",
    "mambaout_femto",
    "mixer_s32_224",
    "mobilenetv3_small_050",
    "mobilevitv2_050",
    "mvitv2_tiny",
    "nest_tiny",
    "nfnet_f0",
    "poolformer_s12",
    "pvt_v2_b0",
    "regnetx_002",
    "repvit_m0_9",
    "resnest14d",
    "resnetv2_50",
    "swin_tiny_patch4_window7_224",
    "tiny_vit_5m_224",
    "vit_small_r26_s32_224",
    "volo_d1_224",
    "xcit_nano_12_p16_224",
]

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
TEXT = {**SMALL, "vocab_size": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
IMAGE = {**SMALL, "image_size": 32, "patch_size": 8}
SEQUENCES = {
    "vocab_size": 64,
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
}
GPT = {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 2, "bos_token_id": 1, "eos_token_id": 2}
T5 = {"vocab_size": 64, "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2}
SWIN = {
    "image_size": 32,
    "patch_size": 2,
    "embed_dim": 8,
    "depths": [1, 1],
    "num_heads": [1, 2],
    "window_size": 4,
}
CONVNEXT = {"hidden_sizes": [8, 16, 16, 16], "depths": [1, 1, 1, 1], "image_size": 64}
CLIP = {"text_config": TEXT, "vision_config": IMAGE, "projection_dim": 16}
WAVES = {
    **SMALL,
    "vocab_size": 32,
    "conv_dim": [16, 16],
    "conv_kernel": [10, 3],
    "conv_stride": [5, 2],
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}
CLASSES = {
    "BertForMaskedLM": ("BertConfig", TEXT),
    "RobertaForTokenClassification": ("RobertaConfig", TEXT),
    "GPT2LMHeadModel": ("GPT2Config", GPT),
    "LlamaForCausalLM": ("LlamaConfig", {**TEXT, "num_key_value_heads": 1}),
    "LlamaForSequenceClassification": ("LlamaConfig", TEXT),
    "MixtralForCausalLM": ("MixtralConfig", {**TEXT, "num_key_value_heads": 1, "num_local_experts": 4}),
    "Qwen3ForCausalLM": ("Qwen3Config", {**TEXT, "num_key_value_heads": 1, "head_dim": 16}),
    "T5ForConditionalGeneration": ("T5Config", T5),
    "BartForConditionalGeneration": ("BartConfig", {**SEQUENCES, "forced_eos_token_id": 2}),
    "WhisperForConditionalGeneration": ("WhisperConfig", {**SEQUENCES, "begin_suppress_tokens": None}),
    "ViTForImageClassification": ("ViTConfig", {**IMAGE, "num_labels": 10}),
    "BeitForImageClassification": ("BeitConfig", {**IMAGE, "num_labels": 10}),
    "SwinForImageClassification": ("SwinConfig", {**SWIN, "num_labels": 10}),
    "ConvNextForImageClassification": ("ConvNextConfig", {**CONVNEXT, "num_labels": 10}),
    "CLIPModel": ("CLIPConfig", CLIP),
    "Wav2Vec2ForCTC": ("Wav2Vec2Config", WAVES),
}


def check(model: nn.Module) -> None:
    report = report_of(model)
    accounted = [*report.predicted, *report.kept, *report.skipped]
    assert len(accounted) == len(set(accounted))
    assert {name for name, _ in model.named_parameters()} <= set(accounted)
    assert len(report.predicted) > len(accounted) / 2
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


@pytest.mark.parametrize("name", FAMILIES)
def test_timm_families(name, ghn):
    check(seeded(timm.create_model, name, num_classes=10, ghn_init=ghn))


@pytest.mark.parametrize("name", CLASSES)
def test_transformers_classes(name, ghn):
    config, arguments = CLASSES[name]
    check(seeded(getattr(transformers, name), getattr(transformers, config)(**arguments), ghn_init=ghn))
