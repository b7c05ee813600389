"""The small steps between a decoder's matrix products, each as one kernel on a CUDA device, with its way back.

Sums, roots and means in float32; rounded where the library rounds, so that results differ from its by the order of
additions only. On other devices the same formulas run as plain torch. Knows rows of numbers; nothing about models.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import torch
from torch.autograd.function import once_differentiable

#: Triton comes with torch's CUDA builds for Linux.
HAS_TRITON = importlib.util.find_spec("triton") is not None

Pair = tuple[torch.Tensor, torch.Tensor]


def fused(x: torch.Tensor) -> bool:
    """Whether the kernels run on such a tensor."""
    return x.is_cuda and HAS_TRITON


def norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Root mean square norm over the last axis, times (1 + weight) (Zhang & Sennrich 2019, as in Gemma)."""
    if not fused(x):
        return _plain_norm(x, weight, eps)
    out: torch.Tensor = _AddNorm.apply(x, None, weight, weight, eps)[1]
    return out


def add_norm(residual: torch.Tensor, x: torch.Tensor, inner: torch.Tensor, outer: torch.Tensor, eps: float) -> Pair:
    """(h, norm(h; outer)) with h = residual + norm(x; inner); all (…, D)."""
    if not fused(x):
        summed = residual + _plain_norm(x, inner, eps)
        return summed, _plain_norm(summed, outer, eps)
    both: Pair = _AddNorm.apply(residual, x, inner, outer, eps)
    return both


def norm_rotate(
    x: torch.Tensor, weight: torch.Tensor, eps: float, cos: torch.Tensor, sin: torch.Tensor
) -> torch.Tensor:
    """Norm of every head, then rotary position (Su 2021): x (B, S, H, d), cos, sin (1 or B, S, d) -> (B, H, S, d)."""
    if fused(x):
        out: torch.Tensor = _NormRotate.apply(x, weight, eps, cos, sin)
        return out
    straight = _plain_norm(x, weight, eps).transpose(1, 2)
    half = x.shape[-1] // 2
    turned = torch.cat([-straight[..., half:], straight[..., :half]], dim=-1)
    return straight * cos[:, None] + turned * sin[:, None]


def gelu_times(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """gelu(gate) · up, with the approximation by tanh."""
    if fused(gate):
        out: torch.Tensor = _GeluTimes.apply(gate, up)
        return out
    return torch.nn.functional.gelu(gate, approximate="tanh") * up


def attend_one(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, scale: float
) -> torch.Tensor:
    """Attention of one new token, without gradient, spread over many programs: query (1, H_kv, G, d) -> the same.

    Args:
        key, value: (1, H_kv, K, d), contiguous.
        mask: (1, 1, G, K), additive, the same for every head.
    """
    if not fused(query):
        return torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
    from medgemma_visualizer.models import triton_kernels

    flat = query[0].flatten(0, 1).contiguous()
    out: torch.Tensor = triton_kernels.attend_one(
        flat, key[0].contiguous(), value[0].contiguous(), mask[0, 0, 0], scale
    )
    return out.view(query.shape)


def times_one(x: torch.Tensor, weights: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """x (1, 1, D), without gradient, times each weight (out, D): (1, 1, out) each.

    One row leaves a matrix product waiting for its weights; here they are read as fast as the device can.
    """
    if not fused(x) or not all(weight.is_contiguous() for weight in weights):
        return tuple(torch.nn.functional.linear(x, weight) for weight in weights)
    from medgemma_visualizer.models import triton_kernels

    return tuple(out[None, None] for out in triton_kernels.times_one(x.flatten(), weights))


def gated_one(x: torch.Tensor, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """gelu(gate · x) · (up · x) of x (1, 1, D), without gradient: (1, 1, out)."""
    if not fused(x) or not (gate.is_contiguous() and up.is_contiguous()):
        return gelu_times(torch.nn.functional.linear(x, gate), torch.nn.functional.linear(x, up))
    from medgemma_visualizer.models import triton_kernels

    out: torch.Tensor = triton_kernels.gated_one(x.flatten(), gate, up)
    return out[None, None]


def store_one(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, slot: torch.Tensor, at: torch.Tensor,
) -> None:  # fmt: skip
    """Writes one token's query (H, 1, d) into queries (H, R, d) at `slot`, key and value (H_kv, 1, d) at `at`."""
    if fused(query):
        from medgemma_visualizer.models import triton_kernels

        triton_kernels.store_one(query, key, value, queries, keys, values, slot, at)
        return
    queries.index_copy_(1, slot, query)
    keys.index_copy_(1, at, key)
    values.index_copy_(1, at, value)


def _plain_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    wide = x.float()
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return (wide * (1.0 + weight.float())).type_as(x)


class _AddNorm(torch.autograd.Function):
    """As `add_norm`; without x, h is the residual itself."""

    @staticmethod
    def forward(ctx: Any, residual: Any, x: Any, inner: Any, outer: Any, eps: float) -> Any:
        from medgemma_visualizer.models import triton_kernels

        residual = residual.contiguous()
        x = None if x is None else x.contiguous()
        summed, out = triton_kernels.add_norm(residual, x, inner, outer, eps)
        ctx.save_for_backward(summed if x is not None else residual, x, inner, outer)
        ctx.set_materialize_grads(False)
        ctx.eps = eps
        return summed, out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope_summed: Any, slope: Any) -> Any:
        from medgemma_visualizer.models import triton_kernels

        summed, x, inner, outer = ctx.saved_tensors
        back = triton_kernels.add_norm_back(slope_summed, slope.contiguous(), summed, x, inner, outer, ctx.eps)
        return (*back, None, None, None)


class _NormRotate(torch.autograd.Function):
    """As `norm_rotate`."""

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, eps: float, cos: Any, sin: Any) -> Any:
        from medgemma_visualizer.models import triton_kernels

        x = x.contiguous()
        ctx.save_for_backward(x, weight, cos, sin)
        ctx.eps = eps
        return triton_kernels.norm_rotate(x, weight, eps, cos.contiguous(), sin.contiguous())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Any) -> Any:
        from medgemma_visualizer.models import triton_kernels

        x, weight, cos, sin = ctx.saved_tensors
        back = triton_kernels.norm_rotate_back(slope, x, weight, ctx.eps, cos.contiguous(), sin.contiguous())
        return back, None, None, None, None


class _GeluTimes(torch.autograd.Function):
    """As `gelu_times`."""

    @staticmethod
    def forward(ctx: Any, gate: Any, up: Any) -> Any:
        from medgemma_visualizer.models import triton_kernels

        gate, up = gate.contiguous(), up.contiguous()
        ctx.save_for_backward(gate, up)
        return triton_kernels.gelu_times(gate, up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Any) -> Any:
        from medgemma_visualizer.models import triton_kernels

        return triton_kernels.gelu_times_back(slope.contiguous(), *ctx.saved_tensors)
