"""Example inputs for models that carry a ``config`` and a ``main_input_name`` (transformers and its kin)."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ghn_init.tracing.inputs_layers import computing_dtype

BATCH = 2
LENGTH = 16


@dataclass(frozen=True)
class Spec:
    """What the makers need to know.

    Attributes:
        model: The model; only read.
        config: Its configuration, searched through its sub-configurations too.
    """

    model: nn.Module
    config: Any

    def find(self, *names: str, default: Any = None) -> Any:
        """The first of the names that some level of the configuration sets, outer levels first."""
        levels = [self.config]
        while levels:
            for level in levels:
                for name in names:
                    value = _field(level, name)
                    if value is not None and not is_config(value):
                        return value
            levels = [sub for level in levels for sub in sub_configs(level)]
        return default

    def number(self, *names: str, default: int) -> int:
        """As :meth:`find`, the first that is a whole number; of a list its first item."""
        value = self.find(*names, default=default)
        if isinstance(value, (tuple, list)) and value:
            value = value[0]
        return value if isinstance(value, int) else default

    def floats(self, *shape: int) -> Tensor:
        """Values without values, in the model's dtype."""
        return torch.empty(shape, dtype=computing_dtype(self.model), device="meta")


def _field(config: Any, name: str) -> Any:
    return config.get(name) if isinstance(config, dict) else getattr(config, name, None)


def is_config(value: Any) -> bool:
    """Whether the value is a configuration in the manner of transformers."""
    return hasattr(value, "model_type") and hasattr(value, "to_dict")


def sub_configs(config: Any) -> list[Any]:
    """Configurations held by a configuration."""
    return (
        [value for value in vars(config).values() if is_config(value)] if hasattr(config, "__dict__") else []
    )


