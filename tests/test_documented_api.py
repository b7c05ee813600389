"""The specification's own calls do what they promise, on the embedded model: shapes, messages, and no second answer."""

from __future__ import annotations

import math
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from medgemma_visualizer import documented_api as api
from medgemma_visualizer import verbs
from medgemma_visualizer.checks import token_order
from medgemma_visualizer.checks.faithfulness import measure
from medgemma_visualizer.checks.trust import Trust
from medgemma_visualizer.checks.whole import Check
from medgemma_visualizer.data.photo import grayscale, picture
from medgemma_visualizer.errors import InputError, UnavailableError, VisualizerError
from medgemma_visualizer.heatmaps import explain_reading
from medgemma_visualizer.records import Case
from tests.checks.toys import Toy, planted
from tests.conftest import state_of

DOCS = Path(__file__).parent.parent / "docs" / "specification_names.md"
#: Names to keep (errata of the specification's section 13).
NAMES = re.findall(
    r"\w+",
    """MIMICFixedTokenApp model_view_image tight_body_mask strip_border_tokens extract_cross_attention
    gradcam_multi_token simple_activation_attention compute_attention_metrics jensen_shannon_divergence
    interpret_js_divergence overlay_attention_enhanced create_token_attention_overlay_robust create_comparison_plot
    create_metrics_visualization factor_to_grid find_target_tokens_with_offsets get_attention_with_fallback
    validate_inputs select_best_gpu cleanup_memory ensure_numerical_stability generate_prompt_variations extract_answer
    process_prompt checkerboard_test model_randomization_test deletion_curve insertion_curve comprehensiveness
    sufficiency""",
)
#: The module, which its folder hides behind the function of that name.
EXPLAIN = import_module("medgemma_visualizer.heatmaps.explain")


