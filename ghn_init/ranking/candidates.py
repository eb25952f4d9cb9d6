"""What can be ranked: modules, timm names, callables, and samples of a space of architectures."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from ghn_init.errors import ConfigError, DataError, GHNInitError, MissingPackageError
from ghn_init.extras import needed
from ghn_init.logging import progress_bar
from ghn_init.ranking.costs import count_parameters, forward_flops
from ghn_init.training.spaces import Architecture, Space

Model = nn.Module | str | Architecture | Callable[[], nn.Module]


@dataclass(frozen=True)
class Candidate:
    """A network that may be built later.

    Attributes:
        name: Unique among the candidates.
        make: Number of classes, image shape ``(C, H, W)`` (None where inputs are no images) to a module.
        given: Whether ``make`` returns a module that belongs to the caller.
        square: Whether it takes square images of three channels only.
    """

    name: str
    make: Callable[[int, tuple[int, ...] | None], nn.Module]
    given: bool = False
    square: bool = False

    def build(self, classes: int, shape: tuple[int, ...] | None) -> nn.Module:
        """A module of the ranking's own: a module that was given is copied, weights and all.

        Raises:
            ConfigError: What was built is no module.
        """
        built = self.make(classes, shape)
        if not isinstance(built, nn.Module):
            raise ConfigError(f"{self.name} gave a {type(built).__name__}, not a torch.nn.Module")
        return copy.deepcopy(built) if self.given else built


def candidates(models: Mapping[str, Model] | Iterable[Model]) -> list[Candidate]:
    """Candidates in the order given.

    Args:
        models: Name → model, or models, which are named by themselves: a timm name by the name, an
            architecture by its family and fingerprint, all others by class or function name and position.

    Raises:
        ConfigError: There are none, two have one name, or one is no kind of model.
    """
    if isinstance(models, (str, nn.Module)):
        raise ConfigError("rank takes several models: a dict {name: model}, or a list")
    named = models.items() if isinstance(models, Mapping) else _named(models)
    found = [_candidate(str(name), model) for name, model in named]
    names = [candidate.name for candidate in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if not found or twice:
        raise ConfigError(f"two candidates are called {twice[0]}" if twice else "there are no candidates")
    return found


def _named(models: Iterable[Model]) -> Iterator[tuple[str, Model]]:
    for index, model in enumerate(models):
        if isinstance(model, str):
            yield model, model
        elif isinstance(model, Architecture):
            yield f"{model.family}-{model.fingerprint[:8]}", model
        else:
            kind = (
                type(model).__name__ if isinstance(model, nn.Module) else getattr(model, "__name__", "model")
            )
            yield f"{kind}-{index}", model


def _candidate(name: str, model: Model) -> Candidate:
    if isinstance(model, nn.Module):
        return Candidate(name, lambda classes, shape: model, given=True)
    if isinstance(model, str):
        return Candidate(name, partial(_timm, model))
    if isinstance(model, Architecture):
        return Candidate(name, partial(_architecture, model), square=True)
    if callable(model):
        return Candidate(name, partial(_called, model))
    raise ConfigError(
        f"{name}: a candidate is a module, a timm name or a callable, not a {type(model).__name__}"
    )


def _called(function: Callable[[], nn.Module], classes: int, shape: tuple[int, ...] | None) -> nn.Module:
    return function()


def _architecture(drawn: Architecture, classes: int, shape: tuple[int, ...] | None) -> nn.Module:
    return drawn.build(classes, shape[-1] if shape else 32)


def _timm(name: str, classes: int, shape: tuple[int, ...] | None) -> nn.Module:
    with needed("timm", f"the candidate {name!r}, a name of timm,"):
        import timm
    if not timm.is_model(name):
        raise ConfigError(f"timm has no model {name!r}")
    options: dict[str, Any] = {"num_classes": classes}
    if shape is not None:
        options["in_chans"] = shape[0]
        config = timm.get_pretrained_cfg(name, allow_unregistered=False)
        if config is not None and config.fixed_input_size and tuple(config.input_size[1:]) != shape[1:]:
            options["img_size"] = shape[1:]
    return timm.create_model(name, **options)


def check_shape(waiting: Iterable[Candidate], shape: tuple[int, ...] | None) -> None:
    """Refuse data that a space of architectures cannot take, before anything is built.

    Raises:
        DataError: A candidate takes square images of three channels, and the data are others.
    """
    for candidate in waiting:
        if candidate.square and (shape is None or shape[0] != 3 or shape[1] != shape[2]):
            raise DataError(
                f"{candidate.name} takes images of shape (3, S, S), and the data's are "
                f"{'no images' if shape is None else shape}"
            )


def sample_space(
    space: Space | str,
    number: int,
    *,
    max_parameters: float | None = None,
    max_flops: float | None = None,
    classes: int = 10,
    image_size: int = 32,
    draws: int = 10_000,
    seed: int = 0,
    progress: bool | None = None,
) -> dict[str, Architecture]:
    """The first ``number`` different architectures of a space that fit a budget.

    Built on the meta device only.

    Args:
        space: Where to draw from, or the name of a family.
        number: How many.
        max_parameters: Largest number of parameters.
        max_flops: Largest number of floating-point operations of one image's forward pass.
        classes: Classes of the networks that are counted.
        image_size: Side of the images in pixels.
        draws: Give up after so many.
        seed: Of the draws from a family; a space has its own.
        progress: Show a progress bar; by default where stderr is a terminal.

    Returns:
        Name → architecture, as :func:`ghn_init.rank` takes it.

    Raises:
        ConfigError: Fewer than ``number`` were found in ``draws`` draws.
    """
    if isinstance(space, str):
        space = Space({space: 1.0}, seed)
    found: dict[str, Architecture] = {}
    with progress_bar(total=number, unit="sample", show=progress) as bar:
        for index in range(draws):
            drawn = space[index]
            name = f"{drawn.family}-{drawn.fingerprint[:8]}"
            if name not in found and fits(drawn, max_parameters, max_flops, classes, image_size):
                found[name] = drawn
                bar.update()
            if len(found) == number:
                return found
    raise ConfigError(
        f"{len(found)} of {number} architectures were found in {draws} draws within max_parameters="
        f"{max_parameters}, max_flops={max_flops}: widen the budget or ask for fewer"
    )


def fits(
    drawn: Architecture,
    max_parameters: float | None = None,
    max_flops: float | None = None,
    classes: int = 10,
    image_size: int = 32,
) -> bool:
    """Whether an architecture can be built and keeps within the budget."""
    try:
        with torch.device("meta"):
            model = drawn.build(classes, image_size)
        if max_parameters is not None and count_parameters(model) > max_parameters:
            return False
        if max_flops is None:
            return True
        image = torch.empty(1, 3, image_size, image_size, device="meta")
        return forward_flops(model, image) <= max_flops
    except MissingPackageError:
        raise
    except (GHNInitError, RuntimeError, ValueError, AssertionError):
        return False
