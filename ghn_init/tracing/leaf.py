"""Modules that tracing does not enter, and what stands in their place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function

from ghn_init.errors import TraceError
from ghn_init.tracing.values import tensors_in

Substitute: TypeAlias = "Callable[..., Any] | None"
LeafKey: TypeAlias = "str | type[nn.Module] | Callable[[str, nn.Module], bool]"
Leaves: TypeAlias = "LeafKey | Iterable[LeafKey] | Mapping[LeafKey, Substitute] | None"


def leaf(first: Tensor, *others: Tensor) -> Tensor:
    """What a leaf without a substitute computes, as far as anybody knows: a tensor shaped like its first."""
    tensors = (first, *others)
    if has_torch_function(tensors):
        return handle_torch_function(leaf, tensors, *tensors)
    return first.clone()


def find_leaves(model: nn.Module, chosen: Leaves) -> dict[str, Substitute]:
    """Paths of the outermost modules that are not entered, each with what runs in the place of its forward.

    Args:
        model: The model; only read.
        chosen: Module path, module class, predicate of path and module, several of them, or a mapping of them
            to substitutes.

    Raises:
        TraceError: A path does not exist, a key or a substitute is of another kind, or the model itself
            is chosen.
    """
    if chosen is None:
        return {}
    if isinstance(chosen, str) or callable(chosen):
        chosen = [chosen]
    pairs = list(chosen.items()) if isinstance(chosen, Mapping) else [(key, None) for key in chosen]
    modules = dict(model.named_modules(remove_duplicate=False))
    found: dict[str, Substitute] = {}
    for key, substitute in pairs:
        if substitute is not None and not callable(substitute):
            raise TraceError(
                f"leaf={{{key!r}: ...}} needs a function of the module and its inputs, or None, and got "
                f"{type(substitute).__name__}."
            )
        found.update((path, substitute) for path in _matches(key, modules) if path not in found)
    if "" in found:
        raise TraceError("leaf= chooses the model itself: then there is nothing to trace.")
    return {path: found[path] for path in found if not any(path.startswith(f"{o}.") for o in found)}


def _matches(key: Any, modules: dict[str, nn.Module]) -> list[str]:
    if isinstance(key, str):
        if key not in modules:
            raise TraceError(
                f"leaf= names {key!r}, which is no module of the model. Its paths are those of "
                "model.named_modules()."
            )
        return [key]
    if isinstance(key, type) and issubclass(key, nn.Module):
        return [path for path, module in modules.items() if isinstance(module, key)]
    if callable(key) and not isinstance(key, nn.Module):
        return [path for path, module in modules.items() if path and key(path, module)]
    raise TraceError(
        f"leaf= takes module paths, module classes or predicates of path and module, not "
        f"{type(key).__name__}."
    )


def put_leaves(module: nn.Module, leaves: Mapping[str, Substitute], stack: list[str]) -> None:
    """Let substitutes stand in the place of these modules, throughout a copy.

    Args:
        module: The copy.
        leaves: As :func:`find_leaves` gives them.
        stack: Paths of the modules whose forward is running.
    """
    for path, substitute in leaves.items():
        home, _, name = path.rpartition(".")
        part = module.get_submodule(path)
        module.get_submodule(home)._modules[name] = _Leaf(part, path, substitute, stack)


class _Leaf(nn.Module):
    """Stands in the place of a module, whose own call does not run."""

    def __init__(self, module: nn.Module, path: str, substitute: Substitute, stack: list[str]) -> None:
        super().__init__()
        self.path, self.substitute, self.stack = path, substitute, stack
        # A substitute may use the module's parameters; else nobody is to look inside.
        (self._modules if substitute is not None else self.__dict__)["module"] = module
        self.training = module.training

    def __getattr__(self, name: str) -> Any:
        """What a parent reads of the module."""
        module = self.__dict__["_modules"].get("module") or self.__dict__["module"]
        return module if name == "module" else getattr(module, name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The substitute's output, or a tensor like the first floating input."""
        self.stack.append(self.path)
        try:
            return self._output(args, kwargs)
        finally:
            self.stack.pop()

    def _output(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.substitute is not None:
            return self.substitute(self.module, *args, **kwargs)
        tensors = list(tensors_in((args, kwargs)))
        if not tensors:
            raise TraceError(
                f"Leaf module {self.path!r} is given no tensor, and its output's shape is not known: pass "
                f"leaf={{{self.path!r}: lambda module, *inputs: ...}} with a function that returns it."
            )
        first = next((tensor for tensor in tensors if tensor.is_floating_point()), tensors[0])
        return leaf(first, *(tensor for tensor in tensors if tensor is not first))


def inside(leaves: Iterable[str], name: str) -> str | None:
    """The leaf that a parameter belongs to, if any."""
    return next((path for path in leaves if name.startswith(f"{path}.")), None)


def advice(path: str) -> str:
    """What a user can do where tracing fails in a module, with lines to copy."""
    lines = ["Pass example_inputs= that fit the forward (a tensor, a tuple, or a dict of keyword arguments)"]
    if path:
        lines += [
            f"leave the module out: leaf={path!r}, or with a forward that can be traced in its place: "
            f"leaf={{{path!r}: lambda module, *inputs: inputs[0]}}",
        ]
    lines.append("make an operation of your own one step of the recording: ghn_init.register_rule(function)")
    lines.append('keep what cannot be reached: ghn_init.apply(model, on_untraceable="keep")')
    return "; or ".join(lines) + '. See "When tracing fails" in docs/extending.md.'
