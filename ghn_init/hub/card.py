"""The model card (README.md) of a published or saved GHN."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_CARD = """\
---
library_name: ghn_init
{licence}tags:
- graph-hypernetwork
- weight-initialization
- ghn_init
---

# {title}

A Graph HyperNetwork: it reads the architecture of a PyTorch model as a graph and predicts the model's
weights. {count:,} parameters.

## Use

```python
# pip install "ghn-init[timm]"
import ghn_init
import timm

ghn = ghn_init.GHN.from_pretrained({reference})
model = timm.create_model("resnet18")
print(ghn_init.apply(model, ghn))
```

The call fills the model in place and prints which parameters were predicted, which kept their own initial
values, and why. The running statistics of batch normalisation layers are not predicted: estimate them on a
few batches with `ghn_init.calibrate_batchnorm(model, loader)`, or train, before evaluating.

## Configuration

```json
{config}
```

{sections}## References

- Knyazev et al., *Parameter Prediction for Unseen Deep Architectures*, NeurIPS 2021 (GHN-2).
- Knyazev et al., *Can We Scale Transformers to Predict Parameters of Diverse ImageNet Models?*, ICML 2023
  (GHN-3).
"""


def model_card(
    config: Mapping[str, Any],
    parameter_count: int,
    reference: str,
    *,
    licence: str | None = None,
    sections: Mapping[str, str] | None = None,
) -> str:
    """Text of the card of a GHN that is loaded as ``GHN.from_pretrained(reference)``.

    Args:
        config: the GHN's configuration dictionary.
        parameter_count: number of weights.
        reference: Hub id or folder.
        licence: identifier that the Hub knows, such as ``"apache-2.0"``; left out when None.
        sections: heading → text in Markdown: how the GHN was trained, on what, how it was evaluated.
    """
    title = reference.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1] or "GHN"
    return _CARD.format(
        title=title,
        count=parameter_count,
        reference=json.dumps(reference),
        config=json.dumps(dict(config), indent=2),
        licence="" if licence is None else f"license: {licence}\n",
        sections="".join(f"## {title}\n\n{text.strip()}\n\n" for title, text in (sections or {}).items()),
    )


_GENERATED = ("Use", "Configuration", "References")


def carried_over(card: str) -> dict[str, Any]:
    """``licence`` and ``sections`` of a card: what :func:`model_card` cannot know from the configuration.

    Headings inside of code are not headings, and the sections that every card has are left out.
    """
    licence = re.search(r"\A---\n(?:.*\n)*?license: *(\S+)\n(?:.*\n)*?---\n", card)
    sections: dict[str, str] = {}
    heading, in_code = None, False
    for line in card.splitlines():
        in_code ^= line.lstrip().startswith("```")
        if line.startswith("## ") and not in_code:
            heading = line[3:].strip()
            sections[heading] = ""
        elif heading is not None:
            sections[heading] += line + "\n"
    kept = {heading: text.strip() for heading, text in sections.items() if heading not in _GENERATED}
    return {"licence": licence and licence[1], "sections": kept}