def from_config(model: nn.Module) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Keyword arguments for the forward: first with every modality that it takes, then with the main one."""
    config, main = getattr(model, "config", None), getattr(model, "main_input_name", None)
    if not isinstance(main, str) or not is_config(config):
        return
    spec = Spec(model, config)
    accepted = inspect.signature(model.forward).parameters
    required = [
        name
        for name, parameter in accepted.items()
        if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    everything = [name for name in accepted if name in _MODALITIES]
    kwargs: dict[str, Any] = {}
    for names in (everything, [main]):
        kwargs = {}
        for name in dict.fromkeys([main, *required, *names]):
            maker = MAKERS.get(name)
            if maker is not None and name in accepted:
                kwargs[name] = maker(spec)
        if "decoder_input_ids" in accepted and spec.find("is_encoder_decoder"):
            kwargs["decoder_input_ids"] = decoder_tokens(spec)
        if kwargs:
            yield (), kwargs
            yield from _other_layouts(kwargs)
            yield from _codes(spec, kwargs)
    # Classifiers without a padding token refuse several sequences at once.
    if spec.find("pad_token_id") is None and "input_ids" in kwargs:
        yield (), {name: value[:1] for name, value in kwargs.items()}


def _other_layouts(kwargs: dict[str, Any]) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    """The same arguments with features by time step, one audio channel, or pairs of images."""
    features, wave, image = (kwargs.get(name) for name in ("input_features", "input_values", "pixel_values"))
    if features is not None and features.dim() == 3:
        yield (), {**kwargs, "input_features": features.transpose(1, 2)}
        yield (), {**kwargs, "input_features": features.transpose(1, 2).unsqueeze(1)}
    if wave is not None and wave.dim() == 2:
        yield (), {**kwargs, "input_values": wave.unsqueeze(1)}
    if image is not None and image.dim() == 4:
        yield (), {**kwargs, "pixel_values": torch.stack([image, image], 1)}


def _codes(spec: Spec, kwargs: dict[str, Any]) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    """The same arguments with a token for each codebook of an audio code: as rows, or last."""
    ids, books = kwargs.get("input_ids"), spec.number("num_codebooks", "n_codebooks", default=0)
    if ids is None or books < 1:
        return
    if "decoder_input_ids" in kwargs:
        yield (), {**kwargs, "decoder_input_ids": kwargs["decoder_input_ids"].repeat_interleave(books, 0)}
    yield (), {**kwargs, "input_ids": ids.repeat_interleave(books, 0)}
    for last in (books, books + 1):
        yield (), {**kwargs, "input_ids": ids.unsqueeze(-1).repeat(1, 1, last)}


def length(spec: Spec) -> int:
    """Number of tokens."""
    return min(LENGTH, max(2, spec.number("max_position_embeddings", "n_positions", default=LENGTH) - 2))


def tokens(spec: Spec) -> Tensor:
    """Token ids ``(2, length)``, none of them special but the last, which ends the sequence."""
    vocabulary = spec.number("vocab_size", default=100)
    special = {
        value
        for name in ("pad_token_id", "bos_token_id", "eos_token_id", "image_token_id", "image_token_index")
        if isinstance(value := spec.find(name), int)
    }
    ordinary = [i for i in range(min(vocabulary, 64)) if i not in special] or [0]
    row = [ordinary[i % len(ordinary)] for i in range(length(spec))]
    end = spec.number("eos_token_id", default=-1)
    if 0 <= end < vocabulary:
        row[-1] = end
    return torch.tensor([row] * BATCH)


def decoder_tokens(spec: Spec) -> Tensor:
    """Token ids of a decoder ``(2, length)``."""
    return torch.full((BATCH, length(spec)), max(0, spec.number("decoder_start_token_id", default=0)))


def images(spec: Spec) -> Tensor:
    """Pixel values: ``(2, channels, height, width)``, for videos ``(2, frames, channels, height, width)``."""
    channels = spec.number("num_channels", "in_channels", "in_chans", default=3)
    size = spec.find("image_size", "img_size", "input_size", "crop_size", default=224)
    if isinstance(size, dict):
        size = (size.get("height", 224), size.get("width", 224))
    height, width = (size, size) if isinstance(size, int) else (int(size[-2]), int(size[-1]))
    frames = spec.find("num_frames")
    if isinstance(frames, int):
        return spec.floats(BATCH, frames, channels, height, width)
    return spec.floats(BATCH, channels, height, width)


def audio_features(spec: Spec) -> Tensor:
    """Log-mel features ``(2, bins, frames)``."""
    bins = spec.number("num_mel_bins", "feature_size", "input_feat_per_channel", default=80)
    return spec.floats(BATCH, bins, 2 * spec.number("max_source_positions", default=64))


def clip(spec: Spec) -> Tensor:
    """Videos ``(2, frames, channels, height, width)``."""
    image = images(spec)
    if image.dim() == 5:
        return image
    frames = spec.number("frames_per_clip", "num_frames", default=4)
    return spec.floats(BATCH, frames, *image.shape[1:])


def waveform(spec: Spec) -> Tensor:
    """Raw audio ``(2, samples)``; with mel bins in the configuration ``(2, frames, bins)``."""
    bins = spec.find("num_mel_bins")
    if isinstance(bins, int) and isinstance(spec.find("max_length"), int):
        return spec.floats(BATCH, spec.number("max_length", default=1024), bins)
    return spec.floats(BATCH, 16000)


def series(spec: Spec) -> Tensor:
    """Past values of a time series ``(2, steps, channels)``, with the steps that lagged copies look back."""
    lags = [lag for lag in spec.find("lags_sequence", default=()) if isinstance(lag, int)]
    steps = spec.number("context_length", default=32) + max(lags, default=0)
    channels = spec.number("num_input_channels", "input_size", default=1)
    # Models that look back by lags take a single channel without its dimension.
    return spec.floats(BATCH, steps) if lags and channels == 1 else spec.floats(BATCH, steps, channels)


_MODALITIES = ("input_ids", "pixel_values", "input_features", "input_values", "bbox", "lang_ids")
MAKERS: dict[str, Any] = {
    "input_ids": tokens,
    "decoder_input_ids": decoder_tokens,
    "pixel_values": images,
    "input_features": audio_features,
    "input_values": waveform,
    "past_values": series,
    "pixel_values_videos": clip,
    "input_features_mask": lambda spec: torch.ones(BATCH, audio_features(spec).shape[-1], dtype=torch.long),
    "qformer_input_ids": tokens,
    "lang_ids": lambda spec: torch.zeros(BATCH, dtype=torch.long),
    "bbox": lambda spec: torch.zeros(BATCH, length(spec), 4, dtype=torch.long),
}
