"""Graph transformer of GHN-3 (Knyazev et al., 2023, section 4.1; Ying et al., 2021)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ghn_init.ghn.config import GHNConfig
from ghn_init.ghn.encoders.base import Encoder, register_encoder
from ghn_init.ghn.memory import large_empty
from ghn_init.graph.batch import GraphBatch

MAX_DEGREE = 100
MAX_INPUT_DISTANCE = 1000
DISTANCE_ROWS = 257
_FIRST_DISTANCE_ROW = 2  # the row of "no path"; the two before it are not used
_LOOKED_UP = 1 << 14  # codes that are looked up for all heads before the next ones are read
_KEPT_ELEMENTS = 1 << 26  # largest attention bias that is kept for all layers (256 MB in float32)
_BLOCK_ELEMENTS = 1 << 23  # of a larger one, what each layer holds at once: it stays near the cache


class PairBias(nn.Module):
    """Additive attention bias of a pair of nodes, from the path lengths in both directions."""

    def __init__(self, hid: int, heads: int) -> None:
        super().__init__()
        self.distance = nn.Embedding(DISTANCE_ROWS, hid)
        self.hidden = nn.Linear(2 * hid, hid)
        self.output = nn.Linear(hid, heads)

    def forward(self, cutoff: int) -> Tensor:
        """``(2 * cutoff + 1, heads)``: one row for each code of :attr:`GraphStructure.pair_codes`.

        In an acyclic graph two nodes are joined in one direction at most, so these are all the pairs
        there are, however many nodes the graph has.
        """
        steps = torch.arange(cutoff + 1, device=self.distance.weight.device)
        none = torch.zeros_like(steps)
        forward = torch.cat([steps, none[1:]]) + _FIRST_DISTANCE_ROW
        backward = torch.cat([none, steps[1:]]) + _FIRST_DISTANCE_ROW
        pairs = torch.cat([self.distance(forward), self.distance(backward)], dim=1)
        return self.output(F.relu(self.hidden(pairs)))


class GraphormerLayer(nn.Module):
    """Pre-norm transformer layer: self-attention with a pair bias, then an MLP of ratio 4."""

    def __init__(self, hid: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(hid)
        self.qkv = nn.Linear(hid, 3 * hid, bias=False)
        self.out = nn.Linear(hid, hid)
        self.norm2 = nn.LayerNorm(hid)
        self.mlp = nn.Sequential(nn.Linear(hid, 4 * hid), nn.GELU(), nn.Linear(4 * hid, hid))

    def forward(self, x: Tensor, bias: Callable[[int, int], Tensor], block: int) -> Tensor:
        """Update ``(B, N, hid)``; ``bias(start, stop)`` gives rows of the ``(B, heads, N, N)`` bias."""
        count = x.shape[1]
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        if block >= count:
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias(0, count))
        else:
            # Written in place: results that stay in the holes of the blocks before would make the heap grow.
            mixed = torch.empty_like(q)
            for start in range(0, count, block):
                stop = min(start + block, count)
                rows = bias(start, stop)
                mixed[:, :, start:stop] = F.scaled_dot_product_attention(
                    q[:, :, start:stop], k, v, attn_mask=rows
                )
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


@register_encoder("graphormer")
class Graphormer(Encoder):
    """All-to-all attention biased by shortest path lengths, after centrality and depth embeddings."""

    small_outputs = True

    def __init__(self, config: GHNConfig) -> None:
        super().__init__(config)
        hid = config.hid
        self.in_degree = nn.Embedding(MAX_DEGREE + 1, hid)
        self.out_degree = nn.Embedding(MAX_DEGREE + 1, hid)
        self.input_distance = nn.Embedding(MAX_INPUT_DISTANCE + 1, hid)
        self.pair_bias = PairBias(hid, config.heads)
        self.layers = nn.ModuleList(GraphormerLayer(hid, config.heads) for _ in range(config.layers))
        self._heads = config.heads

    def forward(self, x: Tensor, batch: GraphBatch) -> Tensor:
        """See :meth:`Encoder.forward`."""
        x = self._with_structure(x, batch)
        x, places, codes = _pad(x, batch)
        table = self.pair_bias(batch.structures[0].cutoff)
        rows = x.shape[0] * self._heads * x.shape[1]
        whole = rows * x.shape[1] <= _KEPT_ELEMENTS
        block = x.shape[1] if whole else max(1, _BLOCK_ELEMENTS // rows)
        bias = _bias_of(table, codes, whole=whole)
        for layer in self.layers:
            x = layer(x, bias, block)
        return x.flatten(0, 1) if places is None else x.flatten(0, 1).index_select(0, places)

    def _with_structure(self, x: Tensor, batch: GraphBatch) -> Tensor:
        def rows(values: np.ndarray, most: int) -> Tensor:
            return torch.from_numpy(np.minimum(values.astype(np.int64), most)).to(x.device)

        from_input = np.concatenate([structure.distances[0] for structure in batch.structures])
        x = x + self.in_degree(rows(batch.joined("in_degrees"), MAX_DEGREE))
        x = x + self.out_degree(rows(batch.joined("out_degrees"), MAX_DEGREE))
        return x + self.input_distance(rows(from_input, MAX_INPUT_DISTANCE))


def _pad(x: Tensor, batch: GraphBatch) -> tuple[Tensor, Tensor | None, Tensor]:
    """Node embeddings as ``(B, N, hid)``, where each node went, and the ``(B, N, N)`` uint8 pair codes.

    A padded column has the code after the last one.
    """
    structures = batch.structures
    if len(structures) == 1:
        return x.unsqueeze(0), None, torch.from_numpy(structures[0].pair_codes).to(x.device).unsqueeze(0)
    longest = max(len(structure) for structure in structures)
    codes = np.full((len(structures), longest, longest), 2 * structures[0].cutoff + 1, dtype=np.uint8)
    for row, structure in zip(codes, structures, strict=True):
        row[: len(structure), : len(structure)] = structure.pair_codes
    places = torch.cat([i * longest + torch.arange(len(s)) for i, s in enumerate(structures)]).to(x.device)
    padded = x.new_zeros(len(structures) * longest, x.shape[1]).index_copy(0, places, x)
    return padded.view(len(structures), longest, -1), places, torch.from_numpy(codes).to(x.device)


def _bias_of(table: Tensor, codes: Tensor, *, whole: bool) -> Callable[[int, int], Tensor]:
    """Rows of the ``(B, heads, N, N)`` bias, looked up once if ``whole``; padded columns never take part."""
    lowest = torch.finfo(table.dtype).min
    table = torch.cat([table, table.new_full((1, table.shape[1]), lowest)])

    def rows(start: int, stop: int) -> Tensor:
        return _looked_up(table, codes[:, start:stop])

    if not whole:
        return rows
    everything = rows(0, codes.shape[1])
    return lambda start, stop: everything


def _looked_up(table: Tensor, codes: Tensor) -> Tensor:
    """``(B, heads, M, N)`` from the ``(C, heads)`` rows that the ``(B, M, N)`` codes name."""
    if codes.device.type != "cpu" or table.dtype is not torch.float32 or table.requires_grad:
        return F.embedding(codes.int(), table).permute(0, 3, 1, 2).contiguous()
    # NumPy's take is several times faster than any lookup of torch; a part of the codes stays in the cache.
    batch, heads = len(codes), table.shape[1]
    found = large_empty((batch, heads, codes[0].numel()), table)
    columns, into = table.T.contiguous().numpy(), found.numpy()
    for each, flat in enumerate(codes.flatten(1).numpy()):
        for start in range(0, flat.size, _LOOKED_UP):
            part = flat[start : start + _LOOKED_UP].astype(np.intp)
            for head, column in enumerate(columns):
                column.take(part, out=into[each, head, start : start + part.size], mode="clip")
    return found.unflatten(2, codes.shape[1:])
