"""What default configurations of transformers lack, by model type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

LEAST: dict[str, str] = {}
"""Model type → the smallest way to shrink it with which the model still runs, where that is not the first."""

FIELDS: dict[str, dict[str, Any]] = {}
"""Model type → fields without which the model does not build or run."""

CONFIGS: dict[str, Callable[[], Any]] = {}
"""Model type → its configuration, where the defaults are none."""
