"""The specification's own names and signatures (sections 4 to 13), thin over the package.

Knows which name of the specification is which function here; computes nothing itself. Where the specification's text
would give nonsense, the name stays and its docstring says in a line what is done instead; docs/specification_names.md
lists all of them. What the specification takes from global variables is given by keyword: `model` and `processor`.

Everything takes either a model of `load_model`, or a transformers model with its processor (`models.loading.model_of`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from medgemma_visualizer import verbs
from medgemma_visualizer.checks import erasure, randomisation, token_order
from medgemma_visualizer.checks.controls import Comparison
from medgemma_visualizer.checks.curves import K_PERCENT, SPEC_PERCENTS, shares_of
from medgemma_visualizer.checks.faithfulness import Faithfulness
from medgemma_visualizer.checks.prompts import generate_prompt_variations
from medgemma_visualizer.checks.trust import Trust
from medgemma_visualizer.checks.wordings import digest_of
from medgemma_visualizer.data.inputs import check_question, check_target, validate_inputs
from medgemma_visualizer.data.photo import grayscale, open_image, picture
from medgemma_visualizer.errors import InputError, UnavailableError
from medgemma_visualizer.figures import Tile, comparison, contact_sheet, overlay, scores_figure
from medgemma_visualizer.figures.curves import curves_figure
from medgemma_visualizer.figures.overlay import DISTRUSTED, UNAVAILABLE
from medgemma_visualizer.grid import factor_to_grid, strip_border
from medgemma_visualizer.heatmaps import METHODS, explain_reading, resolve
from medgemma_visualizer.heatmaps.explain import explain_or_say_why
from medgemma_visualizer.heatmaps.targets import Aim, occurrences
from medgemma_visualizer.models import prompt as prompts
from medgemma_visualizer.models.adapter import Model
from medgemma_visualizer.models.answer import extract_answer
from medgemma_visualizer.models.devices import cleanup_memory, select_best_gpu
from medgemma_visualizer.models.forward import ensure_finite, image_tokens, processor_view
from medgemma_visualizer.models.loading import model_of
from medgemma_visualizer.models.reading import Reading, read
from medgemma_visualizer.models.trace import attention_rows
from medgemma_visualizer.records import Answer, Case, Heatmap, Score, Scores, Target
from medgemma_visualizer.scores.agreement import interpret_js_divergence, js_divergence
from medgemma_visualizer.scores.body import body_mask as find_body
from medgemma_visualizer.scores.quality import DIRECTIONS, quality_scores
from medgemma_visualizer.scores.verdict import scored
from medgemma_visualizer.settings import METHOD_PRIORITY, VIZ_CONFIG

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

#: What the specification adds to denominators. Nothing here needs it; `ensure_numerical_stability` returns it still.
EPSILON = 1e-8
#: By how much a divergence that was handed in may differ from that of the maps beside it: its third decimal is drawn.
_SAME_DIVERGENCE = 5e-4
#: Steps of 10 % hold every share at which the specification asks (`SPEC_PERCENTS`).
_TENTHS = 10


class XrayAnalysis(NamedTuple):
    """What `analyze_xray` returns.

    Attributes:
        generated_text: What the model wrote.
        attention_viz: The map over the film, or the film with the reasons why there is none; None unless asked for.
        stats_viz: The map's scores beside their chance levels; None without a map.
        answer: "yes", "no", "uncertain", or the option that the text names.
    """

    generated_text: str
    attention_viz: Image.Image | None
    stats_viz: Image.Image | None
    answer: str


class TokenAnalysis(NamedTuple):
    """What `run_token_conditioned_analysis` returns.

    Attributes:
        figure: One map a target word, side by side.
        output_text: The answer, and for each word by which method it was explained, or why it was not.
        metrics: Word -> scores of its map; empty for a word without a map. Words have maps of their own, so the average
            of several would be the map of none.
    """

    figure: Image.Image
    output_text: str
    metrics: dict[str, Scores]


class MetricsRow(NamedTuple):
    """One line of the faithfulness table.

    Attributes:
        Metric: "name:imputer", or "faithfulness" where nothing could be measured.
        Value: The number; None where it does not apply.
        Target: The specification's bound for "good", where it has one.
        Chance: The mean of random maps.
        Status: In words; a number that random maps reach as well is never called good.
    """

    Metric: str
    Value: float | str | None
    Target: float | None
    Chance: float | None
    Status: str


class FaithfulnessValidation(NamedTuple):
    """What `run_faithfulness_validation` returns; plots are None where the table says that nothing could be measured.

    Attributes:
        deletion_plot: f as the map's top cells are removed, beside random maps, one row an imputer.
        insertion_plot: f as they are revealed.
        metrics_table: One row a number.
        attention_viz: The map over the film, with the verdict.
    """

    deletion_plot: Image.Image | None
    insertion_plot: Image.Image | None
    metrics_table: list[MetricsRow]
    attention_viz: Image.Image


class MIMICFixedTokenApp:
    """The specification's application class (13.1): three analyses of a film and a question.

    Differences: where no method is named, the best of the model's league table is asked; a failure is told, never a
    uniform picture; the image precedes the question; maps not to be trusted are drawn so. Pictures are PIL images.

    Attributes:
        model: The model, as the package wants it.
        processor: Its processor.
        data_loader: The stored cases. Options, view and known region belong to a stored pair of film and question.
    """

    def __init__(self, model: Any, processor: Any = None, data_loader: Iterable[Case] = ()) -> None:
        """Takes a model of `load_model` (with or without its processor), or a transformers model and its processor.

        Args:
            data_loader: Cases, such as `load_cases("demo")` gives.

        Raises:
            InputError: Not a model, not its processor, or something other than cases.
        """
        self.model = _model(model, processor)
        self.processor = self.model.processor
        self.data_loader = tuple(data_loader)
        strangers = [each for each in self.data_loader if not isinstance(each, Case)]
        if strangers:
            raise InputError(f"The data loader gave a {type(strangers[0]).__name__}; give cases, as load_cases does.")
        self._digests: dict[int, str] = {}

    def analyze_xray(
        self,
        image: Any,
        question: str,
        custom_mode: bool = False,
        show_attention: bool = True,
        show_grid: bool = False,
    ) -> XrayAnalysis:
        """Asks a question about a film and shows where the model looked.

        Args:
            image: PIL image, array or tensor, as `open_image` takes them; paths are to be opened first.
            question: At most 1,000 characters, asked as it stands (`process_prompt` adds the answer instruction).
            custom_mode: True never takes the pair for a stored one.
            show_attention: False asks for the answer alone: no map, and so no scores.
            show_grid: Draws the borders of the cells.

        Raises:
            InputError: "Input validation failed: …", a film that cannot be used, or a question that is too long.
        """
        case = self._case(image, question, custom_mode)
        if not show_attention:
            said = verbs.answer(self.model, case)
            _tell(said)
            return XrayAnalysis(said.text, None, None, said.label)
        found = self._analysis(case)
        _tell(found.answer)
        style = {"answer": found.answer.text, "trust": verbs.trust_of(found), "grid_lines": show_grid}
        stats = scores_figure(found.scores) if found.scores else None
        return XrayAnalysis(found.answer.text, verbs.draw(found.heatmap, case, **style), stats, found.answer.label)

    def run_token_conditioned_analysis(
        self, image: Any, prompt: str, target_words: Sequence[str] | str, use_gradcam: bool = False
    ) -> TokenAnalysis:
        """Explains words: each where the answer says it, else as if it had been the answer, which the text then tells.

        Args:
            image: As in `analyze_xray`.
            prompt: The question.
            target_words: Words or phrases of at most five words; one text is split at its commas.
            use_gradcam: True asks `gradcam_multi_token`; False asks the best of the model's league table.

        Raises:
            InputError: As `analyze_xray`, or no target word.
        """
        words = _target_words(target_words)
        for word in words:
            validate_inputs(image, prompt, word)
        case = self._case(image, prompt)
        reading = read(self.model, picture(case), case.question, options=case.options)
        method = METHOD_PRIORITY[0] if use_gradcam else verbs.recommended_method(self.model)
        found = {word: _explained(reading, case, word, method) for word in words}
        verdicts = {word: verbs.trust_of(one) for word, one in found.items()}
        tiles = [Tile(word, one.heatmap, method, _reasons(one.heatmap)) for word, one in found.items()]
        trusted = DISTRUSTED not in {verdicts[word].word for word, one in found.items() if one.heatmap.available}
        figure = contact_sheet(reading.image, tiles, find_body(grayscale(reading.image)), trusted=trusted)
        return TokenAnalysis(figure, _told(found, verdicts), {word: one.scores for word, one in found.items()})

    def run_faithfulness_validation(
        self, image: Any, prompt: str, target_word: str | None, method: str = METHOD_PRIORITY[0], **how: Any
    ) -> FaithfulnessValidation:
        """Takes a map's cells away and asks again, beside random maps: probabilities, two imputers (`verbs.check`).

        Args:
            image: As in `analyze_xray`.
            prompt: The question.
            target_word: As in `run_token_conditioned_analysis`; None or blank explains the answer given.
            method: A name of `METHODS`, or "auto".
            **how: As of `verbs.check`: imputers, space, steps, controls, seed.

        Raises:
            InputError: As `analyze_xray`, no such method, or a number that does not fit.
            UnavailableError: The method that was named cannot explain the word.
        """
        validate_inputs(image, prompt, target_word)
        case = self._case(image, prompt)
        found = verbs.check(self.model, case, method=method, target=_target(target_word), **{"sanity": False} | how)
        _tell(found.answer)
        viz = verbs.draw(found.heatmap, case, answer=found.answer.text, trust=found.trust)
        measured = found.faithfulness
        if measured is None:
            reason = found.failures.get("faithfulness") or _reasons(found.heatmap)
            return FaithfulnessValidation(None, None, [MetricsRow("faithfulness", None, None, None, reason)], viz)
        deletion, insertion = (
            curves_figure(measured.curves, verdict=found.verdict, unit=measured.scale.unit, sides=[side])
            for side in ("without", "alone")
        )
        return FaithfulnessValidation(deletion, insertion, _table(measured), viz)

    def _case(self, image: Any, question: str, custom_mode: bool = False) -> Case:
        """The stored case of this very film and question, else one of which nothing is known."""
        validate_inputs(image, question)
        film, asked = open_image(image), check_question(question)
        digest = digest_of(film)
        stored = () if custom_mode else (case for case in self.data_loader if case.question == asked)
        same = (case for case in stored if self._digest(case) == digest)
        return next(same, None) or Case(id="own", image=film, question=asked)

    def _analysis(self, case: Case) -> verbs.Analysis:
        """By the best of the model's league table; where that cannot explain, by the first of METHOD_PRIORITY."""
        try:
            return verbs.analyze(self.model, case)
        except UnavailableError as error:
            logger.warning("%s The specification's order of methods is asked instead.", error)
            return verbs.analyze(self.model, case, method="auto")

    def _digest(self, case: Case) -> str:
        """What tells a stored film apart; empty where it cannot be read, and so is none that was handed in."""
        if id(case) not in self._digests:
            try:
                self._digests[id(case)] = digest_of(picture(case))
            except InputError:
                self._digests[id(case)] = ""
        return self._digests[id(case)]


