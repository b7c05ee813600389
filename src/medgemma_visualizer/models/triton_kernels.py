"""The kernels behind `kernels`, in Triton; imported on CUDA devices only. One program for a row or block of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl


@triton.jit
def _add_norm(residual, x, inner, outer, summed, out, eps, size, ADD: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    row, at = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK)
    inside = at < size
    kind = out.dtype.element_ty
    h = tl.load(residual + row * size + at, mask=inside, other=0.0).to(tl.float32)
    if ADD:
        y = tl.load(x + row * size + at, mask=inside, other=0.0).to(tl.float32)
        weight = 1.0 + tl.load(inner + at, mask=inside, other=0.0).to(tl.float32)
        y = (y * tl.rsqrt(tl.sum(y * y, axis=0) / size + eps) * weight).to(kind).to(tl.float32)
        rounded = (h + y).to(kind)
        tl.store(summed + row * size + at, rounded, mask=inside)
        h = rounded.to(tl.float32)
    weight = 1.0 + tl.load(outer + at, mask=inside, other=0.0).to(tl.float32)
    normed = h * tl.rsqrt(tl.sum(h * h, axis=0) / size + eps) * weight
    tl.store(out + row * size + at, normed.to(kind), mask=inside)


@triton.jit
def _add_norm_back(  # type: ignore[no-untyped-def]
    slope_summed, slope, summed, x, inner, outer, back, back_x, eps, size,
    ADD: tl.constexpr, BOTH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row, at = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK)
    inside = at < size
    kind = back.dtype.element_ty
    h = tl.load(summed + row * size + at, mask=inside, other=0.0).to(tl.float32)
    weight = 1.0 + tl.load(outer + at, mask=inside, other=0.0).to(tl.float32)
    g = tl.load(slope + row * size + at, mask=inside, other=0.0).to(tl.float32) * weight
    root = tl.rsqrt(tl.sum(h * h, axis=0) / size + eps)
    total = root * (g - h * (root * root) * (tl.sum(g * h, axis=0) / size))
    if BOTH:
        total += tl.load(slope_summed + row * size + at, mask=inside, other=0.0).to(tl.float32)
    rounded = total.to(kind)
    tl.store(back + row * size + at, rounded, mask=inside)
    if ADD:
        y = tl.load(x + row * size + at, mask=inside, other=0.0).to(tl.float32)
        weight = 1.0 + tl.load(inner + at, mask=inside, other=0.0).to(tl.float32)
        g = rounded.to(tl.float32) * weight
        root = tl.rsqrt(tl.sum(y * y, axis=0) / size + eps)
        inner_back = root * (g - y * (root * root) * (tl.sum(g * y, axis=0) / size))
        tl.store(back_x + row * size + at, inner_back.to(kind), mask=inside)


@triton.jit
def _norm_rotate(  # type: ignore[no-untyped-def]
    x, weight, cos, sin, out, eps, turn, places, heads, size, HEADS: tl.constexpr, BLOCK: tl.constexpr
):
    token, head, at = tl.program_id(0).to(tl.int64), tl.arange(0, HEADS)[:, None], tl.arange(0, BLOCK)[None]
    batch, place = token // places, token % places
    inside = (head < heads) & (at < size)
    kind = out.dtype.element_ty
    half = size // 2
    other = tl.where(at < half, at + half, at - half)
    sign = tl.where(at < half, -1.0, 1.0)
    start = x + token * heads * size + head * size
    straight = tl.load(start + at, mask=inside, other=0.0).to(tl.float32)
    turned = tl.load(start + other, mask=inside, other=0.0).to(tl.float32)
    root = tl.rsqrt(tl.sum(straight * straight, axis=1)[:, None] / size + eps)
    here = at < size
    straight = straight * root * (1.0 + tl.load(weight + at, mask=here, other=0.0).to(tl.float32))
    turned = turned * root * (1.0 + tl.load(weight + other, mask=here, other=0.0).to(tl.float32)) * sign
    turned_by = batch * turn + place * size + at
    c = tl.load(cos + turned_by, mask=here, other=0.0).to(tl.float32)
    s = tl.load(sin + turned_by, mask=here, other=0.0).to(tl.float32)
    first = (straight.to(kind).to(tl.float32) * c).to(kind).to(tl.float32)
    second = (turned.to(kind).to(tl.float32) * s).to(kind).to(tl.float32)
    where = ((batch * heads + head) * places + place) * size + at
    tl.store(out + where, (first + second).to(kind), mask=inside)


@triton.jit
def _norm_rotate_back(  # type: ignore[no-untyped-def]
    slope, by_batch, by_head, by_place, x, weight, cos, sin, back, eps, turn, places, heads, size,
    HEADS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    token, head, at = tl.program_id(0).to(tl.int64), tl.arange(0, HEADS)[:, None], tl.arange(0, BLOCK)[None]
    batch, place = token // places, token % places
    inside, here = (head < heads) & (at < size), at < size
    half = size // 2
    other = tl.where(at < half, at + half, at - half)
    sign = tl.where(at < half, 1.0, -1.0)
    start = slope + batch * by_batch + head * by_head + place * by_place
    turned_by = batch * turn + place * size
    c = tl.load(cos + turned_by + at, mask=here, other=0.0).to(tl.float32)
    s = tl.load(sin + turned_by + other, mask=here, other=0.0).to(tl.float32)
    g = tl.load(start + at, mask=inside, other=0.0).to(tl.float32) * c
    g += tl.load(start + other, mask=inside, other=0.0).to(tl.float32) * s * sign
    g = g * (1.0 + tl.load(weight + at, mask=here, other=0.0).to(tl.float32))
    place_of = token * heads * size + head * size + at
    y = tl.load(x + place_of, mask=inside, other=0.0).to(tl.float32)
    root = tl.rsqrt(tl.sum(y * y, axis=1)[:, None] / size + eps)
    found = root * (g - y * (root * root) * (tl.sum(g * y, axis=1)[:, None] / size))
    tl.store(back + place_of, found.to(back.dtype.element_ty), mask=inside)


@triton.jit
def _gelu(z):  # type: ignore[no-untyped-def]
    """tanh-gelu of z and its slope, in float32."""
    inner = 0.7978845608028654 * (z + 0.044715 * z * z * z)
    t = 2.0 * tl.sigmoid(2.0 * inner) - 1.0
    slope = 0.5 * (1.0 + t) + 0.5 * z * (1.0 - t * t) * 0.7978845608028654 * (1.0 + 0.134145 * z * z)
    return 0.5 * z * (1.0 + t), slope


@triton.jit
def _gelu_times(gate, up, out, count, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    value, _ = _gelu(tl.load(gate + at, mask=inside, other=0.0).to(tl.float32))
    kind = out.dtype.element_ty
    product = value.to(kind).to(tl.float32) * tl.load(up + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + at, product.to(kind), mask=inside)


@triton.jit
def _gelu_times_back(slope, gate, up, back_gate, back_up, count, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    value, rise = _gelu(tl.load(gate + at, mask=inside, other=0.0).to(tl.float32))
    g = tl.load(slope + at, mask=inside, other=0.0).to(tl.float32)
    kind = back_up.dtype.element_ty
    tl.store(back_up + at, (g * value.to(kind).to(tl.float32)).to(kind), mask=inside)
    tl.store(back_gate + at, (g * tl.load(up + at, mask=inside, other=0.0).to(tl.float32) * rise).to(kind), mask=inside)


@triton.jit
def _attend_one(  # type: ignore[no-untyped-def]
    query, keys, values, mask, sums, tops, parts, scale, length, group, size, by_head, splits,
    GROUP: tl.constexpr, KEYS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    head, split = tl.program_id(0), tl.program_id(1)
    at, k, g = tl.arange(0, BLOCK), split * KEYS + tl.arange(0, KEYS), tl.arange(0, GROUP)
    here, there, wanted = at < size, k < length, g < group
    q = tl.load(query + (head * group + g)[:, None] * size + at[None], mask=wanted[:, None] & here[None], other=0.0)
    place = head * by_head + k[:, None] * size + at[None]
    inside = there[:, None] & here[None]
    key = tl.load(keys + place, mask=inside, other=0.0).to(tl.float32)
    allowed = tl.load(mask + k, mask=there, other=-float("inf")).to(tl.float32)
    scores = tl.sum(q.to(tl.float32)[:, None, :] * key[None], axis=2) * scale + allowed[None]  # (GROUP, KEYS)
    top = tl.maximum(tl.max(scores, axis=1), -1e30)
    weights = tl.exp(scores - top[:, None])
    value = tl.load(values + place, mask=inside, other=0.0).to(tl.float32)
    part = tl.sum(weights[:, :, None] * value[None], axis=1)  # (GROUP, BLOCK)
    row = (head * group + g) * splits + split
    tl.store(tops + row, top, mask=wanted)
    tl.store(sums + row, tl.sum(weights, axis=1), mask=wanted)
    tl.store(parts + row[:, None] * size + at[None], part, mask=wanted[:, None] & here[None])


@triton.jit
def _join_parts(sums, tops, parts, out, size, splits, SPLITS: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    head, s, at = tl.program_id(0), tl.arange(0, SPLITS), tl.arange(0, BLOCK)
    there, here = s < splits, at < size
    top = tl.load(tops + head * splits + s, mask=there, other=-1e30)
    share = tl.exp(top - tl.max(top, axis=0))
    total = tl.sum(share * tl.load(sums + head * splits + s, mask=there, other=0.0), axis=0)
    inside = there[:, None] & here[None]
    part = tl.load(parts + (head * splits + s)[:, None] * size + at[None], mask=inside, other=0.0)
    joined = tl.sum(part * share[:, None], axis=0) / total
    tl.store(out + head * size + at, joined.to(out.dtype.element_ty), mask=here)


@triton.jit
def _store_one(  # type: ignore[no-untyped-def]
    query, key, value, queries, keys, values, slot, at, size, kv_heads, by_query, by_key, BLOCK: tl.constexpr
):
    head, d = tl.program_id(0), tl.arange(0, BLOCK)
    here = d < size
    there = queries + head * by_query + tl.load(slot) * size + d
    tl.store(there, tl.load(query + head * size + d, mask=here), mask=here)
    kept = here & (head < kv_heads)
    place = head * by_key + tl.load(at) * size + d
    tl.store(keys + place, tl.load(key + head * size + d, mask=kept), mask=kept)
    tl.store(values + place, tl.load(value + head * size + d, mask=kept), mask=kept)


@triton.jit
def _row_times(x, weights, row, count, size, ROWS: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Rows of weights (count, size) times x (size,), each a sum in float32: (ROWS,)."""
    total = tl.zeros((ROWS, BLOCK), tl.float32)
    start = weights + row.to(tl.int64)[:, None] * size
    for first in range(0, size, BLOCK):
        at = first + tl.arange(0, BLOCK)
        here = at < size
        value = tl.load(x + at, mask=here, other=0.0).to(tl.float32)
        weight = tl.load(start + at[None], mask=(row < count)[:, None] & here[None], other=0.0).to(tl.float32)
        total += weight * value[None]
    return tl.sum(total, axis=1)


