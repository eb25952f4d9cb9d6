"""Rules: which primitive an operation is. Importing the package registers those of torch's own functions."""

from ghn_init.tracing.rules import attention, conv, elementwise, embedding, norm, pool, recurrent
from ghn_init.tracing.rules.call import Call
from ghn_init.tracing.rules.functions import torch_functions
from ghn_init.tracing.rules.registry import find_rule, register_rule

__all__ = ["Call", "find_rule", "register_rule", "torch_functions"]

_BUILT_IN = (attention, conv, elementwise, embedding, norm, pool, recurrent)
