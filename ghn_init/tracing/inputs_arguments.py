"""Example values of arguments that stand beside the main input, by their names and the configuration."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ghn_init.tracing.inputs_config import BATCH, LENGTH, MAKERS, Spec, length, tokens
from ghn_init.tracing.inputs_images import declared_images
from ghn_init.tracing.inputs_layers import first_layers

Chosen = Mapping[str, Any]
"""The arguments that were chosen before."""

Parameters = Mapping[str, inspect.Parameter]

ENTITIES = REGIONS = 4
CLASSES = 3
_POINT_LABELS = [1, 0, -1]  # on the object, beside it, none


def width(spec: Spec, *names: str) -> int:
    """Width of hidden states: that of the first name which a configuration gives, else of a first layer."""
    declared = spec.find(*names)
    if isinstance(declared, int):
        return declared
    for layer in first_layers(spec.model):
        for name in ("in_features", "in_channels", "embedding_dim"):
            value = getattr(layer, name, None)
            if isinstance(value, int):
                return value
    return spec.number("hidden_size", "d_model", default=64)


def _hidden(*names: str, count: tuple[str, ...] = ()) -> Callable[[Spec, Chosen], Tensor]:
    """Maker of hidden states ``(2, length, width)``."""

    def make(spec: Spec, chosen: Chosen) -> Tensor:
        del chosen
        return spec.floats(BATCH, spec.number(*count, default=LENGTH), width(spec, *names))

    return make


def _first_layer(steps_last: bool) -> Callable[[Spec, Chosen], Tensor]:
    """Maker of what the first layer takes ``(2, length, width)``, or with the time steps last."""

    def make(spec: Spec, chosen: Chosen) -> Tensor:
        del chosen
        size = width(spec)
        return spec.floats(BATCH, size, LENGTH) if steps_last else spec.floats(BATCH, LENGTH, size)

    return make


def _steps(*names: str) -> Callable[[Spec, Chosen], Tensor]:
    """Maker of values by time step ``(2, length, width)``."""
    return lambda spec, chosen: spec.floats(BATCH, LENGTH, spec.number(*names, default=1))


def _ids(rows: int = BATCH) -> Callable[[Spec, Chosen], Tensor]:
    return lambda spec, chosen: tokens(spec)[:1].repeat(rows, 1)


def _ones(rows: int = BATCH) -> Callable[[Spec, Chosen], Tensor]:
    return lambda spec, chosen: torch.ones(rows, length(spec), dtype=torch.long)


def _decoder_frames(spec: Spec, chosen: Chosen) -> Tensor:
    """Spectral frames, where some layer takes them; else hidden states."""
    bins = spec.number("num_mel_bins", default=80)
    taken = any(getattr(layer, "in_features", None) == bins for layer in first_layers(spec.model))
    return spec.floats(BATCH, LENGTH, bins if taken else width(spec, "hidden_size", "d_model"))


def _like(name: str) -> Callable[[Spec, Chosen], Any]:
    """Maker of a copy of another argument."""
    return lambda spec, chosen: chosen[name].clone() if name in chosen else None


def _large_images(spec: Spec, chosen: Chosen) -> Tensor:
    """Images of the largest declared size, for the tower that takes them beside smaller ones."""
    del chosen
    return max(declared_images(spec), key=Tensor.numel)


def _pixel_mask(spec: Spec, chosen: Chosen) -> Any:
    """Pixels that count: the images' shape without their channels."""
    image = chosen.get("pixel_values")
    if image is None or image.dim() not in (4, 5):
        return None
    return torch.ones(*image.shape[:-3], *image.shape[-2:], dtype=torch.long)


def _whole_image_mask(spec: Spec, chosen: Chosen) -> Any:
    """Images that count ``(2, images)``."""
    image = chosen.get("pixel_values")
    return None if image is None or image.dim() != 5 else torch.ones(image.shape[:2], dtype=torch.bool)


def _taken_first(name: str) -> Callable[[Spec, Chosen], Any]:
    """Maker of hidden states as wide as the first layer of the part whose forward takes them first."""

    def make(spec: Spec, chosen: Chosen) -> Any:
        del chosen
        for module in list(spec.model.modules())[1:]:
            names = list(inspect.signature(module.forward).parameters)
            layer = next(first_layers(module), None) if names[:1] == [name] else None
            if isinstance(layer, nn.Linear):
                return spec.floats(BATCH, LENGTH, layer.in_features)
        return None

    return make