@pytest.fixture(autouse=True)
def _one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recommended method takes many passes; these tests ask whether the recommended one is asked."""
    monkeypatch.setattr(verbs, "recommended_method", lambda model: "cross_attention")


@pytest.fixture(scope="module")
def app(demo: Any, cases: Any) -> api.MIMICFixedTokenApp:
    return api.MIMICFixedTokenApp(demo, demo.processor, cases)


@pytest.fixture(scope="module")
def film(cases: Any) -> Image.Image:
    return picture(cases[0])


@pytest.fixture(scope="module")
def grid(demo: Any, cases: Any, film: Image.Image) -> np.ndarray:
    return api.gradcam_multi_token(demo, demo.processor, film, cases[0].question, "yes")


def pixels(image: Image.Image | None) -> np.ndarray:
    assert image is not None
    return np.asarray(image)


def test_every_name_of_the_specification_is_there_and_in_the_table() -> None:
    told = set(re.findall(r"`(\w+)", DOCS.read_text(encoding="utf-8")))
    assert sorted(NAMES) == sorted(api.__all__)
    assert set(NAMES) <= told
    assert all(callable(getattr(api, name)) for name in NAMES)


# 13.1


def test_analyze_xray_returns_what_the_verbs_say_of_the_stored_pair(
    app: Any, demo: Any, cases: Any, film: Image.Image
) -> None:
    text, attention, stats, answer = app.analyze_xray(film, cases[0].question)
    own = verbs.analyze(demo, cases[0])
    drawn = verbs.draw(own.heatmap, cases[0], answer=own.answer.text, trust=verbs.trust_of(own))
    assert (text, answer) == (own.answer.text, own.answer.label)
    assert np.array_equal(pixels(attention), pixels(drawn))
    assert np.array_equal(pixels(stats), pixels(verbs.scores_figure(own.scores)))


def test_a_question_of_ones_own_knows_no_region(app: Any, cases: Any, film: Image.Image) -> None:
    stored = app.analyze_xray(film, cases[0].question)
    custom = app.analyze_xray(film, cases[0].question, custom_mode=True, show_grid=True)
    assert cases[0].region is not None
    assert custom.generated_text == stored.generated_text
    assert not np.array_equal(pixels(stored.attention_viz), pixels(custom.attention_viz))
    assert pixels(custom.stats_viz).shape[0] < pixels(stored.stats_viz).shape[0]  # without rows against the region


def test_without_attention_there_is_an_answer_and_no_picture(app: Any, cases: Any, film: Image.Image) -> None:
    found = app.analyze_xray(np.asarray(film), cases[0].question, show_attention=False)
    assert found[1:3] == (None, None)
    assert found.answer == cases[0].truth


def test_a_bare_transformers_model_answers_as_the_loaded_one(demo: Any, cases: Any, film: Image.Image) -> None:
    before = state_of(demo.hf)
    bare = api.MIMICFixedTokenApp(demo.hf, demo.processor, cases)
    assert bare.analyze_xray(film, cases[0].question, show_attention=False).answer == cases[0].truth
    assert bare.model.is_demo, "the embedded weights know simulated films only, whoever loaded them"
    assert bare.model.revision == "", "weights in memory need not be those of the file"
    assert state_of(demo.hf) == before


@pytest.mark.parametrize(
    ("model", "with_processor", "words"),
    [
        (lambda demo: "demo", True, "A str is no model"),
        (lambda demo: torch.nn.Linear(1, 1), True, "A Linear is no model"),
        (lambda demo: demo.hf, False, "no tokenizer"),
        (lambda demo: demo.hf.model.language_model, True, "not supported"),
    ],
)
def test_what_is_no_model_is_refused(demo: Any, model: Any, with_processor: bool, words: str) -> None:
    with pytest.raises(InputError, match=words):
        api.MIMICFixedTokenApp(model(demo), demo.processor if with_processor else None)


def test_a_loader_of_other_things_is_refused(demo: Any) -> None:
    with pytest.raises(InputError, match="gave a str"):
        api.MIMICFixedTokenApp(demo, demo.processor, ["film.png"])
    with pytest.raises(InputError, match="not the one"):
        api.MIMICFixedTokenApp(demo, object())


def test_a_foreign_film_is_told_and_its_map_drawn_without_colours(
    app: Any, film: Image.Image, caplog: pytest.LogCaptureFixture
) -> None:
    foreign = film.rotate(2)
    app.analyze_xray(foreign, "Is there a pleural effusion?", show_attention=False)
    assert verbs.DEMO_NOTICE in caplog.text
    figure, text, _ = app.run_token_conditioned_analysis(foreign, "Is there a pleural effusion?", ["yes"], True)
    assert verbs.DEMO_NOTICE in text
    assert "do not trust" in text
    assert np.ptp(pixels(figure).astype(int), axis=2).max() == 0


def test_where_the_chosen_method_cannot_explain_the_order_of_the_specification_is_asked(
    app: Any, cases: Any, film: Image.Image, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    analyze, asked = verbs.analyze, []

    def refusing(model: Any, case: Any, method: str | None = None) -> Any:
        asked.append(method)
        if method is None:
            raise UnavailableError("It found nothing.")
        return analyze(model, case, method=method)

    monkeypatch.setattr(verbs, "analyze", refusing)
    assert app.analyze_xray(film, cases[0].question).attention_viz is not None
    assert asked == [None, "auto"]
    assert "It found nothing." in caplog.text


def test_each_target_word_has_its_own_map(app: Any, demo: Any, cases: Any, film: Image.Image) -> None:
    figure, text, metrics = app.run_token_conditioned_analysis(
        film, cases[0].question, "effusion, yes, effusion,", True
    )
    assert list(metrics) == ["effusion", "yes"]
    assert figure.width > figure.height
    assert text.splitlines()[0].startswith("Answer: yes (yes, p(yes)")
    assert "The model did not say 'effusion'" in text
    assert "The model did not say 'yes'" not in text
    own = verbs.explain(demo, cases[0], "gradcam_multi_token", "phrase:yes")
    assert metrics["yes"] == verbs.score(own, cases[0])


def test_words_are_explained_by_the_best_method_unless_gradcam_is_forced(
    app: Any, cases: Any, film: Image.Image
) -> None:
    _, text, _ = app.run_token_conditioned_analysis(film, cases[0].question, ["yes"])
    assert "yes: cross_attention;" in text


def test_a_word_like_a_kind_of_target_is_a_word(app: Any, cases: Any, film: Image.Image) -> None:
    _, text, metrics = app.run_token_conditioned_analysis(film, cases[0].question, ["answer"], use_gradcam=True)
    assert "The model did not say 'answer'" in text
    assert list(metrics) == ["answer"]


def test_no_target_word_is_an_error(app: Any, cases: Any, film: Image.Image) -> None:
    for nothing in ("", " , ", []):
        with pytest.raises(InputError, match="No target word"):
            app.run_token_conditioned_analysis(film, cases[0].question, nothing)
    with pytest.raises(InputError, match="Target phrase too long"):
        app.run_token_conditioned_analysis(film, cases[0].question, "one two three four five six")


@pytest.fixture
def checks(reading: Any, cases: Any, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """`verbs.check` answers by a formula: the first eight cells are all that counts, and the map is of these."""
    asked: list[dict[str, Any]] = []

    def check(model: Any, case: Case, **how: Any) -> Check:
        asked.append(how)
        heatmap = explain_reading(reading, "gradcam_multi_token", how["target"])
        found, failures = None, {"faithfulness": "nothing that was removed changes the score"}
        if how["target"] != "phrase:unchanging":
            found, failures = measure(Toy(planted(range(8))), np.arange(64.0)[::-1].reshape(8, 8), subsets=0), {}
        trust = Trust("with care", ("one film",))
        return Check(case, reading.answer, heatmap, found, None, None, None, None, failures, trust, 0.0)

    monkeypatch.setattr(verbs, "check", check)
    return asked


def test_faithfulness_is_that_of_check(app: Any, cases: Any, film: Image.Image, checks: Any) -> None:
    deletion, insertion, table, attention = app.run_faithfulness_validation(
        film, cases[0].question, "yes", "gradcam_multi_token"
    )
    assert checks == [{"method": "gradcam_multi_token", "target": "phrase:yes", "sanity": False}]
    rows = {row.Metric: row for row in table}
    assert rows["deletion_auc_spec:blur"].Target == 0.5
    assert rows["comprehensiveness:blur"].Value == pytest.approx(0.8)  # from .9 to .1 without the top 20 %
    assert rows["sufficiency:blur"].Value == pytest.approx(0)
    assert rows["srg:blur"].Chance == pytest.approx(0, abs=1e-12)
    assert rows["srg:blur"].Status == "better than random"
    assert all(row.Status for row in table)
    assert pixels(deletion).shape == pixels(insertion).shape
    assert not np.array_equal(pixels(deletion), pixels(insertion))
    assert pixels(attention).ndim == 3


def test_what_cannot_be_measured_is_one_row_with_the_reason(
    app: Any, cases: Any, film: Image.Image, checks: Any
) -> None:
    found = app.run_faithfulness_validation(film, cases[0].question, "unchanging", "gradcam_multi_token", steps=4)
    assert checks[0]["steps"] == 4
    assert (found.deletion_plot, found.insertion_plot) == (None, None)
    (row,) = found.metrics_table
    assert row == ("faithfulness", None, None, None, "nothing that was removed changes the score")


@pytest.mark.slow
def test_the_embedded_model_is_asked_again(app: Any, demo: Any, cases: Any, film: Image.Image) -> None:
    method = "gradcam_multi_token"
    found = app.run_faithfulness_validation(film, cases[0].question, "yes", method)
    own = verbs.check(demo, cases[0], method=method, target="phrase:yes", sanity=False)
    assert [(row.Metric, row.Value) for row in found.metrics_table] == [(k, one.value) for k, one in own.scores.items()]
    asked = (film, own.heatmap.map, cases[0].question, "yes")
    shares = [round(percent / 100 * 256) / 256 for percent in (10, 20, 30, 50, 70, 90)]
    drops = [drop for _, drop in api.deletion_curve(*asked, model=demo)]
    area = np.trapezoid(drops, shares) / (shares[-1] - shares[0])
    assert area == pytest.approx(own.scores["deletion_auc_spec:blur"].value, abs=0.02)  # steps of 10 against 16 shares


@pytest.mark.parametrize(
    ("image", "prompt", "word", "message"),
    [
        (None, "Is it?", None, "Image is required"),
        ("film.png", "Is it?", None, "Invalid image format"),
        (Image.new("L", (32, 32)), "", None, "Valid prompt string required"),
        (Image.new("L", (32, 32)), "x" * 1001, None, "Prompt too long (max 1000 chars)"),
        (Image.new("L", (32, 32)), "Is it?", 3, "Target word must be string"),
        (Image.new("L", (32, 32)), "Is it?", "a b c d e f", "Target phrase too long (max 5 words)"),
        (None, "", 3, "Image is required; Valid prompt string required; Target word must be string"),
    ],
)
def test_messages_are_the_specifications(app: Any, image: Any, prompt: Any, word: Any, message: str) -> None:
    exactly = f"^{re.escape(f'Input validation failed: {message}')}$"
    with pytest.raises(ValueError, match=exactly):
        api.validate_inputs(image, prompt, word)
    with pytest.raises(ValueError, match=exactly):
        app.run_faithfulness_validation(image, prompt, word, "gradcam_multi_token")


# 13.2


def test_the_models_view_is_its_square(demo: Any) -> None:
    size = demo.hf.config.vision_config.image_size
    seen = api.model_view_image(demo.processor, Image.new("RGB", (300, 200), (100, 100, 100)))
    assert (seen.size, seen.mode) == ((size, size), "RGB")
    assert np.abs(np.asarray(seen).astype(int) - 100).max() <= 1


def test_the_body_is_bright_and_its_holes_belong_to_it() -> None:
    y, x = np.mgrid[:160, :160] - 80
    gray = np.where(np.hypot(y, x) < 60, 180, 5).astype(np.uint8)
    gray[70:90, 50:70] = 20  # a lung
    mask = api.tight_body_mask(gray)
    assert mask.dtype == bool
    assert mask[80, 60]
    assert not mask[2, 2]
    assert mask.sum() == pytest.approx(math.pi * 60**2, rel=0.05)


def test_the_outer_ring_is_stripped() -> None:
    stripped = api.strip_border_tokens(np.ones((4, 5)), k=1)
    assert stripped.sum() == 6
    assert stripped[1:-1, 1:-1].all()


def generated(demo: Any, film: Image.Image, question: str, parts: tuple[str, ...]) -> tuple[Any, Any]:
    """The specification's own call (4.2.1)."""
    content = [{"type": part, part: {"image": film, "text": question}[part]} for part in parts]
    inputs = demo.processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    outputs = demo.hf.generate(**inputs, max_new_tokens=50, do_sample=False, return_dict_in_generate=True)
    return outputs, inputs


