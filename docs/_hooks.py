"""mkdocs hooks: command help where a page says ``<!-- help: COMMAND -->``, docstring roles as plain code.

They also take out what only the tests read, and what the theme would fetch from elsewhere.
"""

from __future__ import annotations

import argparse
import os
import re
from typing import Any

from mkdocs.utils import get_relative_url

MARK = re.compile(r"<!-- help: (?P<command>[\w-]+) -->")

PRINTED = re.compile(r"^<!-- printed -->\n```text$", re.M)
TEST_MARK = re.compile(r"^ *<!-- (?:not run|needs): .+? -->\n", re.M)
"""What only the tests read; between a list and its code block it would end the list."""

SHIM, OWN_SHIM = "https://unpkg.com/iframe-worker/shim", "assets/iframe-worker/index.js"
"""The one script that the theme's ``offline`` plugin fetches, and the copy in these docs."""

ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):<code>~?")


def on_page_content(html: str, **_: Any) -> str:
    """Show Sphinx roles of docstrings (``:func:`name```) as plain code."""
    return ROLE.sub("<code>", html)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace each mark by the help of that command."""
    markdown = PRINTED.sub('```text title="prints"', TEST_MARK.sub("", markdown))
    return MARK.sub(lambda match: f"```text\n{command_help(match['command'])}```", markdown)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Have the theme take its script from this site."""
    return output.replace(SHIM, get_relative_url(OWN_SHIM, page.url))


def on_post_template(output: str, **_: Any) -> str:
    """The same for the page that is shown where there is none."""
    return output.replace(SHIM, f"/{OWN_SHIM}")


def command_help(command: str) -> str:
    """The text of ``ghn-init COMMAND --help``; of ``ghn-init --help`` for ``ghn-init``."""
    from ghn_init.cli import parser

    os.environ["COLUMNS"] = "96"
    top = parser()
    if command == "ghn-init":
        return top.format_help()
    (commands,) = (a for a in top._actions if isinstance(a, argparse._SubParsersAction))
    return commands.choices[command].format_help()