def model_view_image(processor: Any, pil_image: Image.Image) -> Image.Image:
    """The film as the model sees it, RGB at the model's own size: squashed to its square, not 224 x 224 by LANCZOS."""
    return Image.fromarray(processor_view(processor, open_image(pil_image)))


def tight_body_mask(gray_image: np.ndarray) -> np.ndarray:
    """bool (height, width): all inside the skin line, lungs included; the specification's covers the air instead."""
    return find_body(gray_image)


def strip_border_tokens(attention_grid: np.ndarray, k: int = 1) -> np.ndarray:
    """A copy (rows, cols) whose outer k rings are 0. For pictures; scores are of the map before it is stripped."""
    return strip_border(attention_grid, k)


def extract_cross_attention(model: Any, outputs: Any, inputs: Mapping[str, Any], processor: Any = None) -> np.ndarray:
    """What the generated tokens' rows attend to on the image in the last layer, mean of heads and rows.

    A decoder has no cross-attention, so text rows are read on image columns: row p − 1 for the token at p, in place of
    "the last five", which are mostly the chat template's.

    Args:
        outputs: Of `model.generate(**inputs, return_dict_in_generate=True)`, or its sequences (1, S).
        inputs: Of `processor.apply_chat_template(…, return_dict=True)` with one image: input_ids, pixel_values.

    Returns:
        float32 (rows, cols) ≥ 0; its sum is the share of attention on the image, ≤ 1.

    Raises:
        InputError: Outputs of other inputs, several sequences, or nothing generated.
    """
    import torch

    asked = _model(model, processor)
    sequences = outputs if isinstance(outputs, torch.Tensor) else outputs.sequences
    prompt = inputs["input_ids"].tolist()
    if len(sequences) != 1 or sequences[:, : len(prompt[0])].tolist() != prompt:
        raise InputError("The outputs do not begin with the inputs' tokens; give one prompt and what was generated.")
    said = list(takewhile(lambda token: token not in asked.stop_ids, sequences[0, len(prompt[0]) :].tolist()))
    if not said:
        raise InputError("The model generated nothing, so no row explains an answer; ask another question.")
    with torch.no_grad():
        tokens = image_tokens(asked, inputs["pixel_values"].to(asked.device, asked.dtype))
    ids = torch.tensor([*prompt[0], *said], device=asked.device)
    rows = range(len(prompt[0]) - 1, len(ids) - 1)
    traced = attention_rows(asked, ids, tokens, rows, [asked.n_layers - 1])
    seen: np.ndarray = traced.on_image.mean(axis=(0, 1, 2))  # (layers, heads, rows, N) -> (N,)
    return seen.reshape(asked.grid)


