"""Initialise any PyTorch model with weights predicted by a Graph HyperNetwork.

Importing the package imports neither torch nor any framework: public names load on first use, and the
constructor hooks of timm and transformers are put in place when those are imported.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ghn_init.hooks import enabled, patch, unpatch

if TYPE_CHECKING:
    from ghn_init import logging
    from ghn_init.api import apply, predict
    from ghn_init.batchnorm import calibrate_batchnorm
    from ghn_init.errors import (
        AssignError,
        CheckpointError,
        ConfigError,
        DataError,
        GHNInitError,
        GraphError,
        HookError,
        HubError,
        InputError,
        PredictionError,
        TraceError,
    )
    from ghn_init.ghn import GHN, GHNConfig
    from ghn_init.graph import ArchGraph
    from ghn_init.ranking import Ranking, rank
    from ghn_init.report import InitReport, report_of
    from ghn_init.tracing import register_inputs, register_rule, trace

__version__ = "0.1.0"

_HOME = {
    "apply": "ghn_init.api",
    "predict": "ghn_init.api",
    "trace": "ghn_init.tracing",
    "register_rule": "ghn_init.tracing",
    "register_inputs": "ghn_init.tracing",
    "ArchGraph": "ghn_init.graph",
    "GHN": "ghn_init.ghn",
    "GHNConfig": "ghn_init.ghn",
    "InitReport": "ghn_init.report",
    "Ranking": "ghn_init.ranking",
    "rank": "ghn_init.ranking",
    "report_of": "ghn_init.report",
    "calibrate_batchnorm": "ghn_init.batchnorm",
    "AssignError": "ghn_init.errors",
    "CheckpointError": "ghn_init.errors",
    "ConfigError": "ghn_init.errors",
    "DataError": "ghn_init.errors",
    "GHNInitError": "ghn_init.errors",
    "GraphError": "ghn_init.errors",
    "HookError": "ghn_init.errors",
    "HubError": "ghn_init.errors",
    "InputError": "ghn_init.errors",
    "PredictionError": "ghn_init.errors",
    "TraceError": "ghn_init.errors",
}

__all__ = [
    "GHN",
    "ArchGraph",
    "AssignError",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "GHNConfig",
    "GHNInitError",
    "GraphError",
    "HookError",
    "HubError",
    "InitReport",
    "InputError",
    "PredictionError",
    "Ranking",
    "TraceError",
    "__version__",
    "apply",
    "calibrate_batchnorm",
    "enabled",
    "logging",
    "patch",
    "predict",
    "rank",
    "register_inputs",
    "register_rule",
    "report_of",
    "trace",
    "unpatch",
]


def __getattr__(name: str) -> Any:
    if name == "logging":
        return import_module("ghn_init.logging")
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'ghn_init' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


if os.environ.get("GHN_INIT_VERBOSITY"):
    import_module("ghn_init.logging").read_environment()
patch()