@triton.jit
def _times_one(  # type: ignore[no-untyped-def]
    x, first, second, third, out, out_second, out_third, count, count_others, size,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    block, blocks, more = tl.program_id(0), tl.cdiv(count, ROWS), tl.cdiv(count_others, ROWS)
    if block < blocks:
        row = block * ROWS + tl.arange(0, ROWS)
        found = _row_times(x, first, row, count, size, ROWS, BLOCK)
        tl.store(out + row, found.to(out.dtype.element_ty), mask=row < count)
    elif block < blocks + more:
        row = (block - blocks) * ROWS + tl.arange(0, ROWS)
        found = _row_times(x, second, row, count_others, size, ROWS, BLOCK)
        tl.store(out_second + row, found.to(out.dtype.element_ty), mask=row < count_others)
    else:
        row = (block - blocks - more) * ROWS + tl.arange(0, ROWS)
        found = _row_times(x, third, row, count_others, size, ROWS, BLOCK)
        tl.store(out_third + row, found.to(out.dtype.element_ty), mask=row < count_others)


@triton.jit
def _gated_one(x, gate, up, out, count, size, ROWS: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    kind = out.dtype.element_ty
    opened = _row_times(x, gate, row, count, size, ROWS, BLOCK).to(kind).to(tl.float32)
    passed = _row_times(x, up, row, count, size, ROWS, BLOCK).to(kind).to(tl.float32)
    value, _ = _gelu(opened)
    tl.store(out + row, (value.to(kind).to(tl.float32) * passed).to(kind), mask=row < count)


_BLOCK = 1024
_KEYS = 32
#: Of products with one row: rows of weights a program, numbers of them at a time, warps; for `times_one`, `gated_one`.
_TIMES, _GATED = (4, 1024, 2), (1, 512, 2)


def add_norm(residual: Any, x: Any, inner: Any, outer: Any, eps: float) -> Any:
    """As `kernels.add_norm` for contiguous tensors; without x the sum is the residual and is given back empty."""
    size = residual.shape[-1]
    add = x is not None
    out, summed = torch.empty_like(residual), torch.empty_like(residual) if add else residual.new_empty(0)
    _add_norm[(residual.numel() // size,)](
        residual, x if add else residual, inner, outer, summed, out, eps, size,
        ADD=add, BLOCK=triton.next_power_of_2(size), num_warps=8,
    )  # fmt: skip
    return summed, out


def add_norm_back(slope_summed: Any, slope: Any, summed: Any, x: Any, inner: Any, outer: Any, eps: float) -> Any:
    """Gradients in the residual and in x (None where there was none)."""
    size, add = summed.shape[-1], x is not None
    both = add and slope_summed is not None
    back, back_x = torch.empty_like(summed), torch.empty_like(summed) if add else None
    _add_norm_back[(summed.numel() // size,)](
        slope_summed.contiguous() if both else slope, slope, summed, x if add else summed, inner, outer, back,
        back_x if add else back, eps, size, ADD=add, BOTH=both, BLOCK=triton.next_power_of_2(size), num_warps=8,
    )  # fmt: skip
    return back, back_x


def _turn(cos: Any) -> int:
    """Numbers between the rotations of two sequences; none where all are turned alike."""
    return cos[0].numel() if cos.shape[0] > 1 else 0


def norm_rotate(x: Any, weight: Any, eps: float, cos: Any, sin: Any) -> Any:
    batch, places, heads, size = x.shape
    out = x.new_empty(batch, heads, places, size)
    blocks = {"HEADS": triton.next_power_of_2(heads), "BLOCK": triton.next_power_of_2(size)}
    _norm_rotate[(batch * places,)](x, weight, cos, sin, out, eps, _turn(cos), places, heads, size, **blocks)
    return out


def norm_rotate_back(slope: Any, x: Any, weight: Any, eps: float, cos: Any, sin: Any) -> Any:
    batch, places, heads, size = x.shape
    slope = slope if slope.stride(-1) == 1 else slope.contiguous()
    back = torch.empty_like(x)
    blocks = {"HEADS": triton.next_power_of_2(heads), "BLOCK": triton.next_power_of_2(size)}
    _norm_rotate_back[(batch * places,)](
        slope, *slope.stride()[:3], x, weight, cos, sin, back, eps, _turn(cos), places, heads, size, **blocks
    )
    return back


def attend_one(query: Any, keys: Any, values: Any, mask: Any, scale: float) -> Any:
    """query (H, d), keys and values (H_kv, K, d), mask (K,) additive -> (H, d); each part of the keys on its own."""
    heads, (kv_heads, length, size) = query.shape[0], keys.shape
    splits, group = triton.cdiv(length, _KEYS), query.shape[0] // keys.shape[0]
    wide = {"device": query.device, "dtype": torch.float32}
    sums, tops = torch.empty(heads, splits, **wide), torch.empty(heads, splits, **wide)
    parts, out = torch.empty(heads, splits, size, **wide), torch.empty_like(query)
    block = triton.next_power_of_2(size)
    _attend_one[(kv_heads, splits)](
        query, keys, values, mask, sums, tops, parts, scale, length, group, size, keys.stride(0), splits,
        GROUP=triton.next_power_of_2(group), KEYS=_KEYS, BLOCK=block, num_warps=8,
    )  # fmt: skip
    _join_parts[(heads,)](sums, tops, parts, out, size, splits, SPLITS=triton.next_power_of_2(splits), BLOCK=block)
    return out


def store_one(query: Any, key: Any, value: Any, queries: Any, keys: Any, values: Any, slot: Any, at: Any) -> None:
    heads, size = query.shape[0], query.shape[-1]
    _store_one[(heads,)](
        query.contiguous(), key.contiguous(), value.contiguous(), queries, keys, values, slot, at, size, keys.shape[0],
        queries.stride(0), keys.stride(0), BLOCK=triton.next_power_of_2(size), num_warps=2,
    )  # fmt: skip


def gelu_times(gate: Any, up: Any) -> Any:
    out = torch.empty_like(gate)
    _gelu_times[(triton.cdiv(gate.numel(), _BLOCK),)](gate, up, out, gate.numel(), BLOCK=_BLOCK)
    return out


def gelu_times_back(slope: Any, gate: Any, up: Any) -> Any:
    back_gate, back_up = torch.empty_like(gate), torch.empty_like(up)
    _gelu_times_back[(triton.cdiv(gate.numel(), _BLOCK),)](
        slope, gate, up, back_gate, back_up, gate.numel(), BLOCK=_BLOCK
    )
    return back_gate, back_up


def times_one(x: Any, weights: Sequence[Any]) -> tuple[Any, ...]:
    """x (size,) times one weight (count, size), or three of which the last two are of one shape: (count,) each."""
    rows, wide, warps = _TIMES
    first, second, third = weights if len(weights) == 3 else (*weights, *weights, *weights)
    (count, size), others = first.shape, second.shape[0] if len(weights) == 3 else 0
    out = [x.new_empty(weight.shape[0]) for weight in weights]
    programs = triton.cdiv(count, rows) + 2 * triton.cdiv(others, rows)
    _times_one[(programs,)](
        x, first, second, third, *(out if len(out) == 3 else out * 3), count, others, size,
        ROWS=rows, BLOCK=wide, num_warps=warps,
    )  # fmt: skip
    return tuple(out)


def gated_one(x: Any, gate: Any, up: Any) -> Any:
    """gelu(gate · x) · (up · x) of x (size,), gate and up (count, size): (count,)."""
    rows, wide, warps = _GATED
    out = x.new_empty(gate.shape[0])
    programs = triton.cdiv(gate.shape[0], rows)
    _gated_one[(programs,)](x, gate, up, out, *gate.shape, ROWS=rows, BLOCK=wide, num_warps=warps)
    return out