def gradcam_multi_token(model: Any, processor: Any, image: Any, prompt: str, target_phrase: str) -> np.ndarray:
    """Grad-CAM of a phrase by teacher forcing, (rows, cols) ≥ 0; not by `logits[0, t]`, which read the prompt's start.

    Raises:
        InputError: Unusable image, prompt or phrase.
        UnavailableError: No position speaks for the phrase.
    """
    reading = _read(model, processor, image, prompt)
    return explain_reading(reading, "gradcam_multi_token", _target(target_phrase)).map


def simple_activation_attention(model: Any, processor: Any, image: Any, prompt: str, device: Any = None) -> np.ndarray:
    """Length of the vision tower's output per cell, (rows, cols) ≥ 0; the same for any prompt: explains no answer.

    Raises:
        InputError: Unusable image or prompt, or a device that is not the model's: the model is not moved.
    """
    reading = _read(model, processor, image, prompt)
    if device is not None:
        _refuse_other_device(reading.model, device)
    return explain_reading(reading, "activation_norm").map


def compute_attention_metrics(grid: np.ndarray, body_mask: np.ndarray | None) -> Scores:
    """Scores of a raw map by name, each with chance level and verdict; the number itself is `.value`.

    Args:
        grid: (rows, cols), neither masked nor stripped: after that some scores are perfect by construction.
        body_mask: bool (height, width) of any size.
    """
    return Scores(quality_scores(grid, body_mask))


