from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ghn_init
from ghn_init.errors import InputError
from ghn_init.tracing.inputs import find_inputs, given_inputs, register_inputs


def sequential(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers)


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.embed = nn.Conv2d(1, 4, 3, padding=1), nn.Embedding(10, 4)

    def forward(self, x: Tensor, timesteps: Tensor) -> Tensor:
        return self.conv(x) + self.embed(timesteps)[:, :, None, None]


PLAIN = {
    "image": lambda: sequential(nn.Conv2d(5, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)),
    "digits": lambda: sequential(nn.Conv2d(1, 4, 5), nn.Flatten(), nn.Linear(4 * 24 * 24, 10)),
    "cifar": lambda: sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 32 * 32, 10)),
    "waves": lambda: sequential(nn.Conv1d(2, 4, 3), nn.AdaptiveAvgPool1d(1)),
    "volumes": lambda: sequential(nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4)),
    "generator": lambda: sequential(nn.ConvTranspose2d(16, 8, 4), nn.BatchNorm2d(8)),
    "features": lambda: sequential(nn.Linear(7, 4), nn.BatchNorm1d(4)),
    "flattened": lambda: sequential(nn.Flatten(), nn.Linear(784, 4)),
    "tokens": lambda: sequential(nn.Embedding(11, 8), nn.Linear(8, 2)),
    "recurrent": lambda: nn.LSTM(6, 4, 2),
    "attention": lambda: nn.TransformerEncoderLayer(8, 2, 16),
    "transformer": lambda: nn.Transformer(8, 2, 1, 1, 16),
    "bilinear": lambda: nn.Bilinear(4, 4, 3),
    "norm first": lambda: sequential(nn.LayerNorm(8), nn.Linear(8, 2)),
    "two inputs": TwoInputs,
}


@pytest.mark.parametrize("kind", list(PLAIN))
def test_inputs_of_plain_models_come_from_their_first_layers(kind: str) -> None:
    model = PLAIN[kind]()
    names = {name for name, _ in model.named_parameters()}
    graph = ghn_init.trace(model)
    assert graph.slots.keys() | graph.unreached.keys() == names
    assert not [why for why in graph.unreached.values() if "forward" in why or "output" in why]


@pytest.mark.parametrize(
    ("name", "options", "shape"),
    [
        ("resnet18", {}, (2, 3, 224, 224)),
        ("resnet18", {"in_chans": 5}, (2, 5, 224, 224)),
        ("vit_tiny_patch16_224", {"img_size": 96}, (2, 3, 96, 96)),
        ("resnet18", {"features_only": True}, (2, 3, 224, 224)),
    ],
)
def test_timm_models_get_their_image_size(name: str, options: dict[str, Any], shape: tuple[int, ...]) -> None:
    model = pytest.importorskip("timm").create_model(name, **options)
    ((image,), named) = find_inputs(model)
    assert (image.shape, image.device.type, named) == (shape, "meta", {})
    assert len(ghn_init.trace(model)) > 20


@pytest.mark.parametrize(("name", "size"), [("vit_b_32", 224), ("inception_v3", 299)])
def test_torchvision_models_in_train_mode(name: str, size: int) -> None:
    torchvision = pytest.importorskip("torchvision")
    options = {"init_weights": False} if name == "inception_v3" else {}
    with torch.device("meta"):
        model = torchvision.models.get_model(name, weights=None, **options).train()
    found, given = ghn_init.trace(model), ghn_init.trace(model, torch.empty(2, 3, size, size))
    assert found.to_dict() == given.to_dict()
    assert not [why for why in found.unreached.values() if "forward" in why]