def test_cross_attention_of_generate_is_that_of_the_method(
    demo: Any, reading: Any, cases: Any, film: Image.Image
) -> None:
    outputs, inputs = generated(demo, film, cases[0].question, ("image", "text"))
    found = api.extract_cross_attention(demo.hf, outputs, inputs, demo.processor)
    own = explain_reading(reading, "cross_attention", "answer")
    assert own.layers == (demo.n_layers - 1,)
    assert found == pytest.approx(own.map, abs=1e-6)
    assert 0 < found.sum() <= 1


def test_cross_attention_refuses_what_does_not_belong_together(demo: Any, cases: Any, film: Image.Image) -> None:
    outputs, inputs = generated(demo, film, cases[0].question, ("text", "image"))  # as specified, text first
    assert api.extract_cross_attention(demo, outputs, inputs).shape == demo.grid
    with pytest.raises(InputError, match="do not begin with"):
        api.extract_cross_attention(demo, outputs.sequences[:, 1:], inputs)
    with pytest.raises(InputError, match="generated nothing"):
        api.extract_cross_attention(demo, inputs["input_ids"], inputs)


def test_gradcam_and_activation_are_the_methods_own(
    demo: Any, reading: Any, cases: Any, film: Image.Image, grid: np.ndarray
) -> None:
    assert np.array_equal(grid, explain_reading(reading, "gradcam_multi_token", "phrase:yes").map)
    norms = api.simple_activation_attention(demo, demo.processor, film, cases[0].question, "cpu")
    other = api.simple_activation_attention(demo, demo.processor, film, "Is the heart enlarged?")
    assert norms.shape == demo.grid
    assert np.array_equal(norms, other)
    with pytest.raises(InputError, match="The model is on cpu"):
        api.simple_activation_attention(demo, demo.processor, film, cases[0].question, "meta")