def _of_action_expert(spec: Spec, chosen: Chosen) -> Tensor:
    """Embedded actions of the width of the part that takes them, if it has a configuration of its own."""
    del chosen
    parts = [value for name, value in vars(spec.config).items() if name in ("dit_config", "action_config")]
    size = Spec(spec.model, parts[0] if parts else spec.config).number("hidden_size", "d_model", default=64)
    return spec.floats(BATCH, spec.number("chunk_size", default=LENGTH), size)


def _image_count(spec: Spec, chosen: Chosen) -> Any:
    """Which images each token attends to ``(2, length, images)``."""
    image, ids = chosen.get("pixel_values"), chosen.get("input_ids")
    if image is None or ids is None:
        return None
    images = image.shape[1] if image.dim() == 5 else 1
    return torch.ones(*ids.shape, images, dtype=torch.long)


def _past(*names: str, steps: str = "past") -> Callable[[Spec, Chosen], Any]:
    """Maker of what accompanies a time series: ``(2, steps, width)`` of the past or the future."""

    def make(spec: Spec, chosen: Chosen) -> Any:
        past = chosen.get("past_values")
        if past is None:
            return None
        count = past.shape[1] if steps == "past" else spec.number("prediction_length", default=1)
        return spec.floats(BATCH, count, spec.number(*names, default=1)) if names else torch.ones(past.shape)

    return make


def _token_mask(spec: Spec, chosen: Chosen) -> Any:
    ids = chosen.get("input_ids")
    return None if ids is None else torch.ones_like(ids)


def _series_mask(spec: Spec, chosen: Chosen) -> Any:
    past = chosen.get("past_values")
    return None if past is None else torch.zeros(past.shape, dtype=torch.long)


def _points(spec: Spec, chosen: Chosen) -> Any:
    """Prompts of a mask decoder ``(2, 1, points, 2)``: one object in each image."""
    return None if "pixel_values" not in chosen else spec.floats(BATCH, 1, len(_POINT_LABELS), 2)


def _with_points(make: Callable[[Spec, Chosen], Any]) -> Callable[[Spec, Chosen], Any]:
    """Maker of what goes with points."""
    return lambda spec, chosen: make(spec, chosen) if "input_points" in chosen else None