def transformers_models() -> dict[str, tuple[str, str, dict[str, Any], set[str]]]:
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
    vision = {**small, "image_size": 32, "patch_size": 8}
    coder = {
        **{
            "d_model": 32,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_ffn_dim": 64,
            "decoder_ffn_dim": 64,
        },
        **{"encoder_attention_heads": 4, "decoder_attention_heads": 4, "vocab_size": 120},
    }
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 3}
    both = {"text_config": {**small, "vocab_size": 120}, "vision_config": vision}
    audio = {**coder, **special, "max_source_positions": 30, "num_mel_bins": 16}
    return {
        "bert": ("BertModel", "BertConfig", {**small, "vocab_size": 120}, {"input_ids"}),
        "vit": ("ViTModel", "ViTConfig", vision, {"pixel_values"}),
        "clip": ("CLIPModel", "CLIPConfig", both, {"input_ids", "pixel_values"}),
        "bart": ("BartForSequenceClassification", "BartConfig", coder, {"input_ids", "decoder_input_ids"}),
        "whisper": (
            *("WhisperForConditionalGeneration", "WhisperConfig", audio),
            {"input_features", "decoder_input_ids"},
        ),
    }


@pytest.mark.parametrize("kind", list(transformers_models()))
def test_transformers_models_get_inputs_for_every_part(kind: str) -> None:
    transformers = pytest.importorskip("transformers")
    name, config, options, expected = transformers_models()[kind]
    with torch.device("meta"):
        model = getattr(transformers, name)(getattr(transformers, config)(**options))
    args, named = find_inputs(model)
    assert (args, named.keys()) == ((), expected)
    assert not [why for why in ghn_init.trace(model).unreached.values() if "forward" in why]


class Odd(nn.Module):
    """Takes a dictionary that nothing tells about."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Linear(4, 3)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"scores": self.scale(batch["left"] + batch["right"])}


def test_forward_that_nothing_fits_is_told() -> None:
    with pytest.raises(InputError, match=r"Odd.forward failed on each of \d+ inputs tried"):
        ghn_init.trace(Odd())


def test_registered_inputs_are_used_until_taken_back() -> None:
    pair = {"left": torch.empty(2, 4), "right": torch.empty(2, 4)}
    undo = register_inputs(lambda model: hasattr(model, "scale"), lambda model: (pair,))
    try:
        assert len(ghn_init.trace(Odd()).slots) == 2
    finally:
        undo()
    with pytest.raises(InputError):
        ghn_init.trace(Odd())
    undo()


@pytest.mark.parametrize("kind", ["tuple", "dict", "list"])
def test_given_inputs_can_be_of_any_structure(kind: str) -> None:
    class Structured(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x: Any, y: Any = None) -> Any:
            return [self.layer(part) for part in x] if isinstance(x, list) else self.layer(x + y)

    part = torch.empty(2, 4)
    given = {"tuple": (part, part), "dict": {"x": part, "y": part}, "list": [part, part]}[kind]
    assert len(ghn_init.trace(Structured(), given).slots) == 2


def test_given_inputs_without_tensors_are_told() -> None:
    assert given_inputs(torch.empty(2))[1] == {}
    for nothing in ((), {}, [], 3, {"x": None}):
        with pytest.raises(InputError, match="holds no tensor"):
            given_inputs(nothing)


class HeadFirst(nn.Module):
    """Registers its head before the layer that its input goes to."""

    def __init__(self, first: nn.Module) -> None:
        super().__init__()
        self.head, self.first = nn.Linear(8, 3), first

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x))


@pytest.mark.parametrize(
    "first", [nn.Linear(5, 8), nn.Embedding(20, 8), nn.Sequential(nn.LayerNorm(5), nn.Linear(5, 8))]
)
def test_the_layer_that_runs_first_tells_the_input(first):
    graph = ghn_init.trace(HeadFirst(first))
    assert set(graph.slots) == {name for name, _ in HeadFirst(first).named_parameters()}


class Speech(nn.Module):
    """Two convolutions, a table of positions that checks the length, and a decoder of tokens."""

    def __init__(self, positions: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv1d(20, 16, 3, padding=1), nn.Conv1d(16, 16, 3, 2, 1)
        self.register_buffer("positions", torch.zeros(positions, 16))
        self.embed, self.attention = nn.Embedding(30, 16), nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, mel: Tensor, tokens: Tensor) -> Tensor:
        x = self.second(self.first(mel)).transpose(1, 2)
        assert x.shape[1:] == self.positions.shape, "wrong length"
        x = x + self.positions
        return self.attention(self.embed(tokens), x, x)[0]


def test_a_table_of_positions_tells_the_length():
    assert ghn_init.trace(Speech(50)).unreached == {}
