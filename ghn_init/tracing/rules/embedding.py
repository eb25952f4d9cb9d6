"""Lookups in a table of parameters: ``pos_enc``."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from ghn_init.tracing.flow import CONSTANT, Flow
from ghn_init.tracing.rules.call import Call
from ghn_init.tracing.rules.elementwise import score_reason
from ghn_init.tracing.rules.functions import torch_functions
from ghn_init.tracing.rules.registry import register_rule

_LOW = (torch, torch._VF, torch.ops.aten)


@register_rule(F.embedding, F.embedding_bag)
def embedding(call: Call) -> Flow:
    """``embedding(input, weight)``."""
    return _lookup(call, call.arg(1, "weight"), call.arg(0, "input"))


@register_rule(*torch_functions("embedding", "embedding_bag", "_embedding_bag", owners=_LOW))
def native_embedding(call: Call) -> Flow:
    """``embedding(weight, indices)``."""
    return _lookup(call, call.arg(0, "weight"), call.arg(1, "indices"))


@register_rule(*torch_functions("getitem", "index_select", "index", "gather", "take_along_dim"))
def index(call: Call) -> Flow:
    """Indexing is a lookup where the table is a parameter and the index depends on the input."""
    table = call.arg(0, "input", call.arg(0, "self"))
    chosen = call.flow(list(call.node.args[1:]) + list(call.node.kwargs.values()))
    if call.flow(table).is_param and chosen.feeds:
        return _lookup(call, table, list(call.node.args[1:]))
    return call.wire()


def _lookup(call: Call, table: Any, chosen: Any) -> Flow:
    held, chosen = call.flow(table), call.flow(chosen)
    if not held.is_param:
        return call.wire()
    if call.node in call.ahead.score_tables:
        call.builder.keep(held.params, score_reason(call))
        return CONSTANT
    for name in held.params:
        call.builder.hand_over(name, chosen.indices)
    return call.weighted("pos_enc", chosen.feeds, held)
