"""Small configurations of transformers' model types, made from their defaults.

Sizes are divided by one factor, so that those which must agree with each other still do; heads keep their
width and become fewer, so rotary sections, windows and other fields of a head stay as they are. Beside a
model of timm, whose width is none of the fields, all widths stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

LEVELS: tuple[str, ...] = ("small", "shallow", "default")
"""Ways to shrink: widths, depth and tables; depth and tables; nothing."""

FACTORS = (16, 8, 4, 2)
"""What widths and numbers of heads may be divided by, best first."""

LAYERS, MOST_LAYERS = 2, 8
VOCABULARY = 512
EXPERTS, ACTIVE_EXPERTS = 4, 2

_DEPTH = re.compile(
    r"(num_hidden_layers|n_layers?|num_layers|depth|layers|num_decoder_layers|num_encoder_layers"
    r"|(en|de)coder_(num_)?(hidden_)?(n_)?layers|resampler_depth|num_blocks)"
)
_HEADS = re.compile(r"\w*(num_heads|n_heads?|attention_heads|key_value_heads|kv_heads|n_head_kv)")
_KEYS = re.compile(r"\w*(key_value|kv)\w*")
_WIDTH = re.compile(
    r"(\w*_)?(hidden_size|hidden_sizes|intermediate_size|d_model|n_embd|n_inner|d_ff|ffn_dim|emb_dim|embed_dim"
    r"|embedding_size|mlp_dim|hidden_dim|projection_dim|proj_dim|out_hidden_size|dim|lora_rank|lru_width"
    r"|block_ff_dim|embedding_dim|ffn_hidden_size|attention_hidden_size|word_embed_proj_dim|width)"
)
_NOT_WIDTH = re.compile(
    r"\w*(head_dim|rotary_dim|rope_dim|codebook_dim|mel_dim|d_state|head_size|codevector_dim)"
)
_EXPERTS = re.compile(r"(\w*_)?(num_(local_|routed_)?experts|n_(routed_)?experts|moe_num_experts)")
_ACTIVE = re.compile(
    r"(num_experts_per_tok(en)?|moe_topk|moe_k|top_k_experts|moe_top_k|top_k|num_selected_experts)"
)
_EXPERT_GROUPS = re.compile(r"(n_group|topk_group|num_expert_group|num_limited_groups)")
_TABLE = re.compile(r"(entity_)?vocab_size(_per_layer_input)?")
_INDICES = re.compile(r"\w*(indices|indexes|layer_ids|layers_idx)")


def shrink(config: Any, level: str) -> Any:
    """Make a configuration smaller, in place.

    Args:
        config: A configuration of transformers with its defaults.
        level: One of :data:`LEVELS`.

    Returns:
        The same configuration.
    """
    parts = list(configs(config))
    for sub in parts:
        _fill(sub)
    _meet(config, parts)
    if level == "default":
        return config
    special = [value for sub in parts for value in _special_ids(sub)]
    fixed = any(str(sub.model_type).startswith("timm_") for sub in parts)
    factor = _factor(parts) if level == "small" and not fixed else 1
    for sub in parts:
        _shorten(sub)
        _few_experts(sub)
        _narrow(sub, factor)
        _few_rows(sub, special)
    _meet(config, parts)
    return config


def configs(config: Any, seen: set[int] | None = None) -> Iterator[Any]:
    """A configuration and those within it, each once."""
    seen = set() if seen is None else seen
    if id(config) in seen:
        return
    seen.add(id(config))
    yield config
    for value in list(vars(config).values()):
        for item in value if isinstance(value, (list, tuple)) else (value,):
            if hasattr(item, "to_dict") and hasattr(item, "model_type"):
                yield from configs(item, seen)


def _fill(config: Any) -> None:
    """Set the width and the number of heads where the default leaves them out."""
    width, heads = (vars(config).get(name) for name in ("hidden_size", "num_attention_heads"))
    if vars(config).get("head_dim", 0) is None and type(width) is int and type(heads) is int:
        _set(config, "head_dim", width // heads)
    if vars(config).get("num_key_value_heads", 0) is None and type(heads) is int:
        _set(config, "num_key_value_heads", heads)


def _meet(config: Any, parts: list[Any]) -> None:
    """Features of images get the width of the text beside which they are put."""
    width = vars(getattr(config, "text_config", None) or object).get("hidden_size")
    for sub in parts:
        if type(width) is int and "out_hidden_size" in vars(sub):
            _set(sub, "out_hidden_size", width)


def _numbers(config: Any, pattern: re.Pattern[str]) -> dict[str, int]:
    """Whole numbers of a configuration whose field's name matches."""
    return {
        name: value
        for name, value in vars(config).items()
        if type(value) is int and value > 0 and pattern.fullmatch(name)
    }


