"""Models of other libraries: diffusion, vision, medicine, graphs, text, audio, tables, series, sciences.

None of the libraries (:func:`libraries`) is needed: models of one that is not installed are listed as
unavailable. Widths and depths are small where that changes no operation.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from ghn_init.coverage.case import Case
from ghn_init.coverage.suites import (
    others_audio,
    others_diffusion,
    others_graphs,
    others_images,
    others_sciences,
    others_tables,
    others_text,
    others_video,
    others_vision,
)

_TABLES = (
    *(others_diffusion, others_video, others_vision, others_images, others_graphs),
    *(others_text, others_audio, others_tables, others_sciences),
)
LIBRARIES = None
# effdet comes first: what it scripts would call the overloads of torch_geometric.
PRELOAD = ("effdet", "transformers.models.bert.modeling_bert", "diffusers.models.unets")
PRELOAD += ("torch_geometric.nn", "monai")
TARGETS = {"": 95.0}


def cases() -> Iterator[Case]:
    """The cases of every table, by library."""
    for table in _TABLES:
        yield from table.CASES


def libraries() -> dict[str, bool]:
    """Importable package → whether it is installed."""
    names = dict.fromkeys(case.family for case in cases())
    return {name: find_spec(name) is not None for name in names}
