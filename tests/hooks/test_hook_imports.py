"""Installation of the hooks: when, on what, and back again. Each case needs an interpreter of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(code: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


def test_importing_the_package_imports_no_framework():
    run(
        """
        import sys
        import ghn_init
        ghn_init.patch()
        ghn_init.unpatch()
        with ghn_init.enabled("an/id"), ghn_init.enabled(False):
            pass
        loaded = {"torch", "timm", "transformers", "numpy", "huggingface_hub"} & set(sys.modules)
        assert not loaded, loaded
        """
    )


def test_timm_imported_before_and_names_bound_before():
    run(
        """
        import sys, types
        from timm import create_model
        from timm import create_model as renamed
        import timm, timm.models, timm.models._factory, timm.models._builder, timm.models.resnet
        other = types.ModuleType("other")
        other.build = create_model
        sys.modules["other"] = other
        places = [(timm, "create_model"), (timm.models, "create_model"),
                  (timm.models._factory, "create_model"), (other, "build"),
                  (sys.modules["__main__"], "create_model"), (sys.modules["__main__"], "renamed")]
        private = [(timm.models._builder, "build_model_with_cfg"), (timm.models._builder, "load_pretrained"),
                   (timm.models.resnet, "build_model_with_cfg"), (timm.models._factory, "load_checkpoint")]
        def read(where):
            return [getattr(module, name) for module, name in where]
        before, inner = read(places), read(private)
        import ghn_init
        hooked = read(places)
        assert len({id(value) for value in hooked}) == 1 and hooked[0] is not before[0]
        ghn_init.patch()
        assert [id(value) for value in read(places)] == [id(value) for value in hooked]
        assert all(new is not old for new, old in zip(read(private), inner))
        ghn_init.unpatch()
        ghn_init.unpatch()
        assert all(new is old for new, old in zip(read(places + private), before + inner))
        """
    )


def test_timm_imported_after():
    run(
        """
        import sys
        import ghn_init
        assert "timm" not in sys.modules
        from timm import create_model
        import timm, importlib.util
        assert timm.create_model is create_model is timm.models._factory.create_model
        assert type(timm.__loader__).__name__ == "SourceFileLoader"
        assert timm.__spec__.loader is timm.__loader__
        try:
            create_model("test_resnet", ghn_init=3)
        except TypeError as error:
            assert "ghn_init must be" in str(error), error
        else:
            raise AssertionError("not hooked")
        original = create_model.__wrapped__
        ghn_init.unpatch()
        assert create_model is timm.create_model is timm.models.create_model is original
        assert not [finder for finder in sys.meta_path if "ghn_init" in type(finder).__module__]
        """
    )


def test_transformers_attributes_come_back():
    run(
        """
        import ghn_init
        ghn_init.unpatch()
        import timm
        assert not hasattr(timm.create_model, "__wrapped__")
        ghn_init.patch()
        assert hasattr(timm.create_model, "__wrapped__")

        from transformers import AutoModel, BertModel, LlamaForSequenceClassification, PreTrainedModel
        from transformers.models.auto import modeling_auto
        names = ("__init__", "__init_subclass__", "_from_config", "from_config", "from_pretrained")

        def family(cls):
            return [cls, *(deeper for child in cls.__subclasses__() for deeper in family(child))]

        def attributes():
            classes = family(PreTrainedModel) + family(modeling_auto._BaseAutoModelClass)
            return {(cls, name): vars(cls)[name] for cls in classes for name in names if name in vars(cls)}

        def is_hook(value):
            return "ghn_init" in getattr(value, "__func__", value).__code__.co_filename

        own, inherited = (BertModel, "__init__"), (LlamaForSequenceClassification, "__init__")
        on_import = {key for key, value in attributes().items() if is_hook(value)}
        others = {(AutoModel, "from_pretrained"), (PreTrainedModel, "_from_config")}
        assert {own, inherited, *others} <= on_import
        ghn_init.unpatch()
        before = attributes()
        assert own in before and inherited not in before
        assert not [key for key, value in before.items() if is_hook(value)]
        ghn_init.patch()
        ghn_init.patch()
        assert {key for key, value in attributes().items() if is_hook(value)} == on_import
        ghn_init.unpatch()
        ghn_init.unpatch()
        after = attributes()
        assert after.keys() == before.keys()
        assert all(after[key] is before[key] for key in before)
        """
    )
