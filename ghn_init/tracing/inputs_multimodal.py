"""Example inputs of models that take images, video, audio or several of them; they reach every tower."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ghn_init.errors import TraceError
from ghn_init.tracing.inputs_arguments import COMPANIONS, Parameters, complete
from ghn_init.tracing.inputs_audio import AUDIO, audio_inputs
from ghn_init.tracing.inputs_config import BATCH, MAKERS, Spec, decoder_tokens, is_config, tokens
from ghn_init.tracing.inputs_images import image_inputs, is_patched
from ghn_init.tracing.recorder import record

_TRIES, _TRIES_ALONE = 48, 12


@dataclass(frozen=True)
class Modality:
    """How a model takes one kind of input.

    Attributes:
        values: Names that the argument with the values may have.
        methods: The first of these that there is gives the features which take the place of tokens.
        tokens: Fields of the configuration with the placeholder's token id.
        kind: Entry of such tokens in ``mm_token_type_ids``.
    """

    values: tuple[str, ...]
    methods: tuple[str, ...]
    tokens: tuple[str, ...]
    kind: int


_MODALITIES = (
    Modality(
        ("pixel_values", "image_pixel_values", "flattened_patches"),
        ("get_image_features",),
        ("image_token_id", "image_token_index"),
        1,
    ),
    Modality(
        ("pixel_values_videos",),
        ("get_video_features", "get_image_features"),
        ("video_token_id", "video_token_index"),
        2,
    ),
    Modality(AUDIO, ("get_audio_features",), ("audio_token_id", "audio_token_index"), 3),
)


@dataclass
class _Part:
    """What is known of one modality of a model: candidate arguments, and how many tokens each takes."""

    modality: Modality
    candidates: list[dict[str, Any]]
    count: int = 0
    token: int | None = None


@dataclass
class _Text:
    """Token ids, and which of them stand for features."""

    row: list[int] = field(default_factory=list)
    kinds: list[int] = field(default_factory=list)


class _Features(nn.Module):
    """A model whose forward is one of its towers with its projection."""

    def __init__(self, model: nn.Module, method: str) -> None:
        super().__init__()
        self.model, self.method = model, method

    def forward(self, **inputs: Any) -> Any:
        """The features that take the place of tokens."""
        found = getattr(self.model, self.method)(**inputs)
        return getattr(found, "pooler_output", found)


def from_modalities(model: nn.Module) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Keyword arguments with every modality that the forward takes, likeliest first."""
    config = getattr(model, "config", None)
    if not is_config(config):
        return
    spec, accepted = Spec(model, config), inspect.signature(model.forward).parameters
    parts = [part for modality in _MODALITIES if (part := _part(spec, modality, accepted)) is not None]
    if not parts and not any(
        name in accepted for name in (*COMPANIONS, "past_values") if name not in _COMMON
    ):
        return
    first: list[dict[str, Any]] = []
    for chosen in _choices(parts):
        for kwargs in _combined(spec, chosen, accepted):
            first = [*first, kwargs][:_TRIES_ALONE]
            yield (), kwargs
    # Some forwards work for a batch of one only.
    for kwargs in first:
        if all(len(value) == BATCH for value in kwargs.values()):
            yield (), {name: value[:1] for name, value in kwargs.items()}


def _choices(parts: list[_Part]) -> list[list[_Part]]:
    """All modalities, then those whose towers are known to take their inputs, then each of these alone."""
    known = [part for part in parts if part.count]
    alone = [[part] for part in known] if len(known) > 1 else []
    return [parts, *([known] if 0 < len(known) < len(parts) else []), *alone]


