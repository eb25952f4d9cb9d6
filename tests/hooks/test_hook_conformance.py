"""What every registered hook must do. A hook without a builder in `BUILDERS` fails here."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import nullcontext

import pytest
import timm
import torch
from hook_checks import same_bits, seeded
from torch import nn
from transformers import AutoModelForImageClassification, ViTConfig, ViTForImageClassification

import ghn_init
from ghn_init.errors import HookError
from ghn_init.hooks import HOOKS
from ghn_init.report import report_of


def vit_config() -> ViTConfig:
    return ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=16,
        patch_size=4,
        num_labels=10,
    )


@pytest.fixture(scope="module")
def bare_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("vit")
    seeded(ViTForImageClassification, vit_config()).vit.save_pretrained(folder)
    return str(folder)


BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "timm": lambda folder, **kwargs: timm.create_model("test_vit", num_classes=10, **kwargs),
    "transformers models": lambda folder, **kwargs: ViTForImageClassification(vit_config(), **kwargs),
    "transformers Auto classes": lambda folder, **kwargs: AutoModelForImageClassification.from_pretrained(
        folder, num_labels=10, **kwargs
    ),
}


def test_every_hook_has_a_builder():
    assert {hook.name for hook in HOOKS} == set(BUILDERS)


ONE_AT_A_TIME = {"transformers Auto classes": threading.Lock()}
"""Loading replaces methods of `PreTrainedModel` meanwhile: transformers loads in one thread at a time."""


@pytest.fixture(params=[hook.name for hook in HOOKS])
def build(request: pytest.FixtureRequest, bare_folder: str) -> Callable[..., nn.Module]:
    lock = ONE_AT_A_TIME.get(request.param, nullcontext())

    def build(**kwargs) -> nn.Module:
        with lock:
            return seeded(BUILDERS[request.param], bare_folder, **kwargs)

    return build


def test_an_argument_initialises(build, ghn, ghn_folder):
    model = build(ghn_init=ghn)
    assert report_of(model).predicted
    assert report_of(model).ghn.id is None
    from_disk = build(ghn_init=str(ghn_folder))
    assert same_bits(model, from_disk)
    assert report_of(from_disk).ghn.id == str(ghn_folder)
    assert not same_bits(model, build())


def test_without_it_nothing_changes(build):
    models = [build(), build(ghn_init=None), build(ghn_init=False)]
    after = torch.rand(2)
    ghn_init.unpatch()
    original = build()
    assert torch.equal(torch.rand(2), after)
    assert all(same_bits(model, original) for model in models)
    assert all(report_of(model) is None for model in models)
    assert all(vars(model).keys() == vars(original).keys() for model in models)


def test_argument_block_and_disabling(build, ghn, other_ghn):
    plain, expected, other = build(), build(ghn_init=ghn), build(ghn_init=other_ghn)
    with ghn_init.enabled(ghn):
        assert same_bits(build(), expected)
        assert same_bits(build(ghn_init=None), expected)
        assert same_bits(build(ghn_init=other_ghn), other)
        assert same_bits(build(ghn_init=False), plain)
        with ghn_init.enabled(False):
            assert same_bits(build(), plain)
            assert same_bits(build(ghn_init=ghn), expected)
        with ghn_init.enabled(other_ghn):
            assert same_bits(build(), other)
        assert same_bits(build(), expected)
    assert same_bits(build(), plain)


def test_a_block_can_decorate_a_function(build, ghn):
    assert same_bits(ghn_init.enabled(ghn)(build)(), build(ghn_init=ghn))


def test_a_block_belongs_to_its_thread(build, ghn):
    built: list[nn.Module] = []
    with ghn_init.enabled(ghn):
        thread = threading.Thread(target=lambda: built.append(build()))
        thread.start()
        thread.join()
    assert same_bits(built[0], build())


def test_an_exception_ends_the_block(build, ghn):
    with pytest.raises(ZeroDivisionError), ghn_init.enabled(ghn):
        raise ZeroDivisionError
    assert report_of(build()) is None


def test_a_failed_prediction_does_not_poison_the_next_model(build, ghn, tmp_path):
    with pytest.raises((ghn_init.GHNInitError, OSError)):
        build(ghn_init=tmp_path / "nothing here")
    assert report_of(build()) is None
    assert report_of(build(ghn_init=ghn)).predicted


def test_other_types_are_refused(build):
    with pytest.raises(TypeError, match="ghn_init must be"):
        build(ghn_init=3)


def test_taken_out_the_constructor_does_not_know_the_argument(build):
    ghn_init.unpatch()
    with pytest.raises(TypeError, match="ghn_init"):
        build(ghn_init=True)


def test_eight_threads_with_and_without(build, ghn, other_ghn):
    """Values drawn from the shared generator differ between threads: predicted ones are compared."""
    choices = [None, ghn, False, other_ghn, None, ghn, other_ghn, False]
    expected = {id(choice): build(ghn_init=choice) for choice in (ghn, other_ghn)}
    built: list[nn.Module | None] = [None] * len(choices)
    start = threading.Barrier(len(choices))

    def work(index: int) -> None:
        start.wait()
        built[index] = build(ghn_init=choices[index])

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(choices))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for choice, model in zip(choices, built, strict=True):
        report = report_of(model)
        if choice in (None, False):
            assert report is None
            continue
        right = expected[id(choice)]
        assert report.predicted.keys() == report_of(right).predicted.keys()
        assert all(torch.equal(model.get_parameter(n), right.get_parameter(n)) for n in report.predicted)


def test_hooks_taken_out_and_put_back_while_threads_build(build, ghn_folder):
    """A model under construction ends as it began; a call that meets no hook, or one half, is refused."""
    right = build(ghn_init=str(ghn_folder))
    predicted = report_of(right).predicted
    outcomes: list[nn.Module | Exception] = []
    plain: list[nn.Module] = []
    done = threading.Event()

    def work(argument: dict[str, str]) -> None:
        for _ in range(4):
            try:
                model = build(**argument)
            except (TypeError, HookError) as error:
                outcomes.append(error)
            else:
                (outcomes if argument else plain).append(model)

    def churn() -> None:
        while not done.is_set():
            ghn_init.unpatch()
            ghn_init.patch()

    given = [{"ghn_init": str(ghn_folder)} if index % 2 else {} for index in range(8)]
    threads = [threading.Thread(target=work, args=(argument,)) for argument in given]
    churner = threading.Thread(target=churn)
    for thread in [churner, *threads]:
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    churner.join()
    assert len(outcomes) == len(plain) == 16
    assert all(report_of(model) is None for model in plain)
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            assert "ghn_init" in str(outcome)
        else:
            assert report_of(outcome).predicted.keys() == predicted.keys()
            assert all(torch.equal(outcome.get_parameter(n), right.get_parameter(n)) for n in predicted)
    assert same_bits(build(ghn_init=str(ghn_folder)), right)


def test_other_threads_draw_undisturbed_random_numbers(ghn):
    """A model built beside takes nothing from the shared generator and never sets it back."""
    model = ViTForImageClassification(vit_config())
    ready, done = threading.Event(), threading.Event()

    def work() -> None:
        ready.wait()
        for _ in range(5):
            ghn_init.apply(model, ghn)
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    torch.manual_seed(0)
    ready.set()
    drawn = [torch.rand(()).item()]
    while not done.is_set():
        drawn.append(torch.rand(()).item())
    thread.join()
    torch.manual_seed(0)
    assert drawn == [torch.rand(()).item() for _ in drawn]
