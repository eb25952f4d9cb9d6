"""Sections of pages that scripts write, each between two marks of its name."""

from __future__ import annotations

import re
from pathlib import Path

MARKED = r"(<!-- {0}: [^>]*-->\n).*?(<!-- end of {0} -->)"


def write(page: Path, parts: dict[str, str]) -> None:
    """Put each text between the marks of its name.

    Args:
        page: A Markdown file.
        parts: Name → text of the section.

    Raises:
        SystemExit: The page has not exactly one section of a name.
    """
    text = page.read_text(encoding="utf-8")
    for name, part in parts.items():
        mark = re.compile(MARKED.format(re.escape(name)), re.DOTALL)
        text, count = mark.subn(lambda match, part=part: f"{match[1]}\n{part.strip()}\n\n{match[2]}", text)
        if count != 1:
            raise SystemExit(f"{page} has {count} sections marked {name!r}, expected one")
    page.write_text(text, encoding="utf-8")
