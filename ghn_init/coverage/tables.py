"""Markdown tables, one of them with a field that filters its rows."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

_FILTER = """\
<p><input type="search" id="filter" class="md-input md-input--stretch" aria-label="Filter the list"
 placeholder="Filter by name, family or reason"> <small id="shown" aria-live="polite"></small></p>
"""

_SCRIPT = """\
<script>
document.addEventListener("DOMContentLoaded", () => {
  const field = document.getElementById("filter"), shown = document.getElementById("shown")
  const rows = [...document.querySelectorAll("article tbody tr")]
    .map(row => [row, row.textContent.toLowerCase()])
  const filter = () => {
    const words = field.value.toLowerCase().split(/\\s+/).filter(Boolean)
    let count = 0
    for (const [row, text] of rows) {
      row.hidden = !words.every(word => text.includes(word))
      count += !row.hidden
    }
    shown.textContent = `${count} of ${rows.length} models`
  }
  field.addEventListener("input", filter)
  filter()
})
</script>
"""


def table(head: Sequence[str], lines: Sequence[Sequence[str]], numbers: Collection[int] = ()) -> str:
    """A Markdown table; the columns in ``numbers`` are aligned to the right."""
    rules = ["---:" if column in numbers else "---" for column in range(len(head))]
    return "".join("| " + " | ".join(line) + " |\n" for line in (head, rules, *lines))


def listing(head: Sequence[str], lines: Sequence[Sequence[str]], numbers: Collection[int] = ()) -> str:
    """The only table of a page, with a field above it in which words narrow it down."""
    return "\n".join([_FILTER, table(head, lines, numbers), _SCRIPT])


def percent(part: float, whole: float) -> str:
    """Rounded down: 100% means all of them."""
    return f"{math.floor(1000 * part / max(1, whole)) / 10:.1f}%"


def cell(text: str) -> str:
    """Text that neither ends the cell nor is read as Markdown or HTML."""
    for character in "\\`*_[]|":
        text = text.replace(character, f"\\{character}")
    return text.replace("<", "&lt;").replace("\n", " ")
