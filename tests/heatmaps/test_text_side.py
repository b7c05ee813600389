"""Words and picture are weighed on one scale."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients, LayerGradientXActivation

from medgemma_visualizer.errors import InputError, UnavailableError
from medgemma_visualizer.heatmaps import METHODS, text_gradients
from medgemma_visualizer.heatmaps.gradients import Activation, with_tokens
from medgemma_visualizer.heatmaps.probing import baseline_for
from medgemma_visualizer.heatmaps.smoothgrad import smoothgrad
from medgemma_visualizer.heatmaps.targets import resolve, score_tokens
from medgemma_visualizer.heatmaps.text_gradients import BY_GRADIENT, embedded, scored
from medgemma_visualizer.heatmaps.text_side import TEXT_METHODS, TextSide, explain_words, text_side
from medgemma_visualizer.models.knockout import knockout
from tests.conftest import state_of
from tests.heatmaps.conftest import GLOBAL, read_tiny, tiny_model
from tests.heatmaps.gradient_oracles import score_of_pixels

#: Options that make an expensive method cheap.
CHEAP: dict[str, dict[str, Any]] = {"integrated_gradients": {"steps": 2}, "smoothgrad": {"samples": 2}}

#: Methods that take one gradient at picture and question as they are, so that the picture's numbers are its map's.
ONE_GRADIENT = ("token_gradient", "gradient_norm", "hires_cam")


def of(reading: Any, method: str, target: Any = "contrast") -> TextSide:
    return text_side(reading, resolve(reading, target), method, **CHEAP.get(method, {}))


def test_every_gradient_method_occlusion_and_knockout_have_numbers_for_words() -> None:
    by_gradient = {name for name, entry in METHODS.items() if entry.needs == "gradient"}
    assert set(TEXT_METHODS) == by_gradient | {"occlusion", "attention_knockout"}


@pytest.mark.parametrize("method", TEXT_METHODS)
def test_every_method_weighs_each_word_and_both_sides(tiny_reading: Any, method: str) -> None:
    side = of(tiny_reading, method, "answer")
    assert [word.id for word in side.words] == [20, 21, 22, 23]
    assert side.values.shape == (4,)
    assert side.image_share == pytest.approx(abs(side.image_effect) / (abs(side.image_effect) + abs(side.words_effect)))
    assert side.signed == METHODS[method].signed
    assert side.signed or min(*side.values, side.image_effect) >= 0
    if method not in ("occlusion", "attention_knockout"):
        assert side.values.sum() == pytest.approx(side.words_effect, abs=1e-4)


@pytest.mark.parametrize("method", [name for name in TEXT_METHODS if not name.startswith("gradcam")])
def test_words_after_the_row_that_is_read_weigh_nothing(small_reading: Any, method: str) -> None:
    """Grad-CAM is left out: it credits a word for what its channels do elsewhere, as docs/methods.md says."""
    side = of(small_reading, method, "word:w22")  # predicted at w21, before w22 and w23
    assert np.all(side.values[2:] == 0)
    assert side.values[0] != 0


def test_score_and_prior_are_the_image_and_the_mean_token(small_reading: Any) -> None:
    aim = resolve(small_reading, "contrast")
    side = text_side(small_reading, aim)
    with torch.no_grad():
        assert side.score == pytest.approx(
            float(score_tokens(small_reading, aim, small_reading.image_tokens)), abs=1e-5
        )
        mean = baseline_for(small_reading, "tokens", "mean")
        assert side.prior == pytest.approx(float(score_tokens(small_reading, aim, mean)), abs=1e-5)
    assert side.image_effect == pytest.approx(side.score - side.prior, abs=1e-5)


def test_a_words_occlusion_is_the_score_it_takes_away(small_reading: Any) -> None:
    aim = resolve(small_reading, "contrast")
    inside = embedded(small_reading, aim)
    altered = inside.values.clone()
    position = small_reading.prompt.question_positions[2]
    altered[:, position] = inside.baseline[:, position]
    with torch.no_grad():
        lost = scored(small_reading, aim, inside.values) - scored(small_reading, aim, altered)
    assert text_side(small_reading, aim).values[2] == pytest.approx(float(lost), abs=1e-5)


def test_knockout_cuts_words_in_the_layers_asked_for(small_reading: Any) -> None:
    aim = resolve(small_reading, "contrast")
    ids = small_reading.ids()
    cut = torch.zeros(1, len(ids), dtype=torch.bool)
    cut[0, small_reading.prompt.question_positions[1]] = True
    with torch.no_grad():
        before = float(score_tokens(small_reading, aim, small_reading.image_tokens))
        with knockout(small_reading.model, aim.rows, cut, [1]):
            after = float(score_tokens(small_reading, aim, small_reading.image_tokens))
    side = text_side(small_reading, aim, "attention_knockout", layers=[1])
    assert side.values[1] == pytest.approx(before - after, abs=1e-5)
    with pytest.raises(InputError, match="no layer 7"):
        text_side(small_reading, aim, "attention_knockout", layers=[7])


def test_the_baseline_word_is_the_mean_of_the_embeddings_as_the_model_scales_them(small_reading: Any) -> None:
    table = small_reading.model.text.get_input_embeddings()
    expected = table(torch.arange(600)).mean(0)
    inside = embedded(small_reading, resolve(small_reading, "contrast"))
    torch.testing.assert_close(
        inside.baseline[0, small_reading.prompt.question_positions[0]], expected, atol=1e-5, rtol=1e-4
    )


@pytest.fixture(params=["contrast", "answer"])
def captums(request: pytest.FixtureRequest, tiny_reading: Any) -> tuple[Any, Any, torch.Tensor, torch.Tensor]:
    """Reading, target, and captum's activation and gradient (N + W, D) from the library's own forward from pixels."""
    aim = resolve(tiny_reading, request.param)
    model, words = tiny_reading.model, list(tiny_reading.prompt.question_positions)
    pixels, score = tiny_reading.pixel_values.clone().requires_grad_(), score_of_pixels(tiny_reading, aim)
    sides = []
    for layer, chosen in ((model.projector, slice(None)), (model.text.get_input_embeddings(), words)):
        plain = LayerGradientXActivation(score, layer, multiply_by_inputs=False).attribute(pixels)
        times = LayerGradientXActivation(score, layer).attribute(pixels)
        sides.append((plain[0].detach()[chosen], times[0].detach()[chosen]))
    gradient, product = (torch.cat(parts) for parts in zip(*sides, strict=True))
    return tiny_reading, aim, gradient, product


def assert_both_sides(side: TextSide, expected: torch.Tensor) -> None:
    """Numbers (N + W,), image tokens first, as a text side tells them."""
    words = len(side.words)
    np.testing.assert_allclose(side.values, expected[-words:].numpy(), atol=2e-6)
    assert side.image_effect == pytest.approx(float(expected[:-words].sum()), abs=2e-5)
    assert side.words_effect == pytest.approx(float(expected[-words:].sum()), abs=2e-5)


def test_hires_cam_is_captums_gradient_times_activation_at_words_and_picture(captums: Any) -> None:
    reading, aim, _, product = captums
    assert_both_sides(text_side(reading, aim, "hires_cam"), product.sum(-1))


def test_gradient_norm_is_the_length_of_captums_gradient(captums: Any) -> None:
    reading, aim, gradient, _ = captums
    assert_both_sides(text_side(reading, aim, "gradient_norm"), gradient.norm(dim=-1))


def test_token_gradient_is_captums_gradient_times_the_difference_from_nothing(captums: Any) -> None:
    reading, aim, gradient, _ = captums
    table = reading.model.text.get_input_embeddings()
    words = table(reading.ids()[list(reading.prompt.question_positions)]) - table(torch.arange(600)).mean(0)
    image = (reading.image_tokens - reading.image_tokens.mean(1, keepdim=True))[0]
    assert_both_sides(text_side(reading, aim, "token_gradient"), (torch.cat([image, words]) * gradient).sum(-1))


def test_grad_cam_pools_captums_gradient_over_picture_and_words_together(captums: Any) -> None:
    reading, aim, gradient, _ = captums
    words = reading.model.text.get_input_embeddings()(reading.ids()[list(reading.prompt.question_positions)])
    both = torch.cat([reading.image_tokens[0], words])
    expected = (both * gradient.mean(0)).sum(-1).clamp(min=0)
    assert expected.any()
    assert_both_sides(text_side(reading, aim, "gradcam_multi_token"), expected)


HANDMADE = Activation(
    values=torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0], [-1.0, 0.0]]),  # two image tokens, two words
    gradient=torch.tensor([[4.0, 0.0], [0.0, 0.0], [0.0, 3.0], [0.0, 1.0]]),  # mean: (1, 1)
    grid=(1, 4),
)

#: By hand, of HANDMADE.
BY_HAND = {
    "gradcam_multi_token": [1, 2, 2, 0],
    "hires_cam": [4, 0, 3, 0],
    "gradient_norm": [4, 0, 3, 1],
}


@pytest.mark.parametrize("method", BY_HAND)
def test_by_hand(small_reading: Any, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_gradients, "gradient_of", lambda *_: HANDMADE)
    assert BY_GRADIENT[method](small_reading, resolve(small_reading, "contrast")).tolist() == BY_HAND[method]


def test_for_a_target_of_one_row_both_grad_cams_are_one_and_else_not(small_reading: Any) -> None:
    one = [of(small_reading, name).values for name in ("gradcam_single", "gradcam_multi_token")]
    np.testing.assert_array_equal(*one)
    several = [of(small_reading, name, "answer").image_effect for name in ("gradcam_single", "gradcam_multi_token")]
    assert several[0] != several[1]
    first = of(small_reading, "gradcam_multi_token", "token:0")
    n = len(small_reading.generated.ids)
    np.testing.assert_allclose(of(small_reading, "gradcam_single", "answer").values * n, first.values, atol=1e-5)


@pytest.mark.parametrize("method", ONE_GRADIENT)
@pytest.mark.parametrize("target", ["contrast", "answer"])
def test_what_the_picture_weighs_is_the_sum_of_its_map(tiny_reading: Any, method: str, target: str) -> None:
    raw = METHODS[method].compute(tiny_reading, resolve(tiny_reading, target))
    assert of(tiny_reading, method, target).image_effect == pytest.approx(float(raw.values.sum()), abs=2e-5)


@pytest.mark.parametrize("target", ["answer", "word:w23"])
def test_relevance_tells_the_numbers_that_its_map_carries(tiny_reading: Any, target: str) -> None:
    raw = METHODS["relevance"].compute(tiny_reading, resolve(tiny_reading, target))
    side = of(tiny_reading, "relevance", target)
    np.testing.assert_allclose(side.values, raw.extras["question_relevance"], atol=1e-6)
    assert side.image_effect == pytest.approx(float(raw.values.sum()), abs=1e-5)
    assert side.image_share == pytest.approx(raw.extras["image_share"], abs=1e-5)


def test_integrated_gradients_are_captums_over_words_and_picture_at_once(tiny_reading: Any) -> None:
    aim = resolve(tiny_reading, "contrast")
    ids, words = tiny_reading.ids(), list(tiny_reading.prompt.question_positions)
    at_image = ids == tiny_reading.model.image_token_id
    table = tiny_reading.model.text.get_input_embeddings()
    around = table(ids.masked_fill(at_image, 0))[None]

    def score(image: torch.Tensor, asked: torch.Tensor) -> torch.Tensor:
        embeds = around.expand(len(image), -1, -1).clone()
        embeds[:, at_image], embeds[:, words] = image, asked
        kinds = at_image.long().expand(len(image), -1)
        out = tiny_reading.model.hf(inputs_embeds=embeds, token_type_ids=kinds, use_cache=False)
        return aim.score(out.logits[:, list(aim.rows)].float())

    tokens = tiny_reading.image_tokens
    nothing = tokens.mean(1, keepdim=True).expand_as(tokens), table(torch.arange(600)).mean(0).expand(1, len(words), -1)
    oracle = IntegratedGradients(score)
    image, asked = oracle.attribute(
        (tokens, around[:, words]), baselines=nothing, n_steps=16, method="gausslegendre"
    )  # (1, N, D), (1, W, D)
    side = text_side(tiny_reading, aim, "integrated_gradients", steps=16)
    np.testing.assert_allclose(side.values, asked[0].sum(-1).numpy(), atol=1e-4)
    assert side.image_effect == pytest.approx(float(image.sum()), abs=2e-4)


def test_integrated_gradients_of_both_sides_add_up_to_the_whole_difference(small_reading: Any) -> None:
    aim = resolve(small_reading, "contrast")
    side = text_side(small_reading, aim, "integrated_gradients")
    inside = embedded(small_reading, aim)
    nothing = inside.values.clone()
    nothing[:, inside.positions] = inside.baseline[:, inside.positions]
    with torch.no_grad():
        whole = float(scored(small_reading, aim, inside.values) - scored(small_reading, aim, nothing))
    assert side.image_effect + side.words_effect == pytest.approx(whole, abs=0.01 * abs(whole))


def test_integrated_gradients_that_do_not_add_up_are_refused(
    small_reading: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medgemma_visualizer.heatmaps import integrated_gradients

    monkeypatch.setattr(integrated_gradients, "STEPS", (1,))
    with pytest.raises(UnavailableError, match="miss completeness"):
        text_side(small_reading, resolve(small_reading, "contrast"), "integrated_gradients")


def test_the_gradient_is_the_slope_along_each_words_embedding(small_reading: Any) -> None:
    aim, step = resolve(small_reading, "contrast"), 1e-2
    inside = embedded(small_reading, aim)
    position = small_reading.prompt.question_positions[1]
    ends = []
    for sign in (1, -1):
        moved = inside.values.clone()
        moved[:, position] += sign * step * (inside.values - inside.baseline)[:, position]
        with torch.no_grad():
            ends.append(float(scored(small_reading, aim, moved)))
    slope = (ends[0] - ends[1]) / (2 * step)
    assert text_side(small_reading, aim, "token_gradient").values[1] == pytest.approx(slope, abs=5e-3)


def test_smoothgrad_is_the_mean_over_noise_on_words_and_image_tokens(small_reading: Any) -> None:
    aim, samples = resolve(small_reading, "contrast"), 3
    ids, words = small_reading.ids(), list(small_reading.prompt.question_positions)
    table, tokens = small_reading.model.text.get_input_embeddings(), small_reading.image_tokens[0]
    asked, n = table(ids[words]), len(tokens)
    vocabulary = table(torch.arange(600)).mean(0)
    spread = [
        float((side - mean).pow(2).mean().sqrt()) for side, mean in ((tokens, tokens.mean(0)), (asked, vocabulary))
    ]
    generator = torch.Generator().manual_seed(7)
    clean, total = embedded(small_reading, aim).values, torch.zeros(n + len(words))
    for _ in range(samples):
        noise = torch.randn(n + len(words), tokens.shape[1], generator=generator)
        image, words_now = tokens + 0.15 * spread[0] * noise[:n], asked + 0.15 * spread[1] * noise[n:]
        moved = clean.clone()
        moved[0, list(small_reading.prompt.image_positions)], moved[0, words] = image, words_now
        moved.requires_grad_()
        (slope,) = torch.autograd.grad(scored(small_reading, aim, moved).sum(), moved)
        change = torch.cat([image - image.mean(0), words_now - vocabulary])
        total += (change * slope[0, [*small_reading.prompt.image_positions, *words]]).sum(-1)
    side = text_side(small_reading, aim, "smoothgrad", samples=samples, seed=7)
    assert_both_sides(side, total / samples)


def test_the_noise_on_the_picture_is_as_wide_as_that_of_its_map(small_reading: Any) -> None:
    raw = smoothgrad(small_reading, resolve(small_reading, "contrast"), samples=1)
    inside = embedded(small_reading, resolve(small_reading, "contrast"))
    n = len(small_reading.prompt.image_positions)
    assert 0.15 * float(inside.change[:n].square().mean().sqrt()) == pytest.approx(raw.extras["sigma"], rel=1e-5)


def test_without_noise_worth_the_name_smoothgrad_is_the_gradient(small_reading: Any) -> None:
    aim = resolve(small_reading, "contrast")
    smooth = text_side(small_reading, aim, "smoothgrad", samples=2, noise=1e-6)
    plain = text_side(small_reading, aim, "token_gradient")
    np.testing.assert_allclose(smooth.values, plain.values, atol=1e-4)
    assert smooth.image_share == pytest.approx(plain.image_share, abs=1e-3)
    with pytest.raises(InputError, match="samples ≥ 1"):
        text_side(small_reading, aim, "smoothgrad", samples=0)


def test_a_picture_that_is_never_read_has_no_share(small_reading: Any) -> None:
    same = small_reading.image_tokens.mean(1, keepdim=True).expand(-1, 16, -1).clone()
    blind = with_tokens(small_reading, same)
    for method in ("occlusion", "token_gradient"):
        side = of(blind, method)
        assert side.image_share == pytest.approx(0, abs=1e-4)
        assert side.score == pytest.approx(side.prior, abs=1e-5)


def test_where_a_normalisation_follows_the_product_is_refused_not_told_from_rounding() -> None:
    reading = read_tiny(tiny_model(layers=(GLOBAL,)))  # nothing reaches the row but what was normalised first
    with pytest.raises(UnavailableError, match="picture and question: a normalisation follows it"):
        of(reading, "hires_cam")


def test_grad_cam_that_its_relu_empties_is_refused(small_reading: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    against = replace(HANDMADE, gradient=torch.tensor([[-1.0, -9.0]] * 4), values=HANDMADE.values.abs())
    monkeypatch.setattr(text_gradients, "gradient_of", lambda *_: against)
    with pytest.raises(UnavailableError, match="neither a place nor a word speaks for the target"):
        of(small_reading, "gradcam_multi_token")


@pytest.mark.parametrize("method", TEXT_METHODS)
def test_a_target_that_nothing_reaches_has_no_share_to_give(small_reading: Any, method: str) -> None:
    with pytest.raises(UnavailableError, match=r"does not change with|changes the score"):
        of(small_reading, method, lambda z: 0 * z[:, 0, 0])


@pytest.mark.parametrize("method", ["occlusion", "attention_knockout"])
def test_a_share_of_rounding_noise_is_refused(small_reading: Any, method: str) -> None:
    with pytest.raises(UnavailableError, match="Nothing that was hidden changes the score"):
        of(small_reading, method, lambda z: 1e4 + 1e-4 * z[:, 0, 0])


def test_other_methods_are_refused_and_the_message_lists_those_that_tell(small_reading: Any) -> None:
    aim = resolve(small_reading, "contrast")
    with pytest.raises(InputError, match="Did you mean 'occlusion'"):
        text_side(small_reading, aim, "oclusion")
    for method in set(METHODS) - set(TEXT_METHODS):
        with pytest.raises(InputError, match=r"Those that do: occlusion, .*token_gradient"):
            text_side(small_reading, aim, method)
    with pytest.raises(InputError, match=r"does not take these options: window. It takes: none"):
        text_side(small_reading, aim, "occlusion", window=3)


def test_a_method_without_numbers_for_words_gives_way_to_occlusion_and_says_so(small_reading: Any) -> None:
    side = explain_words(small_reading, "tam", "contrast")
    assert (side.method, side.requested) == ("occlusion", "tam")
    assert side.fallbacks == {"tam": "It gives no numbers for the question's words."}
    np.testing.assert_array_equal(side.values, of(small_reading, "occlusion").values)


def test_a_method_that_cannot_tell_gives_way_with_its_reason() -> None:
    side = explain_words(read_tiny(tiny_model(layers=(GLOBAL,))), "hires_cam", "contrast")
    assert side.method == "occlusion"
    assert "a normalisation follows it" in side.fallbacks["hires_cam"]


def test_options_of_the_map_that_words_do_not_have_are_named(small_reading: Any) -> None:
    with pytest.raises(InputError, match="does not take these options: colour"):
        explain_words(small_reading, "shapley", colour=1)
    with pytest.raises(InputError, match="give a whole number"):
        explain_words(small_reading, "smoothgrad", samples="few")
    side = explain_words(small_reading, "occlusion", window=2)
    assert (side.method, side.fallbacks, side.left_out) == ("occlusion", {}, ("window",))
    cut = explain_words(small_reading, "attention_knockout", layers=[1], window=2)
    assert cut.left_out == ("window",)
    expected = text_side(small_reading, resolve(small_reading), "attention_knockout", layers=[1])
    np.testing.assert_array_equal(cut.values, expected.values)


@pytest.mark.parametrize("method", TEXT_METHODS)
def test_the_model_is_given_back_as_found(small_reading: Any, method: str) -> None:
    before = state_of(small_reading.model.hf)
    tokens = small_reading.image_tokens.clone()
    of(small_reading, method)
    assert state_of(small_reading.model.hf) == before
    assert torch.equal(small_reading.image_tokens, tokens)
