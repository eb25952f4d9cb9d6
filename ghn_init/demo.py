"""The main job at work: a timm model that the GHN never saw, next to the same model with timm's own init."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ghn_init.extras import needed
from ghn_init.logging import progress_bar

if TYPE_CHECKING:
    from ghn_init.ghn import GHN
    from ghn_init.training.evaluate import Curve

MODEL = "resnet18"
PICTURE = "curves.png"
GHN_LABEL, DEFAULT_LABEL = "GHN prediction", "timm's own init"
MARKS = (0, 5, 10, 20, 50, 100)
Reporter = Callable[[str], None]


@dataclass(frozen=True)
class DemoResult:
    """What the demonstration measured.

    Attributes:
        model: timm name of the model.
        curves: Initialisation → accuracy on test images along the same short training; step 0 is before any.
        source: Where the images come from.
        train_images: Number of training images.
        test_images: Number of test images.
        seconds: Wall time.
        picture: The saved picture of the curves, if matplotlib is installed.
    """

    model: str
    curves: dict[str, Curve]
    source: str
    train_images: int
    test_images: int
    seconds: float
    picture: Path | None = None

    def __str__(self) -> str:
        steps = next(iter(self.curves.values())).steps
        shown = [step for step in steps if step in (0, 10, 50, steps[-1])]
        wide = max(map(len, self.curves))
        lines = [
            f"{self.model} on Fashion-MNIST, accuracy on {self.test_images:,} test images",
            f"{'training steps':<{wide}}" + "".join(f"{step:>9}" for step in shown),
        ]
        for name, curve in self.curves.items():
            found = dict(zip(curve.steps, curve.accuracies, strict=True))
            lines.append(f"{name:<{wide}}" + "".join(f"{found[step]:>9.1%}" for step in shown))
        lines.append(f"images: {self.source} ({self.train_images:,} for training); {self.seconds:.0f} s")
        if self.picture is not None:
            lines.append(f"picture: {self.picture}")
        return "\n".join(lines)


def run(
    model: str = MODEL,
    *,
    out: str | os.PathLike[str] | None = None,
    ghn: str | os.PathLike[str] | GHN = "bundled",
    steps: int = MARKS[-1],
    lr: float = 0.025,
    seed: int = 0,
    data_root: str | os.PathLike[str] | None = None,
    train_images: int = 4000,
    test_images: int = 1000,
    **model_arguments: Any,
) -> DemoResult:
    """Initialises a timm model with a GHN and with timm's own init, and trains both alike.

    Both models get the same images in the same order, the same optimiser and the same learning rate. Before
    each measurement the running statistics of batch norms are estimated from training images
    (:func:`ghn_init.calibrate_batchnorm`); accuracy is then that of the model in evaluation mode.

    Args:
        model: timm name of a model that takes 32x32 images.
        out: Folder for the picture; None draws none.
        ghn: The GHN, by any name that ``ghn_init=`` takes.
        steps: Training steps of 64 images.
        lr: Peak learning rate of SGD.
        seed: Of timm's own init and of the order of the images.
        data_root: See :func:`ghn_init.training.data.fashion_mnist`.
        train_images: Training images to use at most.
        test_images: Test images to use at most.
        **model_arguments: Further arguments of ``timm.create_model`` (``img_size=32`` for a ViT).

    Raises:
        DataError: The images cannot be read.
    """
    with needed("timm", "the demonstration"):
        import timm
    import torch

    import ghn_init
    from ghn_init.training.data import fashion_mnist
    from ghn_init.training.evaluate import fine_tune

    ghn_init.patch()
    began = time.perf_counter()
    data = fashion_mnist("train", data_root).head(train_images)
    test = fashion_mnist("test", data_root).head(test_images)
    arguments = {"num_classes": len(data.classes), **model_arguments}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        models = {
            GHN_LABEL: timm.create_model(model, ghn_init=ghn, **arguments),
            DEFAULT_LABEL: timm.create_model(model, **arguments),
        }
    marks = [mark for mark in MARKS if mark <= steps]
    curves: dict[str, Curve] = {}
    for name, network in models.items():
        with progress_bar(total=steps, desc=f"{model}, {name}") as bar:
            curves[name] = fine_tune(
                network, data, test, steps=steps, lr=lr, marks=marks, seed=seed, on_step=_advance(bar)
            )
    picture = None if out is None else plot(curves, model, Path(out) / PICTURE)
    seconds = time.perf_counter() - began
    return DemoResult(model, curves, data.source, len(data), len(test), seconds, picture)


def _advance(bar: Any) -> Callable[[int, float], None]:
    def advance(step: int, loss: float) -> None:
        bar.set_postfix(loss=f"{loss:.2f}", refresh=False)
        bar.update()

    return advance


def plot(curves: dict[str, Curve], model: str, path: Path) -> Path | None:
    """Saves the curves as a picture; returns its path, or None without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return None
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for (name, curve), colour, style in zip(curves.items(), ("tab:orange", "tab:blue"), "os", strict=False):
        percent = [100 * value for value in curve.accuracies]
        axes.plot(curve.steps, percent, color=colour, marker=style, markersize=4, linewidth=2, label=name)
        axes.annotate(
            f"{percent[0]:.1f} %", (curve.steps[0], percent[0]), (9, 5), textcoords="offset points",
            color=colour, ha="left", fontsize=9,
        )  # fmt: skip
    axes.axhline(10, color="grey", linewidth=0.8, linestyle=":")
    axes.text(0.995, 11, "chance", color="grey", fontsize=8, ha="right", transform=axes.get_yaxis_transform())
    axes.set(
        xlabel="training steps (64 images each)", ylabel="accuracy on test images (%)", ylim=(0, 100),
        title=f"{model} on Fashion-MNIST: predicted weights and the default init",
    )  # fmt: skip
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 0.14))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return path
