"""What can be recorded of a model that cannot be traced as a whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import nn

from ghn_init.errors import TraceError
from ghn_init.graph import ArchGraph, Node
from ghn_init.tracing.checks import closed
from ghn_init.tracing.leaf import Substitute, inside
from ghn_init.tracing.recorder import Recording

_ATTEMPTS = 12
Attempt = Callable[[Mapping[str, Substitute]], Recording]


@dataclass
class Partial:
    """What was reached, and why the rest was not.

    Attributes:
        recording: The recording that reached most parameters; ``None`` if there is none.
        passed: Path of a module that was passed over → why.
        reason: Why the recording ended early; empty if it did not.
    """

    recording: Recording | None = None
    passed: dict[str, str] = field(default_factory=dict)
    reason: str = ""

    def explain(self, graph: ArchGraph) -> dict[str, str]:
        """The graph's ``unreached``, with what stood in the way."""
        reasons = dict(graph.unreached)
        for name in reasons:
            path = inside(self.passed, name)
            if path is not None:
                reasons[name] = f"module {path!r} could not be traced: {self.passed[path]}"
            elif self.reason and name in self.recording_unreached:
                reasons[name] = f"tracing stopped: {self.reason}"
        return reasons

    @property
    def summary(self) -> str:
        """What was passed over, and where the recording ended."""
        lines = [f"Module {path!r} was passed over: {why}" for path, why in self.passed.items()]
        return ". ".join([*lines, *([f"It ended early: {self.reason}"] if self.reason else [])])

    @property
    def recording_unreached(self) -> Mapping[str, str]:
        """Parameters that no recorded operation uses."""
        return self.recording.unreached if self.recording is not None else {}


def closed_parts(model: nn.Module) -> dict[str, str]:
    """Paths of the outermost submodules whose operations cannot be recorded, each with the reason."""
    found: dict[str, str] = {}
    for path, module in model.named_modules():
        reason = closed(module)
        if path and reason is not None and inside(found, f"{path}.") is None:
            found[path] = reason
    return found


def record_partly(attempt: Attempt, leaves: Mapping[str, Substitute], passed: dict[str, str]) -> Partial:
    """Record as much as can be: a module that fails is passed over, as if it returned its input's shape.

    If tracing gets no further that way, the recording ends where it failed.

    Args:
        attempt: Records the model with these leaves.
        leaves: Leaves that the user chose.
        passed: Modules that cannot be recorded at all, with the reason.
    """
    passed = dict(passed)
    best = Partial(passed=dict(passed), reason="nothing of the forward could be recorded")
    for _ in range(_ATTEMPTS):
        try:
            recording = attempt({**leaves, **dict.fromkeys(passed)})
        except TraceError as error:
            reason = brief(error)
            reached: Recording | None = error.partial
            if best.recording is None and reached is None:
                best.reason = reason
            if reached is None or not _further(reached, best.recording):
                return best
            best = Partial(reached, dict(passed), reason)
            if not reached.stopped or inside(passed, f"{reached.stopped}.") is not None:
                return best
            passed[reached.stopped] = reason
        else:
            return Partial(recording, passed)
    return best


def _further(reached: Recording, before: Recording | None) -> bool:
    return before is None or len(reached.graph.nodes) > len(before.graph.nodes)


def brief(error: TraceError) -> str:
    """The first sentences of an error, without what to do about it."""
    text = str(error).partition(" Pass ")[0].partition(" Or leave ")[0]
    return text.splitlines()[0].rstrip(". ") if text else type(error).__name__


def nothing_reached(model: nn.Module, reason: str) -> ArchGraph:
    """The graph of a model of which nothing could be recorded: every parameter keeps its value."""
    unreached = {name: f"tracing stopped: {reason}" for name, _ in model.named_parameters()}
    return ArchGraph((Node("input", op="input"),), [], (), unreached, {}, type(model).__name__)
