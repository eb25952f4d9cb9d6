"""The model card: metadata that the Hub reads, the configuration, and sections of the user's own."""

from __future__ import annotations

import json

import pytest
from huggingface_hub import ModelCard

from ghn_init.ghn.config import GHNConfig
from ghn_init.hub.card import model_card

CONFIG = GHNConfig().to_dict()


def test_the_hubs_parser_reads_the_metadata() -> None:
    card = ModelCard(model_card(CONFIG, 1234567, "me/my-ghn", licence="apache-2.0"))
    assert card.data.library_name == "ghn_init"
    assert card.data.license == "apache-2.0"
    assert "graph-hypernetwork" in (card.data.tags or [])
    assert card.text.startswith("# my-ghn") or "\n# my-ghn\n" in card.text
    assert "1,234,567 parameters" in card.text


def test_no_licence_is_claimed_unless_given() -> None:
    assert ModelCard(model_card(CONFIG, 1, "me/x")).data.license is None


def test_the_configuration_in_the_card_is_the_ghns() -> None:
    text = model_card(CONFIG, 1, "me/x")
    assert GHNConfig.from_dict(json.loads(text.split("```json\n")[1].split("```")[0])) == GHNConfig()


def test_sections_are_added_in_order() -> None:
    text = model_card(CONFIG, 1, "me/x", sections={"Training data": "Fashion-MNIST", "Evaluation": "| a |"})
    assert text.index("## Training data\n\nFashion-MNIST\n") < text.index("## Evaluation\n\n| a |\n")
    assert text.index("## Evaluation") < text.index("## References")


@pytest.mark.parametrize("reference", ["me/x", "/tmp/some folder/ghn", "C:\\models\\ghn", 'quo"te'])
def test_any_reference_stays_one_python_string(reference: str) -> None:
    code = model_card(CONFIG, 1, reference).split("```python\n")[1].split("```")[0]
    line = next(line for line in code.splitlines() if "from_pretrained" in line)
    literal = line.split("from_pretrained(")[1].removesuffix(")")
    assert json.loads(literal) == reference
    compile(code, "card", "exec")