def _combined(spec: Spec, parts: list[_Part], accepted: Parameters) -> Iterator[dict[str, Any]]:
    """Keyword arguments with these modalities."""
    text = _text(spec, parts, accepted)
    combined = itertools.product(*(part.candidates for part in parts))
    for combination in itertools.islice(combined, _TRIES):
        kwargs = {name: value for chosen in combination for name, value in chosen.items()}
        kwargs = {**text, **{name: value for name, value in kwargs.items() if name in accepted}}
        if "past_values" in accepted:
            kwargs["past_values"] = MAKERS["past_values"](spec)
        tried: list[dict[str, Any]] = []
        for everything, alternatives in ((False, False), (True, False), (True, True)):
            found = complete(spec, kwargs, accepted, everything=everything, alternatives=alternatives)
            if not any(_same(found, other) for other in tried):
                tried.append(found)
                yield found


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(one[name].shape == other[name].shape for name in one)


_COMMON = ("attention_mask", "inputs_embeds", "encoder_hidden_states", "pixel_mask", "hidden_states")


def _part(spec: Spec, modality: Modality, accepted: Container[str]) -> _Part | None:
    """The modality's candidates; those that its own method takes, where there is one."""
    values = next((name for name in modality.values if name in accepted), None)
    if values is None and modality.kind == 1 and "hidden_states" in accepted and is_patched(accepted):
        values = "hidden_states"
    if values is None:
        return None
    method = next((name for name in modality.methods if hasattr(spec.model, name)), None)
    if method is None:
        return _Part(modality, list(_inputs(spec, modality, accepted, values)))
    names = inspect.signature(getattr(spec.model, method)).parameters
    known_as = (values, *modality.values, *_MODALITIES[0].values)
    inner = next((name for name in known_as if name in names), values)
    for found in itertools.islice(_inputs(spec, modality, names, inner), _TRIES):
        inputs = complete(spec, found, names)
        count = _count(spec.model, method, inputs)
        if count:
            token = spec.find(*modality.tokens)
            chosen = {values if name == inner else name: value for name, value in inputs.items()}
            return _Part(modality, [chosen], count // BATCH, token if isinstance(token, int) else None)
    return _Part(modality, list(_inputs(spec, modality, accepted, values)))


def _inputs(
    spec: Spec, modality: Modality, accepted: Container[str], values: str
) -> Iterable[dict[str, Any]]:
    make = audio_inputs if modality.values is AUDIO else image_inputs
    return make(spec, accepted, values)


def _text(spec: Spec, parts: list[_Part], accepted: Container[str]) -> dict[str, Tensor]:
    """Token ids with as many placeholders as the towers give features, and what tells their kind."""
    found: dict[str, Tensor] = {}
    if "input_ids" in accepted:
        ordinary = tokens(spec)[0].tolist()
        text = _Text(ordinary[:1], [0])
        marked = "image_embeds_position_mask" in accepted
        for part in parts:
            token = part.token if part.token is not None else ordinary[0] if marked else None
            if part.count and token is not None:
                text.row += [token] * part.count
                text.kinds += [part.modality.kind] * part.count
        text.row += ordinary[1:]
        text.kinds += [0] * (len(ordinary) - 1)
        found["input_ids"] = torch.tensor([text.row] * BATCH)
        if marked:
            found["image_embeds_position_mask"] = torch.tensor([text.kinds] * BATCH)
        if "mm_token_type_ids" in accepted:
            found["mm_token_type_ids"] = torch.tensor([text.kinds] * BATCH)
    if "decoder_input_ids" in accepted and spec.find("is_encoder_decoder"):
        found["decoder_input_ids"] = decoder_tokens(spec)
    return found


def _count(model: nn.Module, method: str, inputs: dict[str, Any]) -> int:
    """Number of features that the tower gives; 0 where it does not take the inputs."""
    try:
        recording = record(_Features(model, method), (), inputs)
    except TraceError:
        return 0
    (outputs,) = next(node for node in recording.graph.nodes if node.op == "output").args
    shapes = [tuple(node.meta["shape"]) for node in outputs]  # type: ignore[union-attr]
    return sum(math.prod(shape[:-1]) for shape in shapes if shape)
