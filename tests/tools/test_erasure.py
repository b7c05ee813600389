"""What training takes from a film is what the checks take, and what it teaches about the rest is true."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import erasure
import evaluate
import train
from medgemma_visualizer.checks.imputers import imputer
from medgemma_visualizer.data.photo import picture
from medgemma_visualizer.models.reading import Reading, read
from medgemma_visualizer.scores.body import body_mask

CHANNELS = train.CHANNELS


def film(**cells: tuple[slice, slice]) -> np.ndarray:
    """(channels, 16, 16): wholly covered where a channel's slices say so."""
    made = np.zeros((len(CHANNELS), 16, 16), np.float32)
    for name, place in cells.items():
        made[CHANNELS.index(name)][place] = 1
    return made


ROW = film(pneumonia_left=(slice(3, 4), slice(0, 10)))  # ten cells


@pytest.mark.parametrize(
    ("removed", "there", "doubtful"), [(0, True, False), (5, True, False), (6, False, True), (9, False, False)]
)
def test_half_of_the_evidence_suffices_and_a_tenth_is_nothing(removed: int, there: bool, doubtful: bool) -> None:
    gone = np.zeros((16, 16), bool)
    gone[3, :removed] = True
    seen, doubt = erasure.in_sight(ROW, gone)
    channel = CHANNELS.index("pneumonia_left")
    assert (bool(seen[channel]), bool(doubt[channel])) == (there, doubtful)
    assert seen.sum() <= 1  # what is not on the film is not there


def test_a_side_goes_with_its_evidence_and_the_other_stays() -> None:
    about = {"findings": {"pneumonia": "both", "cardiomegaly": "middle"}, "marks": ["L", "arrow"]}
    there = dict.fromkeys(CHANNELS, True) | {"pneumonia_left": False, "arrow": False}
    assert erasure.still_true(about, there) == {
        "findings": {"pneumonia": "right", "cardiomegaly": "middle"},
        "marks": ["L"],
    }
    assert erasure.still_true(about, dict.fromkeys(CHANNELS, False)) == {"findings": {}, "marks": []}
    assert erasure.still_true(about, dict.fromkeys(CHANNELS, True)) == about


def test_no_shape_leaves_anything_in_doubt() -> None:
    rng = np.random.default_rng(0)
    other = film(cardiomegaly=(slice(8, 13), slice(5, 12)), L=(slice(1, 2), slice(14, 15)))
    drawn = [erasure.draw(rng, ROW, other) for _ in range(300)]
    shapes = [gone for gone in drawn if gone is not None]
    assert len(shapes) > 200
    assert not any(erasure.in_sight(cells, gone)[1].any() for gone in shapes for cells in (ROW, other))
    shares = np.array([gone.mean() for gone in shapes])
    assert (shares == 1).mean() > 0.05
    assert (shares < 0.3).mean() > 0.1
    outcomes = {bool(erasure.in_sight(ROW, gone)[0].any()) for gone in shapes}
    assert outcomes == {True, False}


def test_a_batch_tells_the_truth_of_what_is_left_and_spares_the_rest() -> None:
    about = [{"findings": {"pneumonia": "left"}, "marks": []}]
    eraser = erasure.Eraser(np.uint8(255 * ROW)[None], CHANNELS, 0.5)
    facts, drawn = eraser(np.random.default_rng(1), np.zeros(200, int), about)
    spared = drawn["stand_in"] < 0
    assert 0.4 < spared.float().mean() < 0.7
    assert not drawn["gone"][spared].any()
    left = 10 - drawn["gone"][:, 3, :10].sum(1)
    for fact, cells in zip(facts, left.tolist(), strict=True):
        assert fact["findings"] == ({"pneumonia": "left"} if cells >= 5 else {})
    assert {cells for cells in left.tolist()} & {0, 10} == {0, 10}
    assert not {2, 3, 4} & set(left.tolist())


# --- stand-ins -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reading(demo: Any, cases: Any) -> Reading:
    return read(demo, picture(cases[0]), "Is there a pleural effusion?")


@pytest.fixture(scope="module")
def holes() -> np.ndarray:
    """Some cells, most cells, all cells."""
    masks = np.random.default_rng(2).random((3, 16, 16)) < np.array([0.2, 0.8, 2.0])[:, None, None]
    masks[0, 4:8, 4:8] = True
    return masks