def jensen_shannon_divergence(p: np.ndarray, q: np.ndarray) -> float:
    """In nats, [0, ln 2], without the specification's ε; flat distributions and grids alike."""
    return js_divergence(np.atleast_2d(p), np.atleast_2d(q))


def overlay_attention_enhanced(
    image: Any, attention: np.ndarray, processor: Any = None, alpha: float = VIZ_CONFIG["attention_alpha"]
) -> Image.Image:
    """The map over the film as 9.1 wants it (outer ring stripped, clipped at 2 and 98 %, cubic), in the picture only.

    Args:
        image: As in `analyze_xray`.
        attention: (rows, cols) ≥ 0 over the whole film.
        processor: Not needed: the film is drawn at its own proportions, which the model's square keeps cell by cell.
        alpha: Share of colour, in [0, 1].
    """
    film = open_image(image)
    look = {"alpha": alpha, "border_strip": VIZ_CONFIG["border_strip_k"], "interpolation": "cubic"}
    return overlay(film, np.asarray(attention), find_body(grayscale(film)), **look)


def create_token_attention_overlay_robust(
    base_gray: np.ndarray,
    grid: np.ndarray,
    body_mask: np.ndarray | None,
    target_words: Sequence[str] | str,
    method: str,
) -> Image.Image:
    """The map over a grey film, with the words and the method written above.

    Args:
        base_gray: uint8 (height, width).
        grid: (rows, cols) ≥ 0.
        body_mask: bool (height, width), not 0 and 255.
        target_words: What the map explains.
        method: The name in `METHODS` of what made it; a map of no method ("uniform") is no explanation.
    """
    independent = not METHODS[method].text_dependent
    target = Target("phrase", ", ".join(_target_words(target_words)), ())
    shown = Heatmap(np.asarray(grid), method, method, target, text_independent=independent)
    return overlay(open_image(base_gray), shown, body_mask)