def test_metrics_have_their_chance_levels_and_can_be_drawn() -> None:
    hot = np.zeros((16, 16))
    hot[4, 4] = 1
    metrics = api.compute_attention_metrics(hot, np.ones((32, 32), bool))
    assert metrics["inside_body_ratio"].value == 1
    assert metrics["border_fraction"].chance == pytest.approx(60 / 256)
    assert metrics["peak_to_mean"].value == 256
    assert api.create_metrics_visualization(metrics).mode == "RGB"
    drawn = api.create_metrics_visualization({"inside_body_ratio": 0.8, "regional_focus": "upper_left"})
    assert drawn.height < api.create_metrics_visualization(metrics).height
    with pytest.raises(InputError, match="no score of a map"):
        api.create_metrics_visualization({"beauty": 0.8})


def test_divergence_takes_flat_distributions_and_grids() -> None:
    one, other = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    assert api.jensen_shannon_divergence(one, other) == pytest.approx(math.log(2))
    assert api.jensen_shannon_divergence(one.reshape(1, 2), one.reshape(1, 2)) == 0
    assert api.interpret_js_divergence(0.05) == "Nearly identical attention patterns"
    assert api.interpret_js_divergence(0.6) == "Significant divergence"


def test_pictures_of_maps(demo: Any, film: Image.Image, grid: np.ndarray) -> None:
    plain = api.overlay_attention_enhanced(film, grid, demo.processor, alpha=0.0)
    coloured = api.overlay_attention_enhanced(film, grid, demo.processor)
    assert plain.size == coloured.size
    assert not np.array_equal(pixels(plain), pixels(coloured))
    gray = grayscale(film)
    body = api.tight_body_mask(gray)
    named = api.create_token_attention_overlay_robust(gray, grid, body, ["yes"], "gradcam_multi_token")
    assert min(named.size) > 400
    with pytest.raises(InputError, match="Unknown method 'uniform'"):
        api.create_token_attention_overlay_robust(gray, grid, body, ["yes"], "uniform")
    with pytest.raises(InputError):
        api.create_token_attention_overlay_robust(gray, grid, 255 * body.astype(np.uint8), ["yes"], "cross_attention")


