"""What every registered weight decoder must do."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ghn_init.ghn import GHNConfig
from ghn_init.ghn.decoders import DECODERS, Request, VectorDecoder, blockwise
from ghn_init.ghn.decoders.positions import positions_linear

MOST = (12, 10, 5, 5)


def config(name: str, crop: str = "centre") -> GHNConfig:
    return GHNConfig(hid=16, heads=4, num_classes=7, max_shape=MOST, decoder=name, kernel_crop=crop)


def decoder(name: str, crop: str = "centre"):
    torch.manual_seed(2)
    return DECODERS[name](config(name, crop)).double()


def rows(count: int) -> torch.Tensor:
    return torch.randn(count, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("crop", ["centre", "top_left"])
@pytest.mark.parametrize("name", sorted(DECODERS))
@settings(max_examples=25, deadline=None)
@given(out=st.integers(1, MOST[0]), into=st.integers(1, MOST[1]), kh=st.integers(1, 5), kw=st.integers(1, 5))
def test_a_smaller_call_gives_a_part_of_the_largest(name, crop, out, into, kh, kw):
    decode = decoder(name, crop)
    whole = decode(rows(3), *MOST[:2], MOST[2:])
    first = (5 // 2 - kh // 2, 5 // 2 - kw // 2) if crop == "centre" else (0, 0)
    part = whole[:, :out, :into, first[0] : first[0] + kh, first[1] : first[1] + kw]
    torch.testing.assert_close(decode(rows(3), out, into, (kh, kw)), part)


@pytest.mark.parametrize("kernel", [(6, 6), (9, 7), (1, 8), (14, 3)])
@pytest.mark.parametrize("name", sorted(DECODERS))
def test_a_kernel_beyond_the_largest_is_interpolated(name, kernel):
    decode = decoder(name)
    small = decode(rows(2), 4, 3, (min(kernel[0], 5), min(kernel[1], 5)))
    large = decode(rows(2), 4, 3, kernel)
    assert large.shape == (2, 4, 3, *kernel)
    torch.testing.assert_close(
        large[1, 2], torch.nn.functional.interpolate(small[1], kernel, mode="bilinear")[2]
    )


@pytest.mark.parametrize("name", sorted(DECODERS))
def test_class_weights_have_a_row_for_each_class(name):
    decode = decoder(name)
    narrow, wide = decode.class_weight(rows(2), 4), decode.class_weight(rows(2), MOST[1])
    assert narrow.shape == (2, 7, 4, 1, 1)
    torch.testing.assert_close(narrow, wide[:, :, :4])


@pytest.mark.parametrize("name", sorted(DECODERS))
def test_gradients_reach_every_parameter_of_a_decoder(name):
    decode = decoder(name)
    loss = decode(rows(2), *MOST[:2], (5, 5)).pow(2).sum() + decode.class_weight(rows(1), 3).pow(2).sum()
    loss.backward()
    for label, parameter in decode.named_parameters():
        assert parameter.grad is not None, label
        assert parameter.grad.abs().sum() > 0, label


def test_vectors_of_a_node_do_not_depend_on_the_others():
    torch.manual_seed(3)
    vectors = VectorDecoder(config("conv")).double()
    x = rows(5)
    assert vectors(x).shape == (5, 2, 12)
    assert vectors.class_bias(x).shape == (5, 7)
    torch.testing.assert_close(vectors(x)[2:3], vectors(x[2:3]))
    torch.testing.assert_close(vectors.class_bias(x)[4:], vectors.class_bias(x[4:]))


@pytest.mark.parametrize("block", [1, 7 * 6, 2 * 7 * 6, 1 << 20])
def test_blockwise_linear_has_the_values_and_gradients_of_the_whole_layer(block, monkeypatch):
    monkeypatch.setattr(blockwise, "_BLOCK_ELEMENTS", block)
    generator = torch.Generator().manual_seed(4)
    weight, bias, *rows = (
        torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in ((5, 7, 6), (5, 7), (3, 6), (1, 6), (4, 6))
    )
    widths = [(5, 7), (2, 7), (4, 3)]

    def applied(weight, bias, *rows):
        return blockwise.blockwise_linear(weight, bias, widths, rows)

    for each, x, (out, into) in zip(applied(weight, bias, *rows), rows, widths, strict=True):
        torch.testing.assert_close(each, (torch.einsum("oik,mk->moi", weight, x) + bias)[:, :out, :into])
    assert torch.autograd.gradcheck(applied, (weight, bias, *rows))


@settings(max_examples=40, deadline=None)
@given(
    inputs=st.lists(
        st.tuples(st.integers(1, 9), st.integers(1, 70), st.integers(0, 30)), min_size=1, max_size=6
    ),
    block=st.sampled_from([1, 200, 1 << 18]),
)
def test_blockwise_linear_of_any_widths(inputs, block):
    generator = torch.Generator().manual_seed(5)
    weight, bias = (torch.randn(9, 70, *shape, generator=generator).double() for shape in ((4,), ()))
    rows = [torch.randn(count, 4, generator=generator).double() for _, _, count in inputs]
    whole, left = blockwise._BLOCK_ELEMENTS, [rows[i] @ weight.flatten(0, 1).T for i in range(len(rows))]
    blockwise._BLOCK_ELEMENTS = block
    try:
        found = blockwise.blockwise_linear(weight, bias, [(out, into) for out, into, _ in inputs], rows)
    finally:
        blockwise._BLOCK_ELEMENTS = whole
    for each, expected, (out, into, count) in zip(found, left, inputs, strict=True):
        torch.testing.assert_close(each, (expected.view(count, 9, 70) + bias)[:, :out, :into])


def test_positions_linear_has_the_values_and_gradients_of_the_whole_layer():
    generator = torch.Generator().manual_seed(6)
    weight, bias, *inputs = (
        torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in ((2, 3, 3, 4), (2, 3, 3), (2, 4), (1, 4), (3, 4))
    )
    crops = [(0, 3, 0, 3), (1, 2, 0, 2), (1, 3, 2, 3)]

    def applied(weight, bias, *inputs):
        return positions_linear(weight, bias, crops, inputs)

    for each, x, (top, bottom, left, right) in zip(
        applied(weight, bias, *inputs), inputs, crops, strict=True
    ):
        whole = torch.einsum("chwk,nk->hwnc", weight, x) + bias.permute(1, 2, 0)[:, :, None]
        torch.testing.assert_close(each, whole[top:bottom, left:right])
    assert torch.autograd.gradcheck(applied, (weight, bias, *inputs))


@pytest.mark.parametrize("crop", ["centre", "top_left"])
@pytest.mark.parametrize("name", sorted(DECODERS))
def test_requests_together_give_what_each_gives_alone(name, crop):
    decode = decoder(name, crop)
    requests = [
        Request(rows(3), 12, 10, (3, 3)), Request(rows(1), 4, 1, (7, 2)), Request(rows(2), 5, 10, (1, 1)),
        Request(rows(2), 12, 3, (1, 1), is_class=True), Request(rows(4), 5, 10, (3, 3)),
    ]  # fmt: skip
    for found, request in zip(decode.decode_many(requests), requests, strict=True):
        x, out, into, kernel, is_class = request
        alone = decode.class_weight(x, into) if is_class else decode(x, out, into, kernel)
        torch.testing.assert_close(found, alone)
