"""Example audio: waveforms and spectral features in the layouts that models take."""

from __future__ import annotations

import inspect
from collections.abc import Container, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ghn_init.tracing.inputs_config import BATCH, Spec
from ghn_init.tracing.inputs_images import everywhere
from ghn_init.tracing.inputs_layers import first_layers

AUDIO = ("input_features", "audio_mel", "input_values", "audio_input_features")
_BINS = (
    "num_mel_bins",
    "feature_size",
    "input_feat_per_channel",
    "mel_bins",
    "num_mels",
    "n_mels",
    "input_dim",
    "input_feat_size",
    "num_chroma",
)
_MASKS = ("input_features_mask", "feature_attention_mask", "padding_mask", "input_values_mask")
# A second at 16 kHz, two at 24 kHz, and windows of 1280 and 1920 samples fit one or the other.
_SAMPLES = (16000, 48000, 61440)
_STEPS = (400, 128)
_HOP = 160


def audio_inputs(spec: Spec, accepted: Container[str], values: str) -> Iterator[dict[str, Any]]:
    """What a forward, or a method that gives audio features, may take; likeliest first.

    Args:
        spec: The model and its configuration.
        accepted: Names of the arguments.
        values: The one that holds the audio.
    """
    for value, steps in _layouts(spec, values):
        kwargs: dict[str, Any] = {values: value}
        for name in _MASKS:
            if name in accepted:
                kwargs[name] = torch.ones(BATCH, steps, dtype=torch.long)
        if "input_values" in accepted and values != "input_values":
            # The wave that the features were taken from.
            wave = spec.floats(BATCH, 1, steps * spec.number("hop_length", default=_HOP))
            kwargs["input_values"] = wave
            if "padding_mask" in kwargs:
                kwargs["padding_mask"] = torch.ones(wave.shape, dtype=torch.long)
        if "chunk_sample_lengths" in accepted:
            kwargs["chunk_sample_lengths"] = torch.full((BATCH,), _HOP * steps)
        if "audio_mel_mask" in accepted:
            kwargs["audio_mel_mask"] = torch.zeros(BATCH, steps, dtype=torch.bool)
        yield kwargs
        if len(kwargs) > 1:
            masks = [name for name in _MASKS if name in kwargs]
            if masks:
                yield {**kwargs, **{name: kwargs[name].bool() for name in masks}}
            yield {values: value}


def _layouts(spec: Spec, values: str) -> Iterator[tuple[Tensor, int]]:
    """Values and their number of time steps."""
    widths = _widths(spec, values)
    if values == "input_values":
        if not any(True for _ in everywhere(spec.config, *_BINS[:1])):
            yield from _waves(spec)
        for steps in dict.fromkeys([*_lengths(spec), *_STEPS]):
            for bins in widths:
                yield spec.floats(BATCH, steps, bins), steps
        yield from _waves(spec)
        return
    for steps in dict.fromkeys([*_lengths(spec), *_STEPS]):
        for bins in widths:
            yield spec.floats(BATCH, bins, steps), steps
            yield spec.floats(BATCH, steps, bins), steps
            yield spec.floats(BATCH, 1, steps, bins), steps
    yield from _waves(spec)


def _waves(spec: Spec) -> Iterator[tuple[Tensor, int]]:
    channels = spec.number("audio_channels", "num_audio_channels", default=1)
    for samples in _SAMPLES:
        yield spec.floats(BATCH, samples), samples
        yield spec.floats(BATCH, channels, samples), samples


def _lengths(spec: Spec) -> list[int]:
    """Numbers of time steps that the configuration demands."""
    positions = [2 * n for n in everywhere(spec.config, "max_source_positions") if isinstance(n, int)]
    longest = [n for n in everywhere(spec.config, "max_length") if isinstance(n, int) and n > 256]
    return [*positions[:1], *longest[:1]]


def _widths(spec: Spec, values: str) -> list[int]:
    """Spectral bins that the configurations give, then those that the first layer takes."""
    declared = [n for n in everywhere(spec.config, *_BINS) if isinstance(n, int) and n > 1]
    layer = next(first_layers(_part(spec.model, values)), None)
    found = [getattr(layer, name, None) for name in ("in_features", "in_channels")]
    normalised = getattr(layer, "normalized_shape", None)
    if isinstance(normalised, tuple):
        found.append(normalised[-1])
    return list(dict.fromkeys([*(n for n in found if isinstance(n, int) and n > 1), *declared, 80]))[:4]


def _part(model: nn.Module, values: str) -> nn.Module:
    """The innermost of the first nested modules that take these values, or the model itself."""
    for module in list(model.modules())[1:]:
        try:
            names = inspect.signature(module.forward).parameters
        except (TypeError, ValueError):
            continue
        if values in names:
            return _part(module, values)
    return model