def create_comparison_plot(attn1: np.ndarray, attn2: np.ndarray, js_div: float) -> Image.Image:
    """Two maps and their difference; colour limits come from the numbers, not from ±1, which would leave it white.

    Raises:
        InputError: Maps of two shapes, or a divergence that is not theirs, such as its square root.
    """
    first, second = np.asarray(attn1), np.asarray(attn2)
    own = js_divergence(first, second)
    if not abs(js_div - own) < _SAME_DIVERGENCE:
        raise InputError(
            f"The divergence of these maps is {own:.3f} nats, not {js_div}; use jensen_shannon_divergence of them."
        )
    matrix = np.array([[0.0, own], [own, 0.0]])
    return comparison([first, second], ["Technical Prompt", "Simple Prompt"], matrix)


def create_metrics_visualization(metrics: Mapping[str, Score | float | str]) -> Image.Image:
    """Scores as bars with targets; of `compute_attention_metrics` with chance levels, which bare numbers do not have.

    Raises:
        InputError: Nothing to draw, or a bare number under a name that is no score's.
    """
    return scores_figure({name: _as_score(name, value) for name, value in metrics.items()})


def find_target_tokens_with_offsets(tokenizer: Any, prompt: str, target_phrase: str) -> list[int]:
    """Indices of the tokens of a phrase's first occurrence in a text, whole words, any case.

    A phrase that is not there is an error; the specification's `find` gives -1 and with it tokens of other words.

    Raises:
        InputError: The text does not contain it; the message lists the words that it contains.
    """
    encoded = tokenizer(prompt, return_offsets_mapping=True, add_special_tokens=True)
    offsets = tuple((int(start), int(end)) for start, end in encoded["offset_mapping"])
    text = prompts.Prompt(prompt, tuple(encoded["input_ids"]), offsets, (0, len(prompt)), (), image_first=True)
    return list(occurrences(text, target_phrase)[0])


def get_attention_with_fallback(
    model: Any, image: Any, prompt: str, target: str | None, *, processor: Any = None
) -> tuple[np.ndarray, str]:
    """The first of `METHOD_PRIORITY` that explains a phrase: its map (rows, cols) and its name.

    Raises:
        InputError: Unusable image, prompt or target.
        UnavailableError: None can; the message holds every reason. A uniform map would be no explanation.
    """
    found = explain_reading(_read(model, processor, image, prompt), "auto", _target(target))
    if not found.available:
        raise UnavailableError(f"No method explains {found.target.text!r}: {_reasons(found)}")
    return found.map, found.method


def ensure_numerical_stability(tensor: torch.Tensor, name: str = "the tensor") -> tuple[torch.Tensor, float]:
    """The tensor (bfloat16 as float32) and 1e-8. NaN and infinity are an error that says where, never zeros.

    Args:
        name: The layer, or whatever it is, for the message.

    Raises:
        VisualizerError: A number is not finite.
    """
    values = tensor.float() if tensor.element_size() < 4 and tensor.is_floating_point() else tensor
    return ensure_finite(values, name), EPSILON


def process_prompt(question: str, answer_format: str = "yes/no") -> str:
    """The question with the yes/no answer instruction, as text: tokenising with truncation would cut the image block.

    Raises:
        InputError: Another answer format, or no usable question.
    """
    if answer_format != "yes/no":
        raise InputError(
            f"There is no answer format {answer_format!r}; use 'yes/no', or ask the question as it stands."
        )
    return prompts.process_prompt(check_question(question))


def checkerboard_test(
    *, model: Any, processor: Any = None, method: str = METHOD_PRIORITY[0], question: str = "describe this image"
) -> tuple[bool, float]:
    """Whether more than half of a map lies in a bright upper left quadrant, and its share; chance 0.25.

    What is bright need not be what answers: whether tokens lie in order is `checks.token_order`'s to say.

    Raises:
        UnavailableError: The method has no map of that picture.
    """
    return token_order.checkerboard_test(_model(model, processor), method, question)