def test_a_comparison_is_drawn_with_its_own_divergence_only(grid: np.ndarray) -> None:
    divergence = api.jensen_shannon_divergence(grid, grid.T)
    assert api.create_comparison_plot(grid, grid.T, divergence).mode == "RGB"
    for wrong in (math.sqrt(divergence), math.nan):
        with pytest.raises(InputError, match="nats, not"):
            api.create_comparison_plot(grid, grid.T, wrong)


# The rest of the specification


def test_grids_keep_the_shape_of_the_image() -> None:
    assert api.factor_to_grid(256, 224, 224) == (16, 16)
    assert api.factor_to_grid(12, 300, 400) == (3, 4)
    assert api.factor_to_grid(12, 400, 300) == (4, 3)


def test_target_tokens_are_whole_words_in_their_first_occurrence(demo: Any) -> None:
    prompt = "Is no nodule, or a pleural effusion, or another pleural effusion there?"
    found = api.find_target_tokens_with_offsets(demo.tokenizer, prompt, "Pleural effusion")
    ids = demo.tokenizer(prompt)["input_ids"]
    assert demo.tokenizer.decode([ids[i] for i in found]).strip() == "pleural effusion"
    assert found == list(range(found[0], found[-1] + 1))
    with pytest.raises(InputError, match="'nod' is not in the question"):
        api.find_target_tokens_with_offsets(demo.tokenizer, prompt, "nod")


