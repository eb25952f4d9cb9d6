from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ghn_init

transformers = pytest.importorskip("transformers")
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 100,
}
IMAGE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
AUDIO = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "num_mel_bins": 80,
    "subsampling_conv_channels": 8,
}


def unused(model: nn.Module) -> list[str]:
    unreached = ghn_init.trace(model.eval(), method="recorder").unreached
    return [name for name, why in unreached.items() if "not used" in why]


def llava(name: str) -> nn.Module:
    config = getattr(transformers, f"{name}Config")(
        text_config={"model_type": "llama", **TEXT},
        vision_config={"model_type": "clip_vision_model", **IMAGE},
        image_token_id=99,
    )
    return getattr(transformers, f"{name}ForConditionalGeneration")(config)


def test_vision_tower_of_llava_is_reached() -> None:
    missed = unused(llava("Llava"))
    # The features are those of the layer before the last.
    assert missed
    assert all(".layers.1." in name or "post_layernorm" in name for name in missed)


def test_vision_tower_on_a_grid_is_reached() -> None:
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
    vision = {"embed_dim": 32, "hidden_size": 32, "depth": 2, "num_heads": 2, "patch_size": 4}
    text = {**TEXT, "rope_parameters": rope, "rope_scaling": rope}  # its name before transformers 5
    config = transformers.Qwen2VLConfig(
        text_config=text, vision_config=vision, image_token_id=97, video_token_id=98, vision_start_token_id=96
    )
    assert unused(transformers.Qwen2VLForConditionalGeneration(config)) == []


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ParakeetEncoder", AUDIO),
        ("PatchTSTModel", {"d_model": 32, "ffn_dim": 32, "num_attention_heads": 2, "num_hidden_layers": 1}),
    ],
)
def test_other_layouts_of_features(name: str, options: dict[str, Any]) -> None:
    cls = getattr(transformers, name, None)
    if cls is None:
        pytest.skip(f"this transformers has no {name}")
    assert unused(cls(cls.config_class(**options))) == []


def test_video_model_gets_a_clip() -> None:
    config = transformers.VJEPA2Config(
        crop_size=32, patch_size=8, frames_per_clip=4, hidden_size=32, num_attention_heads=2,
        num_hidden_layers=1, pred_hidden_size=24, pred_num_attention_heads=2, pred_num_hidden_layers=1,
    )  # fmt: skip
    assert len(ghn_init.trace(transformers.VJEPA2Model(config).eval(), method="recorder")) > 10


def test_long_windows_have_sizes_computed_from_tensors() -> None:
    config = transformers.LongformerConfig(**{**TEXT, "attention_window": [512, 512]})
    del config.num_key_value_heads
    missed = unused(transformers.LongformerModel(config))
    assert all("_global" in name for name in missed)


class Nested(nn.Module):
    """Its forward is replaced by a function that has captured itself."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

        def forward(x: Tensor, depth: int = 2) -> Tensor:
            return self.linear(forward(x, depth - 1)) if depth else x

        self.forward = forward  # type: ignore[method-assign]


def test_a_replaced_method_that_captured_itself() -> None:
    graph = ghn_init.trace(Nested(), torch.empty(2, 4), method="recorder")
    assert graph.slots.keys() == {"linear.weight", "linear.bias"}
