"""Colours of the 15 primitives, shared by every picture.

Chosen so that each pair differs by more than 15 in CIELAB (CIE76) to normal, deuteranopic and protanopic
sight (Machado et al., 2009); related operations share a hue. No picture relies on colour alone.
"""

from __future__ import annotations

COLOURS: dict[str, str] = {
    "max_pool": "#17beb4",
    "avg_pool": "#b7e7ed",
    "sep_conv": "#61b1ed",
    "dil_conv": "#00187b",
    "conv": "#186bba",
    "msa": "#a3096a",
    "cse": "#de6e8e",
    "sum": "#34343b",
    "concat": "#b1995c",
    "input": "#000000",
    "bias": "#ededd1",
    "bn": "#ca8b0a",
    "ln": "#eddf25",
    "pos_enc": "#7049ed",
    "glob_avg": "#025d21",
}

SYMBOLS: dict[str, str] = {
    "max_pool": "M",
    "avg_pool": "A",
    "sep_conv": "S",
    "dil_conv": "D",
    "conv": "C",
    "msa": "T",
    "cse": "G",
    "sum": "+",
    "concat": "‖",
    "input": "I",
    "bias": "b",
    "bn": "N",
    "ln": "L",
    "pos_enc": "P",
    "glob_avg": "O",
}
"""One character per primitive: the second channel beside colour."""

OUTLINES: dict[str, str] = {
    "max_pool": "funnel",
    "avg_pool": "funnel",
    "sep_conv": "octagon",
    "dil_conv": "diamond",
    "conv": "square",
    "msa": "hexagon",
    "cse": "house",
    "sum": "circle",
    "concat": "circle",
    "input": "arrow",
    "bias": "slant",
    "bn": "pill",
    "ln": "pill",
    "pos_enc": "slant",
    "glob_avg": "cone",
}
"""The outline of each primitive's sign on the interactive page: the third channel."""


def text_colour(background: str) -> str:
    """``"black"`` or ``"white"``, whichever reads better on a ``#rrggbb`` background (WCAG luminance)."""
    channels = [int(background[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return "black" if (luminance + 0.05) ** 2 > 0.05 * 1.05 else "white"
