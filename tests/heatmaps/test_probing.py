"""Altered images are scored one by one, whatever batch they travel in, and nothing lent is changed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medgemma_visualizer.errors import InputError, UnavailableError, VisualizerError
from medgemma_visualizer.heatmaps import probing
from medgemma_visualizer.heatmaps.targets import resolve, score_tokens
from medgemma_visualizer.models.forward import image_tokens
from medgemma_visualizer.progress import listening
from tests.conftest import state_of
from tests.heatmaps.conftest import read_tiny, tiny_model


def _masks(grid: tuple[int, int], n: int = 7, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((n, *grid)) < 0.4


@pytest.mark.parametrize("space", ["tokens", "pixels"])
def test_a_score_is_that_of_the_altered_image_alone(tiny_reading: Any, space: Any) -> None:
    aim, masks = resolve(tiny_reading, "contrast"), _masks(tiny_reading.model.grid)
    scores = probing.score_masks(tiny_reading, aim, masks, space=space)
    before, after = probing.original(tiny_reading, space), probing.baseline_for(tiny_reading, space)
    for mask, score in zip(masks, scores, strict=True):
        altered = before.clone()
        side = before.shape[-1] // tiny_reading.model.grid[1]
        for row, col in np.argwhere(mask):
            if space == "tokens":
                cell = row * mask.shape[1] + col
                altered[:, cell] = after[:, cell]
            else:
                box = (..., slice(row * side, (row + 1) * side), slice(col * side, (col + 1) * side))
                altered[box] = after[box]
        with torch.no_grad():
            tokens = altered if space == "tokens" else image_tokens(tiny_reading.model, altered)
            expected = float(score_tokens(tiny_reading, aim, tokens)[0])
        assert score == pytest.approx(expected, abs=1e-5)


def test_the_contents_of_batch_mates_never_change_a_score(small_reading: Any) -> None:
    aim, masks = resolve(small_reading, "contrast"), _masks(small_reading.model.grid, 6)
    others = np.concatenate([masks[:1], ~masks[1:]])
    together = probing.score_masks(small_reading, aim, masks, batch=6)
    among_others = probing.score_masks(small_reading, aim, others, batch=6)
    assert together[0] == among_others[0]


@pytest.mark.parametrize("batch", [1, 2, 4, 7, 100])
def test_the_size_of_the_batch_never_changes_a_score(small_reading: Any, batch: int) -> None:
    aim, masks = resolve(small_reading, "contrast"), _masks(small_reading.model.grid)
    expected = probing.score_masks(small_reading, aim, masks)
    np.testing.assert_allclose(probing.score_masks(small_reading, aim, masks, batch=batch), expected, atol=2e-6)


def test_nothing_masked_is_the_image_and_everything_masked_is_the_baseline(small_reading: Any) -> None:
    aim, grid = resolve(small_reading, "contrast"), small_reading.model.grid
    none, all_of_it = probing.score_masks(small_reading, aim, np.stack([np.zeros(grid), np.ones(grid)]))
    with torch.no_grad():
        assert none == pytest.approx(float(score_tokens(small_reading, aim, small_reading.image_tokens)), abs=1e-5)
        mean = small_reading.image_tokens.mean(1, keepdim=True).expand_as(small_reading.image_tokens)
        assert all_of_it == pytest.approx(float(score_tokens(small_reading, aim, mean)), abs=1e-5)


@pytest.mark.parametrize(("space", "name"), [(s, n) for s, table in probing.BASELINES.items() for n in table])
def test_every_baseline_has_the_shape_of_what_it_replaces(small_reading: Any, space: Any, name: str) -> None:
    baseline = probing.baseline_for(small_reading, space, name)
    assert baseline.shape == probing.original(small_reading, space).shape
    assert not torch.equal(baseline, probing.original(small_reading, space))


def test_gray_is_128_of_255_after_normalisation(small_reading: Any) -> None:
    gray = probing.baseline_for(small_reading, "pixels", "gray")
    torch.testing.assert_close(gray, torch.full_like(gray, (128 / 255 - 0.5) / 0.5))


def test_a_blur_keeps_the_mean_and_lowers_the_contrast(small_reading: Any) -> None:
    blurred = probing.baseline_for(small_reading, "pixels", "blur")
    assert blurred.mean() == pytest.approx(float(small_reading.pixel_values.mean()), abs=0.02)
    assert blurred.std() < 0.3 * small_reading.pixel_values.std()


def test_what_is_lent_is_never_written(small_reading: Any) -> None:
    aim, masks = resolve(small_reading, "contrast"), _masks(small_reading.model.grid)
    baseline = torch.randn_like(small_reading.image_tokens)
    lent = [small_reading.image_tokens, small_reading.pixel_values, baseline]
    copies, mask_copy, before = [t.clone() for t in lent], masks.copy(), state_of(small_reading.model.hf)
    probing.score_masks(small_reading, aim, masks, baseline=baseline)
    probing.score_masks(small_reading, aim, masks, space="pixels")
    assert all(torch.equal(a, b) for a, b in zip(lent, copies, strict=True))
    assert (masks == mask_copy).all()
    assert state_of(small_reading.model.hf) == before


def test_no_gradient_is_kept(small_reading: Any) -> None:
    masks = _masks(small_reading.model.grid)
    logits = probing.masked_logits(small_reading, resolve(small_reading, "contrast"), masks)
    assert not any(chunk.requires_grad for chunk in logits)


def test_progress_is_one_bar_over_all_probes(small_reading: Any) -> None:
    seen: list[tuple[int, int, str]] = []
    with listening(lambda *now: seen.append(now)):
        probing.score_masks(small_reading, resolve(small_reading, "contrast"), _masks((4, 4)), batch=3, what="windows")
    assert seen == [(0, 7, "windows"), (3, 7, "windows"), (6, 7, "windows"), (7, 7, "windows")]


def test_no_probe_gives_no_score(small_reading: Any) -> None:
    assert probing.score_masks(small_reading, resolve(small_reading, "contrast"), _masks((4, 4), 0)).shape == (0,)


def test_unusable_requests_are_refused(small_reading: Any) -> None:
    aim, masks = resolve(small_reading, "contrast"), _masks((4, 4))
    with pytest.raises(InputError, match=r"Unknown space 'pixel'\. Did you mean 'pixels'"):
        probing.score_masks(small_reading, aim, masks, space="pixel")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="Unknown baseline in tokens space 'gray'"):
        probing.score_masks(small_reading, aim, masks, baseline="gray")
    with pytest.raises(ValueError, match="wanted is"):
        probing.score_masks(small_reading, aim, masks[:, :3])
    with pytest.raises(ValueError, match="wanted is"):
        probing.score_masks(small_reading, aim, masks, baseline=torch.zeros(1, 2, 3))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int64])
def test_a_baseline_of_another_number_format_is_the_same_baseline(small_reading: Any, dtype: torch.dtype) -> None:
    aim, masks = resolve(small_reading, "contrast"), _masks((4, 4))
    ones = torch.ones(small_reading.image_tokens.shape)
    given = ones.to(dtype) if dtype == torch.int64 else ones.to(dtype).requires_grad_()
    expected = probing.score_masks(small_reading, aim, masks, baseline=ones)
    np.testing.assert_array_equal(probing.score_masks(small_reading, aim, masks, baseline=given), expected)
    assert not probing.baseline_for(small_reading, "tokens", given).requires_grad


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1j])
def test_a_baseline_of_no_finite_real_numbers_is_refused(small_reading: Any, value: complex) -> None:
    with pytest.raises(InputError, match="no finite real numbers"):
        probing.baseline_for(small_reading, "tokens", torch.full(small_reading.image_tokens.shape, value))


def test_a_target_function_must_give_one_finite_number_for_each_image(small_reading: Any) -> None:
    masks = _masks((4, 4))
    with pytest.raises(InputError, match="one number for each"):
        probing.score_masks(small_reading, resolve(small_reading, lambda logits: logits.sum()), masks)
    with pytest.raises(VisualizerError, match="not finite"):
        probing.score_masks(small_reading, resolve(small_reading, lambda logits: logits[:, 0, 0] / 0), masks)


def test_a_picture_of_broken_cells_is_refused_in_pixel_space(small_reading: Any) -> None:
    small_reading.__dict__["pixel_values"] = torch.zeros(1, 3, 57, 57)
    with pytest.raises(UnavailableError, match="does not divide"):
        probing.score_masks(small_reading, resolve(small_reading, lambda z: z[:, 0, 0]), _masks((4, 4)), space="pixels")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("method", ["occlusion", "rise", "region_search", "shapley", "attention_knockout"])
def test_rows_that_precede_the_image_have_no_map_of_rounding_errors(method: str, dtype: torch.dtype) -> None:
    from dataclasses import replace

    from medgemma_visualizer.heatmaps import METHODS

    model = tiny_model()
    model.hf.to(dtype)
    reading = read_tiny(model, image_first=False)
    aim = resolve(reading, lambda logits: logits[:, 0, 7] - logits[:, 0, 8])
    before_the_image = replace(aim, target=replace(aim.target, rows=(2,)))
    with pytest.raises(UnavailableError, match="changes the score"):
        METHODS[method].compute(reading, before_the_image)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(1, 9))
def test_windows_cover_every_cell(rows: int, cols: int, size: int, stride: int) -> None:
    if not stride <= size <= min(rows, cols):
        with pytest.raises(InputError, match="does not fit the grid"):
            probing.windows((rows, cols), size, stride)
        return
    masks = probing.windows((rows, cols), size, stride)
    assert masks.any(axis=0).all()
    assert masks[0, :size, :size].all()
    assert masks[0].sum() == size * size


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 8))
def test_regions_share_the_grid_without_overlap(rows: int, cols: int, per_side: int) -> None:
    masks = probing.regions((rows, cols), per_side)
    assert (masks.sum(axis=0) == 1).all()
    assert len(masks) <= per_side**2
    assert masks.any(axis=(1, 2)).all()


def test_sixteen_by_sixteen_tokens_are_sixty_four_regions_of_two_by_two() -> None:
    masks = probing.regions((16, 16), 8)
    assert masks.shape == (64, 16, 16)
    assert (masks.sum(axis=(1, 2)) == 4).all()
    assert masks[9, 2:4, 2:4].all()


def test_a_cells_value_is_the_mean_over_the_windows_that_cover_it() -> None:
    masks = np.array([[[True, True, False]], [[False, True, True]]])
    np.testing.assert_allclose(probing.mean_over_masks(np.array([1.0, 3.0]), masks), [[1, 2, 3]])
