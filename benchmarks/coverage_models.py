"""Which models the coverage table is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

TEN_CLASSES: dict[str, Any] = {"options": {"num_classes": 10}}
"""The bundled GHN's class count."""

TEXT: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 1000,
}
IMAGE: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "image_size": 64,
    "patch_size": 16,
}
DECODER: dict[str, Any] = {**TEXT, "num_key_value_heads": 2}

TRANSFORMERS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("AutoModelForMaskedLM", TEXT),
    "gpt2": ("AutoModelForCausalLM", {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 1000}),
    "llama": ("AutoModelForCausalLM", DECODER),
    "vit": ("AutoModelForImageClassification", IMAGE),
    "swin": (
        "AutoModelForImageClassification",
        {"image_size": 64, "embed_dim": 32, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4},
    ),
    "clip": ("AutoModel", {"text_config": TEXT, "vision_config": IMAGE, "projection_dim": 32}),
    "t5": (
        "AutoModelForSeq2SeqLM",
        {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4, "vocab_size": 1000},
    ),
    "whisper": (
        "AutoModelForSpeechSeq2Seq",
        {
            "d_model": 64,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 128,
            "decoder_ffn_dim": 128,
            "vocab_size": 1000,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "decoder_start_token_id": 1,
            "max_source_positions": 100,
        },
    ),
    "mixtral": ("AutoModelForCausalLM", {**DECODER, "num_local_experts": 4}),
    "roberta": ("AutoModelForSequenceClassification", TEXT),
    "distilbert": (
        "AutoModelForSequenceClassification",
        {"dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128, "vocab_size": 1000},
    ),
    "mistral": ("AutoModelForCausalLM", DECODER),
    "qwen3": ("AutoModelForCausalLM", {**DECODER, "head_dim": 16}),
    "opt": ("AutoModelForCausalLM", {**TEXT, "ffn_dim": 128, "word_embed_proj_dim": 64}),
    "bart": (
        "AutoModelForSeq2SeqLM",
        {
            "d_model": 64,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 128,
            "decoder_ffn_dim": 128,
            "vocab_size": 1000,
        },
    ),
    "deit": ("AutoModel", IMAGE),
    "dinov2": ("AutoModelForImageClassification", {**IMAGE, "patch_size": 14, "image_size": 56}),
    "beit": ("AutoModelForImageClassification", IMAGE),
    "convnext": (
        "AutoModelForImageClassification",
        {"depths": [1, 1, 2, 1], "hidden_sizes": [16, 32, 48, 64]},
    ),
    "wav2vec2": ("AutoModel", {**TEXT, "conv_dim": [32, 32], "conv_stride": [5, 2], "conv_kernel": [10, 3]}),
}
"""Model type → (class that builds it, fields of a small configuration)."""


def cases(suite: str) -> list[tuple[str, dict[str, Any]]]:
    """Specs and build arguments of one suite: ``torchvision``, ``timm`` or ``transformers``."""
    if suite == "torchvision":
        from torchvision import models

        return [(f"torchvision:{name}", TEN_CLASSES) for name in models.list_models(module=models)]
    if suite == "timm":
        lines = Path(__file__).with_name("timm_models.txt").read_text(encoding="utf-8").splitlines()
        return [(f"timm:{line}", TEN_CLASSES) for line in lines if line and not line.startswith("#")]
    return [
        (f"transformers:{name}", {"options": {**fields, "num_labels": 10}, "auto_class": auto_class})
        for name, (auto_class, fields) in TRANSFORMERS.items()
    ]
