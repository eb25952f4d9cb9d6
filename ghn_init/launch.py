"""``python -m ghn_init.launch [--ghn GHN] train.py ...``: a script as Python would run it, with a GHN on.

Every model that a constructor of timm or transformers builds in it is initialised by the GHN. The script sees
what it would see without: ``sys.argv``, ``sys.path[0]``, ``__name__ == "__main__"``, ``__file__``. Its exit
code is the exit code, and a traceback begins in it.
"""

from __future__ import annotations

import argparse
import builtins
import logging
import os
import runpy
import sys
from collections.abc import Sequence
from importlib.machinery import SourceFileLoader
from types import CodeType, ModuleType, TracebackType
from typing import NoReturn

from ghn_init.hooks.construction import Request, enable_everywhere
from ghn_init.logging import VERBOSITY, set_verbosity_info

EPILOG = """\
with several processes
  torchrun --nproc-per-node 2 -m ghn_init.launch train.py ...
  accelerate launch -m ghn_init.launch train.py ..."""


def main(words: Sequence[str] | None = None) -> None:
    """Run the script or module that the command line names.

    Args:
        words: The command line; that of the process if not given.

    Raises:
        SystemExit: Wrong usage, a script that does not exist, or what the script raised.
    """
    options, rest = _parse(list(sys.argv[1:] if words is None else words))
    if not options.quiet and _is_first() and not os.environ.get(VERBOSITY):
        set_verbosity_info()
    request = enable_everywhere(options.ghn or True)
    try:
        if options.module is not None:
            _run_module(options.module, rest)
        else:
            _run_script(options.script, rest)
    except SystemExit as leaving:
        if not leaving.code:
            _tell(request)
        raise
    except BaseException as error:  # noqa: BLE001 - raised again, whatever it is
        _raise_as_the_scripts_own(error)
    _tell(request)


def _parse(words: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Our own options, and the words after the script's name, which are the script's."""
    parser = argparse.ArgumentParser(
        prog="python -m ghn_init.launch",
        usage="%(prog)s [--ghn GHN] [--quiet] (SCRIPT | -m MODULE) [ARGUMENT ...]",
        description="Run a training script, unchanged, with every timm and transformers model that it builds "
        "initialised by a GHN.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--ghn", help="Hub id, folder or file of the GHN, or 'bundled' (default: the default GHN)"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="do not say what was initialised")
    parser.add_argument("-m", dest="module", metavar="MODULE", help="run a module, as python -m does")
    parser.add_argument("script", nargs="?", metavar="SCRIPT", help="the script")
    own, at = [], 0
    while at < len(words) and words[at].startswith("-") and words[at] != "-":
        word = words[at]
        takes_value = word in ("--ghn", "-m")
        own += words[at : at + 1 + takes_value]
        at += 1 + takes_value
        if word.startswith("-m"):
            return parser.parse_args(own), words[at:]
    options = parser.parse_args(own + words[at : at + 1])
    if options.script is None:
        parser.error("name a script, or a module with -m")
    return options, words[at + 1 :]


def _run_script(script: str, arguments: list[str]) -> None:
    sys.argv[:] = [script, *arguments]
    if os.path.isdir(script) or not _is_source(script):
        runpy.run_path(script, run_name="__main__")
        return
    code = _compiled(os.path.abspath(script))
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = os.path.dirname(os.path.realpath(script))
    exec(code, vars(_fresh_main(code.co_filename)))


def _is_first() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _is_source(script: str) -> bool:
    return not os.path.isfile(script) or not script.endswith((".pyc", ".zip", ".pyz"))


def _compiled(path: str) -> CodeType:
    try:
        with open(path, "rb") as file:
            source = file.read()
    except OSError as error:
        sys.stderr.write(
            f"{sys.executable}: can't open file {path!r}: [Errno {error.errno}] {error.strerror}\n"
        )
        raise SystemExit(2) from None
    return compile(source, path, "exec", dont_inherit=True)


def _fresh_main(path: str) -> ModuleType:
    """A new ``__main__``: under which classes of the script are pickled, and which workers import again."""
    module = ModuleType("__main__")
    vars(module).update(
        __file__=path, __builtins__=builtins, __loader__=SourceFileLoader("__main__", path), __cached__=None
    )
    sys.modules["__main__"] = module
    return module


def _run_module(name: str, arguments: list[str]) -> None:
    sys.argv[:] = [name, *arguments]
    sys.modules["__main__"] = ModuleType("__main__")
    sys.modules["__main__"].__builtins__ = builtins  # type: ignore[attr-defined]
    runpy._run_module_as_main(name, alter_argv=True)  # type: ignore[attr-defined]


def _raise_as_the_scripts_own(error: BaseException) -> NoReturn:
    """Let Python end as it does on this error, with a traceback that begins in the script."""
    begun = _without_us(error.__traceback__)
    sys.excepthook(type(error), error.with_traceback(begun), begun)
    sys.excepthook = lambda *_: None
    raise error


def _without_us(trace: TracebackType | None) -> TracebackType | None:
    own = (__file__, runpy.__file__, "<frozen runpy>")
    while trace is not None and trace.tb_frame.f_code.co_filename in own:
        trace = trace.tb_next
    return trace


def _tell(request: Request) -> None:
    if not (request.served or request.complete) and _is_first():
        logging.getLogger("ghn_init").warning(
            "nothing was initialised: the script built no model with a constructor of timm or "
            "transformers; call ghn_init.apply(model) in it"
        )


if __name__ == "__main__":
    main()