def model_randomization_test(
    image: Any, prompt: str, *, model: Any, processor: Any = None, method: str = METHOD_PRIORITY[0], seed: int = 0
) -> list[float]:
    """Correlation with the original map, one vision layer random at a time, last to first, all of the model's own.

    Weights are given back bit for bit. Each layer alone is random, so there is no decay to expect: `checks` cascades.

    Raises:
        InputError: Unusable image or prompt, or no such method.
        UnavailableError: The trained model's own map cannot be had.
    """
    validate_inputs(image, prompt)
    film, asked = open_image(image), check_question(prompt)
    return randomisation.model_randomization_test(_model(model, processor), film, asked, method, seed)


def deletion_curve(
    image: Any, attention_map: np.ndarray, prompt: str, target_word: str | None, *, model: Any, processor: Any = None
) -> list[tuple[int, float]]:
    """(percentile, drop of the word's probability) with the map's top 10, 20, 30, 50, 70 and 90 % of the cells blurred.

    Probabilities in place of log-probabilities; exactly that share of the cells, by rank. Its area is
    `deletion_auc_spec`; random maps, which it must be read beside, are `run_faithfulness_validation`'s.
    """
    reading, aim, grid = _asked(model, processor, image, prompt, target_word, attention_map)
    curve = erasure.deletion_curve(reading, aim, grid, steps=_TENTHS)
    return _at_percentiles(curve.fractions, curve.values[0] - curve.values, grid.size)


def insertion_curve(
    image: Any, attention_map: np.ndarray, prompt: str, target_word: str | None, *, model: Any, processor: Any = None
) -> list[tuple[int, float]]:
    """(percentile, probability of the word) with the map's top cells revealed in the blurred film; area: `…_auc_spec`.

    The blur is 10 pixels at 224 x 224, scaled to the film as the model sees it.
    """
    reading, aim, grid = _asked(model, processor, image, prompt, target_word, attention_map)
    curve = erasure.insertion_curve(reading, aim, grid, steps=_TENTHS)
    return _at_percentiles(curve.fractions, curve.values, grid.size)


def comprehensiveness(
    image: Any,
    attention_map: np.ndarray,
    prompt: str,
    target_word: str | None,
    k: float = K_PERCENT,
    *,
    model: Any,
    processor: Any = None,
) -> float:
    """Probability lost without the top k %: [-1, 1], higher is better (DeYoung 2020); no ratio of log-probabilities."""
    return erasure.comprehensiveness(*_asked(model, processor, image, prompt, target_word, attention_map), k=k)


def sufficiency(
    image: Any,
    attention_map: np.ndarray,
    prompt: str,
    target_word: str | None,
    k: float = K_PERCENT,
    *,
    model: Any,
    processor: Any = None,
) -> float:
    """Probability lost with the top k % alone: [-1, 1], LOWER is better (DeYoung 2020).

    A ratio of log-probabilities, as specified, would score a worse region higher.
    """
    return erasure.sufficiency(*_asked(model, processor, image, prompt, target_word, attention_map), k=k)


def _model(model: Any, processor: Any = None) -> Model:
    """The model as the package wants it; a `Model` with its own processor is taken as it is."""
    if not isinstance(model, Model):
        return model_of(model, processor)
    if processor is not None and processor is not model.processor:
        raise InputError("The processor is not the one that the model was loaded with; leave it out, or give its own.")
    return model


def _read(model: Any, processor: Any, image: Any, prompt: str) -> Reading:
    validate_inputs(image, prompt)
    return read(_model(model, processor), open_image(image), check_question(prompt))


def _asked(
    model: Any, processor: Any, image: Any, prompt: str, target_word: str | None, attention_map: np.ndarray
) -> tuple[Reading, Aim, np.ndarray]:
    """What every question about a map begins with."""
    reading = _read(model, processor, image, prompt)
    return reading, resolve(reading, _target(target_word)), np.asarray(attention_map)


def _target(word: str | None) -> str | None:
    """Always the words themselves: "answer" or "token:3" typed as a target word is no kind of target here."""
    return None if word is None or not word.strip() else f"phrase:{check_target(word)}"


