"""Errors that the library raises on purpose; each says what failed, where, and what to do."""

from __future__ import annotations

from typing import Any


class GHNInitError(Exception):
    """Base of every error raised on purpose by ghn_init. The user's model is bit-equal to before."""


class TraceError(GHNInitError, RuntimeError):
    """The model's forward could not be recorded as a graph.

    Attributes:
        partial: What was recorded before the failure, if anything.
    """

    partial: Any = None


class InputError(TraceError, ValueError):
    """Example inputs could not be found, or do not fit the model's forward."""


class GraphError(GHNInitError, ValueError):
    """An architecture graph is malformed (unknown primitive, edge against the order, bad slot)."""


class ConfigError(GHNInitError, ValueError):
    """A GHN configuration is invalid or of a vocabulary that this version does not know."""


class PredictionError(GHNInitError, RuntimeError):
    """The GHN could not decode a parameter, or decoded values that are not finite."""


class AssignError(GHNInitError, RuntimeError):
    """Predicted tensors could not be written into the model; nothing was changed."""


class CheckpointError(GHNInitError, OSError):
    """A GHN file is missing, truncated, unsafe or does not fit its configuration."""


class HubError(GHNInitError, OSError):
    """The Hub could not give or take a GHN (missing, gated, offline, wrong revision)."""


class HookError(GHNInitError, ValueError):
    """A constructor of timm or transformers was given ``ghn_init`` where it cannot be honoured."""


class DataError(GHNInitError, ValueError):
    """A dataset is missing, empty or of another shape or class count than required."""


class MissingPackageError(GHNInitError, ModuleNotFoundError):
    """A package is not installed; the message names the extra of ghn_init that brings it."""
