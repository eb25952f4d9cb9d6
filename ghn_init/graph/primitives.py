"""The 15 primitive operation types of DeepNets-1M (Knyazev et al., 2021, Table 1).

A type's index is the row of the GHN's type embedding, hence checkpoint data: the order never changes.
"""

from __future__ import annotations

PRIMITIVES: tuple[str, ...] = (
    "max_pool",
    "avg_pool",
    "sep_conv",
    "dil_conv",
    "conv",
    "msa",
    "cse",
    "sum",
    "concat",
    "input",
    "bias",
    "bn",
    "ln",
    "pos_enc",
    "glob_avg",
)

PRIMITIVE_INDEX: dict[str, int] = {name: index for index, name in enumerate(PRIMITIVES)}