def test_the_fallback_names_its_method_and_never_gives_a_uniform_map(
    demo: Any, cases: Any, film: Image.Image, grid: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, method = api.get_attention_with_fallback(demo, film, cases[0].question, "yes")
    assert method == "gradcam_multi_token"
    assert np.array_equal(found, grid)
    monkeypatch.setattr(EXPLAIN, "AUTO", ())
    with pytest.raises(UnavailableError, match="No method explains 'yes'"):
        api.get_attention_with_fallback(demo.hf, film, cases[0].question, "yes", processor=demo.processor)


def test_numbers_that_are_none_are_errors_with_the_place_named() -> None:
    values, epsilon = api.ensure_numerical_stability(torch.tensor([1.0, 2.0], dtype=torch.bfloat16))
    assert (values.dtype, values.tolist(), epsilon) == (torch.float32, [1.0, 2.0], 1e-8)
    for broken in (math.nan, math.inf):
        with pytest.raises(VisualizerError, match="Layer 3 are not finite"):
            api.ensure_numerical_stability(torch.tensor([1.0, broken]), "layer 3")


def test_prompts_and_answers() -> None:
    assert api.process_prompt("Is there pneumonia?") == (
        "Question: Is there pneumonia?\nAnswer with only 'yes' or 'no'. Do not provide any explanation."
    )
    with pytest.raises(InputError, match="no answer format 'free'"):
        api.process_prompt("Is there pneumonia?", "free")
    assert api.generate_prompt_variations("Is there pneumonia?")[0] == (
        "Radiological assessment: Is there evidence of pneumonia in this chest radiograph?"
    )
    assert api.extract_answer("Normal heart size") == "uncertain"
    assert api.extract_answer("Based on the image, yes.") == "yes"


def test_memory_is_cleaned_and_no_card_is_chosen_that_is_not_there() -> None:
    api.cleanup_memory()
    assert not torch.cuda.is_initialized() or torch.cuda.is_available()
    assert api.select_best_gpu(min_free_gb=1e9) is None


def test_the_bright_quadrant_is_asked_of_the_model(demo: Any) -> None:
    passed, ratio = api.checkerboard_test(model=demo.hf, processor=demo.processor)
    assert passed is (ratio > 0.5)
    assert (passed, ratio) == token_order.checkerboard_test(demo)


def test_random_layers_are_the_models_own_and_given_back(demo: Any, cases: Any, film: Image.Image) -> None:
    before = state_of(demo.hf)
    correlations = api.model_randomization_test(film, cases[0].question, model=demo)
    assert len(correlations) == len(demo.vision_layers)
    assert min(correlations) < 0.9
    assert state_of(demo.hf) == before


def test_curves_and_single_numbers_agree(demo: Any, reading: Any, cases: Any, film: Image.Image) -> None:
    grid = explain_reading(reading, "gradcam_multi_token", "phrase:yes").map
    asked = (film, grid, cases[0].question, "yes")
    deletion = dict(api.deletion_curve(*asked, model=demo))
    insertion = dict(api.insertion_curve(*asked, model=demo))
    full = math.exp(reading.answer.tokens[0].logprob)
    assert list(deletion) == list(insertion) == [10, 20, 30, 50, 70, 90]
    assert api.comprehensiveness(*asked, model=demo) == pytest.approx(deletion[20], abs=1e-6)
    assert api.sufficiency(*asked, k=20, model=demo) == pytest.approx(full - insertion[20], abs=1e-6)
    assert all(-1 <= drop <= full for drop in deletion.values())
