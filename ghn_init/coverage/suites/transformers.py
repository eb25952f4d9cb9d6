"""Architectures of transformers, from small random configurations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import partial, reduce
from typing import Any

from torch import nn

from ghn_init.coverage.case import Case, UnavailableError
from ghn_init.coverage.suites.transformers_shrink import LEVELS, configs, shrink
from ghn_init.coverage.suites.transformers_special import CONFIGS, FIELDS, LEAST

LIBRARIES = ("transformers",)
PRELOAD = ("transformers.models.bert.modeling_bert",)

GROUPS = {
    "MODEL": ("MODEL",),
    "CAUSAL_LM": ("MODEL_FOR_CAUSAL_LM",),
    "IMAGE_CLASSIFICATION": ("MODEL_FOR_IMAGE_CLASSIFICATION",),
    "SEQ_CLASSIFICATION": ("MODEL_FOR_SEQUENCE_CLASSIFICATION",),
    "SEQ_TO_SEQ": ("MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM",),
    "AUDIO": (
        "MODEL_FOR_AUDIO_CLASSIFICATION",
        "MODEL_FOR_AUDIO_FRAME_CLASSIFICATION",
        "MODEL_FOR_AUDIO_XVECTOR",
        "MODEL_FOR_CTC",
        "MODEL_FOR_SPEECH_SEQ_2_SEQ",
        "MODEL_FOR_TEXT_TO_SPECTROGRAM",
        "MODEL_FOR_TEXT_TO_WAVEFORM",
    ),
}
"""Group → its mappings of model types to classes."""

TARGETS = dict.fromkeys(GROUPS, 95.0)


def cases() -> Iterator[Case]:
    """Every class of the mappings, once per model type, in the first group that has it."""
    from transformers.models.auto import modeling_auto

    seen: set[tuple[str, str]] = set()
    for group, mappings in GROUPS.items():
        for mapping in mappings:
            for model_type, found in getattr(modeling_auto, f"{mapping}_MAPPING_NAMES").items():
                for name in (found,) if isinstance(found, str) else found:
                    if (model_type, name) not in seen:
                        seen.add((model_type, name))
                        yield Case(
                            f"{model_type}/{name}", model_type, partial(build, model_type, name), group=group
                        )


def build(model_type: str, class_name: str) -> nn.Module:
    """A model of a type from the smallest of its configurations with which it builds.

    Raises:
        UnavailableError: It needs a package that is not installed.
        Exception: What the class raises with its default configuration.
    """
    import transformers

    cls = getattr(transformers, class_name, None)
    if cls is None:
        raise UnavailableError(f"transformers maps {model_type} to {class_name}, which it does not have")
    levels = LEVELS[LEVELS.index(LEAST.get(model_type, LEVELS[0])) :]
    for level in levels[:-1]:
        with suppress(Exception):
            return _instance(cls, small_config(model_type, level))
    try:
        return _instance(cls, small_config(model_type, levels[-1]))
    except ImportError as error:
        raise UnavailableError(str(error).strip().splitlines()[0]) from error


def small_config(model_type: str, level: str = LEVELS[0]) -> Any:
    """The default configuration of a model type, made smaller, with the fields that this suite sets."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    make = CONFIGS.get(model_type)
    config = shrink(CONFIG_MAPPING[model_type]() if make is None else make(), level)
    for path, value in FIELDS.get(model_type, {}).items():
        *parts, name = path.split(".")
        setattr(reduce(getattr, parts, config), name, value)
    return config


def _instance(cls: Any, config: Any) -> nn.Module:
    """The model as ``from_config`` of an automatic class makes it, ready for inference.

    A class of one part of a composite takes that part's configuration.
    """
    wanted = cls.config_class
    if wanted is not None and not isinstance(config, wanted):
        config = next((part for part in configs(config) if isinstance(part, wanted)), config)
    return cls._from_config(config).eval()
