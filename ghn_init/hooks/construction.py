"""What is being built, with which GHN: the state that constructor hooks share, one per thread and task.

A `Request` says which GHN to use, from an explicit ``ghn_init`` argument or from an `enabled` block. The
outermost constructor that meets a request opens a `Construction`; constructors inside it see that their
request is already served and only build. So a nested model is initialised once, as a part of the whole.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from os import PathLike
from typing import TYPE_CHECKING, Any, TypeAlias

from ghn_init.errors import HookError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ghn_init.ghn import GHN
    from ghn_init.report import InitReport

    GHNSpec: TypeAlias = bool | str | PathLike[str] | GHN


class Request:
    """Which GHN a constructor should use (False: none), and whether an argument asked for it.

    Attributes:
        served: Class names of the models that were initialised for it.
        complete: Class names of those to which nothing was left to do: a checkpoint gave every parameter.
    """

    def __init__(self, ghn: GHNSpec, explicit: bool) -> None:
        self.ghn = ghn
        self.explicit = explicit
        self.served: list[str] = []
        self.complete: list[str] = []


_request: ContextVar[Request | None] = ContextVar("ghn_init_request", default=None)
_everywhere: Request | None = None  # of threads and tasks that have none of their own
_construction: ContextVar[Construction | None] = ContextVar("ghn_init_construction", default=None)


def idle(live: bool, keywords: Collection[str]) -> bool:
    """Whether a hooked constructor should call the original one and do nothing else.

    Args:
        live: Whether its hook is in place. What has begun with the hook is ended with it in any case.
        keywords: Keywords that the constructor was called with.
    """
    request = _requested()
    if _construction.get() is not None or (request is not None and request.explicit):
        return False
    return not live or (request is None and "ghn_init" not in keywords)


def current() -> Construction | None:
    """The innermost construction under way in this thread or task."""
    return _construction.get()


@contextmanager
def enabled(ghn: GHNSpec = True) -> Iterator[None]:
    """Initialise every model that a timm or transformers constructor builds inside the block.

    An explicit ``ghn_init`` argument of a constructor wins over the block, and ``enabled(False)`` disables an
    outer one. The block belongs to the thread (or asyncio task) that entered it. It can decorate a function.

    Args:
        ghn: True (the default GHN), an id on the Hub, a folder or file, a `GHN`, or False for none.

    Raises:
        TypeError: ``ghn`` is none of these.
    """
    with requested(ghn, explicit=False):
        yield


def enable_everywhere(ghn: GHNSpec = True) -> Request:
    """As `enabled`, for all threads and the rest of the process; blocks and arguments win over it.

    Returns:
        The request, which lists what is initialised for it.

    Raises:
        TypeError: As `enabled`.
    """
    global _everywhere
    _everywhere = Request(_checked(ghn), explicit=False)
    return _everywhere


def _requested() -> Request | None:
    return _request.get() or _everywhere


@contextmanager
def requested(ghn: GHNSpec, *, explicit: bool) -> Iterator[None]:
    """Set the request of this thread or task for the block."""
    token = _request.set(Request(_checked(ghn), explicit))
    try:
        yield
    finally:
        _request.reset(token)


@contextmanager
def construction(argument: GHNSpec | None = None, *, library: str) -> Iterator[Construction | None]:
    """Open a construction if ``argument``, or else the block around it, asks for one.

    Args:
        argument: The constructor's ``ghn_init``; None if it was not given.
        library: Whose constructor this is.

    Yields:
        The construction, which the caller must `~Construction.finish`; None if no GHN is asked for, or if an
        outer construction answers the same request already.
    """
    request = _requested() if argument is None else Request(_checked(argument), explicit=True)
    outer = _construction.get()
    if request is None or (outer is not None and outer.request is request):
        yield None
        return
    opened = Construction(request, library, outer)
    tokens = _request.set(request), _construction.set(opened)
    try:
        yield opened
    finally:
        _request.reset(tokens[0])
        _construction.reset(tokens[1])


class Construction:
    """One model being built for one request: which parameters the GHN has written, which it must leave."""

    def __init__(self, request: Request, library: str, outer: Construction | None) -> None:
        self.request = request
        self.library = library
        self.report: InitReport | None = None
        self._outer = outer
        # By id, the tensors themselves beside it: an id is only unique while its tensor lives.
        self._covered: dict[int, Tensor] = {}
        self._kept: dict[int, Tensor] = {}

    @property
    def wanted(self) -> bool:
        """Whether a GHN is to be used at all: False inside ``ghn_init=False``."""
        return self.request.ghn is not False

    @property
    def keeps_any(self) -> bool:
        """Whether some parameter has a value that the GHN must leave."""
        return bool(self._kept)

    def keep(self, parameters: Collection[Tensor]) -> None:
        """Leave these parameters as they are: a checkpoint or a nested argument gave their values."""
        self._kept.update((id(parameter), parameter) for parameter in parameters)

    def covers(self, model: nn.Module) -> bool:
        """Whether the GHN has been run on every parameter of ``model``, or must leave it."""
        return all(id(p) in self._covered or id(p) in self._kept for p in model.parameters())

    def initialise(self, model: nn.Module, only: Collection[str] | None = None) -> None:
        """Run the GHN on ``model`` now, leaving what is to be kept.

        Args:
            model: A finished module.
            only: Names of the parameters that may change; None for all.

        Raises:
            HookError: An explicit request would write nothing, as every parameter is on the meta device.
            GHNInitError: As `ghn_init.apply`.
        """
        if not self.wanted:
            return
        names = self._writable(model, only)
        if not names:
            self.request.complete.append(type(model).__name__)
            return
        parameters = dict(model.named_parameters(remove_duplicate=False))
        if all(parameters[name].is_meta for name in names) and not _is_offloaded(model):
            self.refuse(
                f"the parameters of {type(model).__name__} are on the meta device and hold no values; build "
                "the model without ghn_init, or give it storage afterwards and call ghn_init.apply(model)"
            )
            return
        from ghn_init.api import apply

        everything = len(names) == len(parameters)
        report = apply(model, self.request.ghn, only=None if everything else names)
        self.report = report
        self.request.served.append(type(model).__name__)
        self._covered.update((id(parameter), parameter) for parameter in parameters.values())
        if everything and not report.predicted:
            reasons = "; ".join(sorted({*report.kept.values(), *report.skipped.values()})[:3])
            self.refuse(f"no parameter of {type(model).__name__} was written: {reasons}")

    def finish(self, model: nn.Module, only: Collection[str] | None = None) -> None:
        """End the construction: run the GHN where it has not been; an outer construction keeps the result.

        Args:
            model: What the constructor returns.
            only: As for `initialise`.

        Raises:
            GHNInitError: As `initialise`.
        """
        if not self.covers(model):
            self.initialise(model, only)
        elif self.report is None:
            self.request.complete.append(type(model).__name__)
        if self.report is not None:
            from ghn_init.report import remember, report_of

            if report_of(model) is None:  # a wrapper of what was initialised
                remember(model, self.report)
        if self._outer is not None:
            self._outer.keep(list(model.parameters()))

    def refuse(self, reason: str) -> None:
        """Raise if an argument asked for the GHN; warn if only an `enabled` block did."""
        if self.request.explicit:
            raise HookError(f"ghn_init was given to a constructor of {self.library}, but {reason}")
        import logging

        text = "ghn_init.enabled() left a model of %s alone: %s"
        logging.getLogger("ghn_init").warning(text, self.library, reason)

    def _writable(self, model: nn.Module, only: Collection[str] | None) -> set[str]:
        wanted = None if only is None else set(only)
        return {
            name
            for name, parameter in model.named_parameters(remove_duplicate=False)
            if id(parameter) not in self._kept and (wanted is None or name in wanted)
        }


def _is_offloaded(model: nn.Module) -> bool:
    """Whether accelerate holds values of ``model`` outside of it, with meta tensors in their place."""
    return any(hasattr(module, "_hf_hook") for module in model.modules())


def _checked(ghn: Any) -> GHNSpec:
    if isinstance(ghn, (bool, str, PathLike)):
        return ghn
    from ghn_init.ghn import GHN

    if isinstance(ghn, GHN):
        return ghn
    raise TypeError(
        f"ghn_init must be None, a bool, the id or path of a GHN, or a GHN, not {type(ghn).__name__}"
    )
