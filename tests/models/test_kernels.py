"""The kernels of a CUDA device do what the formulas beside them say; elsewhere those formulas are what runs."""

from __future__ import annotations

import pytest
import torch

from medgemma_visualizer.models import kernels

CLOSE = {torch.float32: 1e-5, torch.bfloat16: 8e-3}


def drawn(*shape: int, dtype: torch.dtype, device: str) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).to(device, dtype)


def product(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return (x.double() @ weight.double().T).to(x.dtype)


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize(
    ("size", "counts"), [(2560, (2048, 1024, 1024)), (48, (33, 7, 7)), (10240, (2561,)), (1, (1,))]
)
def test_one_row_times_each_weight(size: int, counts: tuple[int, ...], device: str, dtype: torch.dtype) -> None:
    x = drawn(1, 1, size, dtype=dtype, device=device)
    weights = [drawn(count, size, dtype=dtype, device=device) for count in counts]
    for found, weight in zip(kernels.times_one(x, weights), weights, strict=True):
        wanted = product(x, weight)
        assert found.shape == wanted.shape
        torch.testing.assert_close(found, wanted, rtol=CLOSE[dtype], atol=CLOSE[dtype] * size**0.5)
    turned = [weight.T.contiguous().T for weight in weights]
    torch.testing.assert_close(
        kernels.times_one(x, turned), kernels.times_one(x, weights), rtol=CLOSE[dtype], atol=CLOSE[dtype] * size**0.5
    )


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize(("size", "count"), [(2560, 10240), (48, 130), (7, 3)])
def test_one_row_through_a_gate(size: int, count: int, device: str, dtype: torch.dtype) -> None:
    x = drawn(1, 1, size, dtype=dtype, device=device) / size**0.5
    gate, up = (drawn(count, size + n, dtype=dtype, device=device)[:, n:].contiguous() for n in (0, 1))
    wanted = torch.nn.functional.gelu(product(x, gate), approximate="tanh") * product(x, up)
    found = kernels.gated_one(x, gate, up)
    assert wanted.abs().max() > 0.1
    torch.testing.assert_close(found, wanted, rtol=2 * CLOSE[dtype], atol=2 * CLOSE[dtype])