def _special_ids(config: Any) -> Iterable[int]:
    for name, value in vars(config).items():
        if not name.endswith(("_token_id", "_token_index", "_token_ids", "_id", "_offset")):
            continue
        for item in value if isinstance(value, (list, tuple)) else (value,):
            if type(item) is int:
                yield item


def _factor(configs: list[Any]) -> int:
    """The largest factor that divides every number of heads and every width of more than one head."""
    heads = [
        value for sub in configs for name, value in _numbers(sub, _HEADS).items() if not _KEYS.fullmatch(name)
    ]
    widths = [
        value for sub in configs for name, value in _numbers(sub, _WIDTH).items() if name == "hidden_size"
    ]
    for factor in FACTORS:
        if all(value % factor == 0 for value in heads + widths):
            return factor
    return 1


def _shorten(config: Any) -> None:
    """Two layers, or as many as show every kind of layer."""
    for name, depth in _numbers(config, _DEPTH).items():
        per_layer = {
            key: value
            for key, value in vars(config).items()
            if isinstance(value, (list, tuple)) and len(value) == depth > LAYERS
        }
        kept = min(depth, max([LAYERS, *(_prefix(value) for value in per_layer.values())]))
        for key, value in per_layer.items():
            _set(config, key, value[:kept])
        for key, value in list(vars(config).items()):
            if _INDICES.fullmatch(key) and isinstance(value, (list, tuple)) and key not in per_layer:
                _set(config, key, type(value)(_moved(value, depth, kept)))
        _set(config, name, kept)
    depths = getattr(config, "depths", None)
    if isinstance(depths, (list, tuple)) and all(type(depth) is int for depth in depths):
        _set(config, "depths", type(depths)(min(depth, LAYERS) for depth in depths))


def _prefix(values: Any) -> int:
    """Length of the shortest prefix that holds every value of a list, if there are few of them."""
    kinds = {str(value) for value in values}
    if len(kinds) > MOST_LAYERS // 2:
        return LAYERS
    first = [next(i for i, value in enumerate(values) if str(value) == kind) for kind in kinds]
    return min(MOST_LAYERS, max(first) + 1)


def _moved(indices: Any, depth: int, kept: int) -> list[Any]:
    """Layer numbers of a deep model as those of a shallow one."""
    if not all(type(index) is int and 0 <= index <= depth for index in indices):
        return list(indices)
    return list(dict.fromkeys(max(0, -(-(index + 1) * kept // depth) - 1) for index in indices))


def _few_experts(config: Any) -> None:
    experts = _numbers(config, _EXPERTS)
    for name, value in experts.items():
        _set(config, name, min(value, EXPERTS))
    if experts:
        for name, value in _numbers(config, _ACTIVE).items():
            _set(config, name, min(value, ACTIVE_EXPERTS))
        for name in _numbers(config, _EXPERT_GROUPS):
            _set(config, name, 1)


def _narrow(config: Any, factor: int) -> None:
    if factor == 1:
        return
    heads = _numbers(config, _HEADS)
    for name, value in heads.items():
        fewer = max(1, value // factor)
        most = max((other // factor for other in heads.values()), default=fewer)
        _set(config, name, fewer if most % fewer == 0 else 1)
    for name, value in list(vars(config).items()):
        if not _WIDTH.fullmatch(name) or _NOT_WIDTH.fullmatch(name) or name in heads:
            continue
        if type(value) is int and value % factor == 0:
            _set(config, name, value // factor)
        elif (
            isinstance(value, (list, tuple))
            and value
            and all(type(item) is int and item % factor == 0 for item in value)
        ):
            _set(config, name, type(value)(item // factor for item in value))


def _few_rows(config: Any, special: list[int]) -> None:
    """Vocabularies above every special id."""
    for name, value in _numbers(config, _TABLE).items():
        _set(
            config, name, min(value, max([VOCABULARY, *(number + 1 for number in special if number < value)]))
        )


def _set(config: Any, name: str, value: Any) -> None:
    """Set a field; one that its class computes or refuses stays as it is."""
    try:
        setattr(config, name, value)
    except (AttributeError, TypeError, ValueError):
        return
