"""A process of its own that uses the public API against a loopback Hub.

``huggingface_hub`` reads its endpoint and its offline switch when imported, so they cannot be set in the
tests' process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

_LOOP = """
import json, os, sys
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
import torch
torch.set_num_threads(1)
from ghn_init.ghn.model import GHN
space = {"GHN": GHN, "torch": torch}
for line in sys.stdin:
    try:
        space.pop("result", None)
        exec(json.loads(line), space)
        answer = {"value": space.get("result")}
    except BaseException as error:
        answer = {"error": type(error).__name__, "kinds": [c.__name__ for c in type(error).__mro__],
        "message": str(error)}
    print(json.dumps(answer), file=answers, flush=True)
"""


class ClientError(Exception):
    """An exception in the client process; ``kinds`` are the names of its classes."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(f"{answer['error']}: {answer['message']}")
        self.kinds = answer["kinds"]
        self.message = answer["message"]


class HubClient:
    """Runs snippets that may set ``result``, in one process that keeps its variables."""

    def __init__(self, environment: dict[str, str]) -> None:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("HF_", "GHN_INIT_"))
        }
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        self._process = subprocess.Popen(
            [sys.executable, "-u", "-c", _LOOP],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**kept, "PYTHONPATH": path, "NO_PROXY": "127.0.0.1", **environment},
            text=True,
        )

    def run(self, code: str) -> Any:
        """The snippet's ``result``; ClientError if it raised."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(code) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the client process died"
        answer = json.loads(line)
        if "error" in answer:
            raise ClientError(answer)
        return answer["value"]

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=60)