def _explained(reading: Reading, case: Case, word: str, method: str) -> verbs.Analysis:
    """The map of one word, or the reason why there is none, with what must be known to read it."""
    aim = resolve(reading, f"phrase:{check_target(word)}")
    heatmap = explain_or_say_why(reading, aim, method, {})
    said = verbs.noticed(reading, case, heatmap.target)
    scores = verbs.score(heatmap, case) if heatmap.available else Scores()
    model, digest = verbs.about(reading.model), digest_of(reading.image)
    return verbs.Analysis(case, said, heatmap, scores, None, digest, model, heatmap.seconds, reading)


def _target_words(given: Sequence[str] | str) -> list[str]:
    """Each word once, in order.

    Raises:
        InputError: There is none.
    """
    listed = given.split(",") if isinstance(given, str) else list(given)
    words = list(dict.fromkeys(word.strip() if isinstance(word, str) else word for word in listed))
    found = [word for word in words if word != ""]
    if not found:
        raise InputError("No target word was given; name one or more, such as 'effusion'.")
    return found


def _told(found: Mapping[str, verbs.Analysis], verdicts: Mapping[str, Trust]) -> str:
    """The answer, a line for each word, and what must be known to read them, each notice once."""
    answer = next(iter(found.values())).answer
    sure = "" if answer.p_yes is None else f", p(yes) {answer.p_yes:.3f}"
    lines = [f"Answer: {answer.text} ({answer.label}{sure})"]
    for word, one in found.items():
        verdict = f"{one.heatmap.method}; {verdicts[word].word}: {verdicts[word].reasons[0]}"
        lines.append(f"{word}: {verdict if one.heatmap.available else f'{UNAVAILABLE}: {_reasons(one.heatmap)}'}")
    return "\n".join([*lines, *dict.fromkeys(one.answer.notice for one in found.values() if one.answer.notice)])


def _tell(answer: Answer) -> None:
    """What a reader must know before believing the answer; the specification's tuples have no place for it."""
    if answer.notice:
        logger.warning(answer.notice)


def _reasons(heatmap: Heatmap) -> str:
    return "; ".join(f"{name}: {reason}" for name, reason in heatmap.fallbacks.items())


def _table(measured: Faithfulness) -> list[MetricsRow]:
    return [
        MetricsRow(key, one.value, one.threshold, one.chance, _status(one, measured.comparisons.get(key)))
        for key, one in measured.scores.items()
    ]


def _status(score: Score, against: Comparison | None) -> str:
    if score.value is None or against is None:
        return score.verdict or score.reason
    if against.mute:
        return f"says nothing: {against.imputer} changes next to nothing"
    return score.verdict or "better than random"  # what does not beat random maps has that verdict already


def _as_score(name: str, value: Score | float | str) -> Score:
    if isinstance(value, Score):
        return value
    if name not in DIRECTIONS:
        raise InputError(f"{name!r} is no score of a map; known: {', '.join(DIRECTIONS)}.")
    return Score(name, value) if isinstance(value, str) else scored(name, value, DIRECTIONS[name])


def _at_percentiles(fractions: np.ndarray, values: np.ndarray, n: int) -> list[tuple[int, float]]:
    found = np.interp(shares_of(SPEC_PERCENTS, n), fractions, values)
    return list(zip(SPEC_PERCENTS, found.tolist(), strict=True))


def _refuse_other_device(model: Model, device: Any) -> None:
    import torch

    wanted = torch.device(device)
    if wanted.type != model.device.type or wanted.index not in (None, model.device.index):
        raise InputError(f"The model is on {model.device}, not on {wanted}; load it there, or leave the device out.")


__all__ = [
    "MIMICFixedTokenApp",
    "checkerboard_test",
    "cleanup_memory",
    "comprehensiveness",
    "compute_attention_metrics",
    "create_comparison_plot",
    "create_metrics_visualization",
    "create_token_attention_overlay_robust",
    "deletion_curve",
    "ensure_numerical_stability",
    "extract_answer",
    "extract_cross_attention",
    "factor_to_grid",
    "find_target_tokens_with_offsets",
    "generate_prompt_variations",
    "get_attention_with_fallback",
    "gradcam_multi_token",
    "insertion_curve",
    "interpret_js_divergence",
    "jensen_shannon_divergence",
    "model_randomization_test",
    "model_view_image",
    "overlay_attention_enhanced",
    "process_prompt",
    "select_best_gpu",
    "simple_activation_attention",
    "strip_border_tokens",
    "sufficiency",
    "tight_body_mask",
    "validate_inputs",
]
