"""mkdocs hooks: command help where a page says ``<!-- help: COMMAND -->``; docstring roles as plain code."""

from __future__ import annotations

import argparse
import os
import re
from typing import Any

MARK = re.compile(r"<!-- help: (?P<command>[\w-]+) -->")

ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):<code>~?")


def on_page_content(html: str, **_: Any) -> str:
    """Show Sphinx roles of docstrings (``:func:`name```) as plain code."""
    return ROLE.sub("<code>", html)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace each mark by the help of that command."""
    return MARK.sub(lambda match: f"```text\n{command_help(match['command'])}```", markdown)


def command_help(command: str) -> str:
    """The text of ``ghn-init COMMAND --help``; of ``ghn-init --help`` for ``ghn-init``."""
    from ghn_init.cli import parser

    os.environ["COLUMNS"] = "96"
    top = parser()
    if command == "ghn-init":
        return top.format_help()
    (commands,) = (a for a in top._actions if isinstance(a, argparse._SubParsersAction))
    return commands.choices[command].format_help()