def _coarse_mask(spec: Spec, chosen: Chosen) -> Tensor:
    """Masks of a quarter of the image's sides ``(2, 1, height, width)``."""
    height, width = chosen["pixel_values"].shape[-2:]
    return spec.floats(BATCH, 1, height // 4, width // 4)


COMPANIONS: dict[str, Callable[[Spec, Chosen], Any]] = {
    "encoder_hidden_states": _hidden("encoder_hidden_size", "cross_attention_dim", "hidden_size", "d_model"),
    "query_embeds": _hidden("hidden_size", "d_model", count=("num_query_tokens", "num_queries")),
    "inputs_embeds": _hidden("hidden_size", "d_model"),
    "action_embeds": _of_action_expert,
    "inputs": _hidden("d_model", "hidden_size"),
    "noise_embeds": _hidden("hidden_size", "d_model"),
    "context_hidden_states": _first_layer(steps_last=False),
    "latents": _first_layer(steps_last=True),
    "hidden_states": _first_layer(steps_last=True),
    "decoder_input_values": _decoder_frames,
    "speaker_embeddings": lambda spec, chosen: spec.floats(
        BATCH, spec.number("speaker_embedding_dim", default=512)
    ),
    "visual_feats": lambda spec, chosen: spec.floats(
        BATCH, REGIONS, spec.number("visual_feat_dim", default=2048)
    ),
    "visual_pos": lambda spec, chosen: spec.floats(BATCH, REGIONS, spec.number("visual_pos_dim", default=4)),
    "visual_embeds": lambda spec, chosen: spec.floats(
        BATCH, REGIONS, spec.number("visual_embedding_dim", default=512)
    ),
    "visual_token_type_ids": lambda spec, chosen: torch.ones(BATCH, REGIONS, dtype=torch.long),
    "states": _steps("state_dim"),
    "actions": _steps("act_dim", "action_dim"),
    "rewards": _steps("reward_dim"),
    "returns_to_go": _steps("return_dim"),
    "timesteps": lambda spec, chosen: torch.arange(LENGTH).repeat(BATCH, 1),
    "task_inputs": lambda spec, chosen: torch.ones(BATCH, spec.number("task_seq_len", default=77)),
    "prompt_pixel_values": _like("pixel_values"),
    "prompt_masks": _like("pixel_values"),
    "high_res_pixel_values": _large_images,
    "protein_input_ids": _ids(),
    "protein_attention_mask": _ones(),
    "entity_ids": lambda spec, chosen: torch.ones(BATCH, ENTITIES, dtype=torch.long),
    "entity_position_ids": lambda spec, chosen: torch.ones(BATCH, ENTITIES, 2, dtype=torch.long),
    "pixel_mask": _pixel_mask,
    "pixel_attention_mask": _pixel_mask,
    "image_attention_mask": _image_count,
    "qformer_input_ids": _ids(),
    "tasks_input_ids": _ids(),
    "tasks_attention_mask": _ones(),
    "classes_input_ids": _ids(BATCH * CLASSES),
    "classes_attention_mask": _ones(BATCH * CLASSES),
    "classes_structure": lambda spec, chosen: torch.full((BATCH,), CLASSES),
    "past_values_padding": _series_mask,
    "past_observed_mask": _past(),
    "past_time_features": _past("num_time_features"),
    "future_time_features": _past("num_time_features", steps="future"),
    "freq": lambda spec, chosen: torch.zeros(BATCH, 1, dtype=torch.long),
    "attention_mask": _token_mask,
    "input_points": _points,
    "input_labels": _with_points(lambda spec, chosen: torch.tensor([[_POINT_LABELS]] * BATCH)),
    "input_boxes": _with_points(lambda spec, chosen: spec.floats(BATCH, 1, 4)),
    "input_masks": _with_points(_coarse_mask),
}
"""Argument → maker; it may look at the arguments chosen before, and gives ``None`` where it does not fit."""

NEEDED = (
    *("visual_feats", "visual_pos", "visual_embeds", "visual_token_type_ids", "image_attention_mask"),
    *("states", "actions", "rewards", "returns_to_go", "timesteps", "decoder_input_values"),
    *("qformer_input_ids", "bbox", "high_res_pixel_values", "protein_input_ids", "protein_attention_mask"),
    *("entity_ids", "entity_position_ids"),
)
"""Optional arguments without which a part of the model, or all of it, does not run."""


ALTERNATIVES: dict[str, Callable[[Spec, Chosen], Any]] = {
    "pixel_attention_mask": _whole_image_mask,
    "context_hidden_states": _taken_first("context_hidden_states"),
}
"""What an argument may be instead."""


def complete(
    spec: Spec,
    chosen: dict[str, Any],
    parameters: Parameters,
    *,
    everything: bool = False,
    alternatives: bool = False,
) -> dict[str, Any]:
    """Add values for the arguments that a method requires, and for those that reach more of the model.

    Args:
        spec: The model and its configuration.
        chosen: Arguments so far.
        parameters: Those of the method.
        everything: Add every optional argument too that a maker knows.
        alternatives: Prefer what an argument may be instead.
    """
    found = dict(chosen)
    for name, parameter in parameters.items():
        required = parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        if name in found or not (required or name in NEEDED or (everything and name in _SAFE)):
            continue
        maker = ALTERNATIVES.get(name) if alternatives else None
        maker = maker or COMPANIONS.get(name)
        value = maker(spec, found) if maker is not None else _plain(spec, name)
        if value is not None:
            found[name] = value
    return found


def _plain(spec: Spec, name: str) -> Any:
    maker = MAKERS.get(name)
    return None if maker is None else maker(spec)


_SAFE = (
    "encoder_hidden_states",
    "pixel_mask",
    "pixel_attention_mask",
    "speaker_embeddings",
    "attention_mask",
    *("input_points", "input_labels", "input_boxes", "input_masks"),
)