@pytest.mark.parametrize(("name", "most"), [("gray", 1e-6), ("blur", 1e-4), ("mean", 0.02), ("noisy_linear", 0.06)])
def test_training_puts_in_what_the_checks_put_in(reading: Reading, holes: np.ndarray, name: str, most: float) -> None:
    """To rounding; the mean to the precision of cells; interpolation to a few grey levels of 255, noise included."""
    pictures = reading.pixel_values.expand(3, -1, -1, -1)
    body = erasure.covered(body_mask(pictures[0].mean(0).numpy()))
    gone = torch.from_numpy(holes)
    ours = erasure.erased(name, pictures, gone, torch.from_numpy(body).expand(3, -1, -1))
    where = erasure.over_pixels(gone, pictures)
    theirs = torch.where(where, imputer(reading, name)(holes), pictures)
    assert torch.equal(ours[~where.expand_as(ours)], pictures[~where.expand_as(ours)])
    for one, other, hole in zip(ours, theirs, where, strict=True):
        off = (one - other)[hole.expand_as(one)]
        assert off.square().mean().sqrt() < most


def test_tokens_that_are_gone_are_replaced_and_no_others(reading: Reading, holes: np.ndarray) -> None:
    core, pictures = reading.model.hf.model, reading.pixel_values.expand(3, -1, -1, -1)
    batch = {
        "gone": torch.from_numpy(holes),
        "stand_in": torch.tensor(
            [erasure.STAND_INS.index(name) for name in ("tokens: own mean", "tokens: zero", "gray")]
        ),
    }
    with torch.no_grad():
        tokens, features = erasure.seen(core, pictures, batch, torch.ones(3, 16, 16))
        gray = core.get_image_features(erasure.gray(pictures[:1], batch["gone"], batch["gone"])).pooler_output
    own, gone = reading.image_tokens[0], batch["gone"].flatten(1)
    assert torch.allclose(tokens[0][~gone[0]], own[~gone[0]], atol=1e-4)
    assert torch.allclose(tokens[0][gone[0]], own.mean(0).expand(int(gone[0].sum()), -1), atol=1e-4)
    assert torch.equal(tokens[1][gone[1]], torch.zeros_like(tokens[1][gone[1]]))
    assert torch.allclose(tokens[2], gray[0], atol=1e-4)  # a picture that is gray all over
    assert features.shape[:2] == (3, 256)


def test_a_tower_is_not_to_see_what_its_picture_lacks() -> None:
    cells = torch.from_numpy(ROW)[None].expand(2, -1, -1, -1)
    gone = torch.zeros(2, 16, 16, dtype=torch.bool)
    gone[:, 3, :9] = True
    there = torch.from_numpy(erasure.in_sight(ROW, gone[0].numpy())[0])[None].expand(2, -1)
    codes = torch.tensor([erasure.STAND_INS.index(name) for name in ("blur", "tokens: own mean")])
    left = erasure.still_covered(cells, {"gone": gone, "there": there, "stand_in": codes})
    assert left[0].sum() == 0  # nine of ten cells gone: the tenth is no evidence
    assert torch.equal(left[1], cells[1])  # the picture itself was whole


# --- judging ---------------------------------------------------------------------------------------------------------


def test_a_film_is_judged_without_its_evidence_and_without_as_many_other_cells() -> None:
    evidence = np.zeros((16, 16), np.float32)
    evidence[2:5, 3:9] = 0.25
    shown = evaluate.Film(np.zeros((512, 512), np.uint8), {"pneumonia": "left"}, {}, {"pneumonia": evidence})
    without, control = evaluate._without(shown, "pneumonia", 7)
    assert (without.truth, control.truth) == ("no", "yes")
    assert np.array_equal(without.gone, evidence > 0)
    assert control.gone.sum() == 18
    assert not (control.gone & without.gone).any()
    everywhere = evaluate.Film(shown.image, {}, {}, {"pneumonia": np.ones((16, 16), np.float32)})
    assert not list(evaluate._without(everywhere, "pneumonia", 7))


def test_mean_tokens_hold_within_the_block_only(demo: Any, cases: Any) -> None:
    films = [evaluate.Film(np.asarray(picture(cases[0]).convert("L")), {}, {})]
    from medgemma_visualizer.models.loading import demo_folder

    examinee = evaluate.Examinee(demo_folder(), films, torch.device("cpu"), torch.float32)
    core = examinee.model.model
    with torch.no_grad():
        before = core.get_image_features(examinee.pixels).pooler_output
        with evaluate.mean_tokens(examinee.model, torch.ones(1, 16, 16, dtype=torch.bool)):
            within = core.get_image_features(examinee.pixels).pooler_output
        after = core.get_image_features(examinee.pixels).pooler_output
    assert torch.equal(before, after)
    assert torch.allclose(within, before.mean(1, keepdim=True).expand_as(before), atol=1e-6)
