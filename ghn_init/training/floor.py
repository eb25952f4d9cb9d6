"""The response to synthetic images from which on a GHN is taken to know a network."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import torch

from ghn_init.errors import GHNInitError
from ghn_init.ghn import GHN
from ghn_init.logging import progress_bar
from ghn_init.response import measure_response
from ghn_init.tracing.trace import trace
from ghn_init.training.comparison import DEVELOPMENT_SEED
from ghn_init.training.config import TrainConfig
from ghn_init.training.spaces import Space
from ghn_init.training.targets import FAILURES

logger = logging.getLogger("ghn_init")

SHARE = 0.05
FEWEST = 10


def set_floor(ghn: GHN, config: TrainConfig, networks: int = 20) -> float:
    """Sets ``response_floor`` of a GHN to what 5 % of networks like those of its training stay below.

    They are networks that it was not trained on, of the development stream, with the classes and the image
    size of the run. A GHN whose networks do not take images keeps its floor.

    Args:
        ghn: The GHN; its configuration is replaced.
        config: The run that it was trained by.
        networks: How many.

    Returns:
        The floor.
    """
    space = Space(config.families, DEVELOPMENT_SEED)
    example = torch.zeros(2, 3, config.image_size, config.image_size)
    found: list[float] = []
    for index in progress_bar(iterable=range(networks), desc="responses", leave=False):
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(index)
                model = space[index].build(ghn.config.num_classes, config.image_size)
            graph = trace(model, example, convention=ghn.config.graph_convention)
        except (GHNInitError, *FAILURES) as error:
            logger.warning("network %d has no response: %s", index, error)
            continue
        response = measure_response(model, ghn, graph, example)
        if response is not None:
            found.append(response.value)
    if len(found) >= FEWEST:
        floor = round(float(np.quantile(found, SHARE)), 4)
        ghn.config = replace(ghn.config, response_floor=min(1.0, max(0.0, floor)))
    return ghn.config.response_floor
