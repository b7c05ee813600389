"""The public verbs: one function for each thing a person wants, thin over the rooms that do the work."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medgemma_visualizer import runs
from medgemma_visualizer.checks import robustness
from medgemma_visualizer.checks.compare import Asked, Comparison, compare_prompts
from medgemma_visualizer.checks.context import other_films, other_finding, text_of
from medgemma_visualizer.checks.perturbations import PERTURBATIONS
from medgemma_visualizer.checks.prompts import Variation, generate_prompt_variations
from medgemma_visualizer.checks.trust import Trust, judge
from medgemma_visualizer.checks.whole import Check, check_map
from medgemma_visualizer.data.photo import grayscale, picture
from medgemma_visualizer.data.questions import QuestionSet
from medgemma_visualizer.data.sources import is_demo_film, load_cases
from medgemma_visualizer.errors import InputError
from medgemma_visualizer.figures import Tile, contact_sheet, overlay, overlay_array, scores_figure
from medgemma_visualizer.figures import comparison as comparison_figure
from medgemma_visualizer.figures.perturbations import perturbations_figure
from medgemma_visualizer.grid import coverage
from medgemma_visualizer.heatmaps import METHODS, explain, explain_reading, token_maps
from medgemma_visualizer.heatmaps.targets import ScoreFunction, phrase_was_said
from medgemma_visualizer.models.adapter import Model
from medgemma_visualizer.models.loading import load_model
from medgemma_visualizer.models.reading import Reading, read
from medgemma_visualizer.records import Answer, Case, Heatmap, Score, Scores, Target
from medgemma_visualizer.reports import cases_to_show, league_page, shown_methods, token_page
from medgemma_visualizer.reports.export import Level
from medgemma_visualizer.reports.run import write_run_page
from medgemma_visualizer.runs import Built, League, start
from medgemma_visualizer.runs.local import Outcome
from medgemma_visualizer.runs.plan import RunPlan, checked_plan
from medgemma_visualizer.runs.work import Load
from medgemma_visualizer.scores.body import body_mask
from medgemma_visualizer.scores.localisation import localisation_scores
from medgemma_visualizer.scores.quality import quality_scores
from medgemma_visualizer.scores.verdict import lift
from medgemma_visualizer.settings import MODEL_CONFIG, RECOMMENDED_METHOD

if TYPE_CHECKING:
    from PIL.Image import Image

#: What the embedded model's answer about any other picture must be read with.
DEMO_NOTICE = (
    "The embedded model knows simulated films only: this answer means nothing clinically. "
    "For real radiographs load MedGemma: --model google/medgemma-4b-it, or the folder of its weights."
)
#: Why no map of such an answer is to be trusted.
FOREIGN_FILM = "the embedded model knows simulated films only, and this is none of them"


def answer(model: Model, case: Case, *, max_new_tokens: int = MODEL_CONFIG["max_new_tokens"]) -> Answer:
    """Asks the model the case's question.

    Raises:
        InputError: The image cannot be read, or the question is longer than the model can read.
    """
    return noticed(_read(model, case, max_new_tokens), case)


def score(heatmap: Heatmap, case: Case, body: np.ndarray | None = None) -> Scores:
    """What a map is worth on its face, each number with its chance level.

    Quality of the raw map against the body (definitions: map quality), and against the finding's region where the case
    has one: pointing game ("hit or miss"), relevance mass and rank, ROC-AUC.

    Args:
        body: `body_mask` of the case's film, bool (height, width), where it has been found already.

    Raises:
        InputError: The heatmap says "no explanation available"; such a map is never scored.
    """
    return _scored(heatmap, case, body_mask(grayscale(picture(case))) if body is None else body)


def _scored(heatmap: Heatmap, case: Case, body: np.ndarray) -> Scores:
    scores = quality_scores(heatmap.map, body, case.view)
    if case.region is not None:
        scores |= localisation_scores(heatmap.map, case.region)
    return Scores(scores)


def draw(heatmap: Heatmap, case: Case, **style: Any) -> Image:
    """The map over the film, with a colour bar in the map's own numbers.

    Args:
        **style: As in `figures.overlay` (answer, alpha, colormap, grid_lines, interpolation, …). The contour of the
            finding asked about is drawn where it is known.
    """
    image = picture(case)
    told = {"question": case.question, "view": case.view, "outline": case.region} | style
    return overlay(image, heatmap, body_mask(grayscale(image)), **told)


@dataclass(frozen=True)
class Analysis:
    """Everything about one case.

    Attributes:
        case: What was asked.
        answer: What the model said.
        heatmap: Where it looked.
        scores: What the map is worth on its face; empty where no explanation is available.
        correct: Whether the label equals the truth; None where there is no truth.
        image_digest: First sixteen hex digits of the SHA-256 of the picture's pixels, in place of any path.
        model: Name, revision, device, number format and grid.
        seconds: Time from the read image to the scores.
        reading: The picture and question as read, for whoever asks more of them.
    """

    case: Case
    answer: Answer
    heatmap: Heatmap
    scores: Scores
    correct: bool | None
    image_digest: str
    model: dict[str, Any]
    seconds: float
    reading: Reading = field(repr=False, compare=False)


def analyze(
    model: Model,
    case: Case,
    *,
    method: str | None = None,
    target: str | ScoreFunction | None = None,
    max_new_tokens: int = MODEL_CONFIG["max_new_tokens"],
    image_first: bool = True,
    **options: Any,
) -> Analysis:
    """Answer, map and scores of one case; the picture is encoded once.

    Args:
        method: A name of `METHODS`, or "auto"; `recommended_method(model)` where None.

    Raises:
        InputError: Unusable image, question, target or method.
        UnavailableError: The method that was named cannot explain this target.
    """
    start = time.perf_counter()
    reading = _read(model, case, max_new_tokens, image_first)
    heatmap = explain_reading(reading, method or recommended_method(model), target, **options)
    said = noticed(reading, case, heatmap.target)
    scores = score(heatmap, case) if heatmap.available else Scores()
    return _analysis(case, said, heatmap, scores, reading, time.perf_counter() - start)


def recommended_method(model: Model) -> str:
    """The method to ask where nobody chose one: the best of the league table of this very model.

    A model without a league of its own gets the best of the embedded model's (`settings.RECOMMENDED_METHOD`): a guess
    that its map says aloud, since it is then trusted "with care" at most.

    Raises:
        InputError: The league table that is there cannot be read.
    """
    league = runs.league_of(model)
    return (league and league.best) or RECOMMENDED_METHOD


def _analysis(case: Case, said: Answer, heatmap: Heatmap, scores: Scores, reading: Reading, seconds: float) -> Analysis:
    correct = None if case.truth is None else said.label.casefold() == case.truth.casefold()
    digest = hashlib.sha256(np.asarray(reading.image).tobytes()).hexdigest()[:16]
    return Analysis(case, said, heatmap, scores, correct, digest, about(reading.model), seconds, reading)


def check(
    model: Model,
    case: Case,
    *,
    method: str | None = None,
    target: str | ScoreFunction | None = None,
    options: Mapping[str, Any] | None = None,
    **how: Any,
) -> Check:
    """Explains one case and asks whether that map tells the truth: faithfulness, sanity, and whether to trust it.

    Args:
        options: Of the method.
        **how: As in `checks.whole.check_map`: imputers, space, seed, seeds, sanity, full_sanity, …

    Raises:
        InputError: Unusable image, question, target, method, imputer or number.
        UnavailableError: The method that was named cannot explain this target.
    """
    analysis = analyze(model, case, method=method, target=target, **(options or {}))
    return check_analysis(analysis, target, options=options, **how)


def check_analysis(analysis: Analysis, target: str | ScoreFunction | None = None, **how: Any) -> Check:
    """As `check`, for an analysis that has been made with that target."""
    said, heatmap = analysis.answer, analysis.heatmap
    return check_map(analysis.reading, analysis.case, said, heatmap, target, **_known_of(analysis), **how)


def trust_of(analysis: Analysis) -> Trust:
    """Whether to trust a map that was not checked itself: what the league table of this very model says of its method.

    Raises:
        InputError: The league table that is there cannot be read.
    """
    return judge(analysis.heatmap, **_known_of(analysis))


def _known_of(analysis: Analysis) -> dict[str, Any]:
    """What is known of a map without asking the model: its method's place, and what speaks against the answer."""
    league = runs.league_of(analysis.reading.model)
    return {
        "place": None if league is None else league.place(analysis.heatmap.method),
        "reference": "" if league is None else league.reference,
        "against": (FOREIGN_FILM,) if DEMO_NOTICE in analysis.answer.notice else (),
    }


def compare(
    model: Model,
    case: Case,
    prompts: Sequence[str | Variation] | None = None,
    *,
    method: str | None = None,
    target: str | ScoreFunction | None = None,
    others: Sequence[Case] | None = None,
    other_question: str | None = None,
    max_new_tokens: int = MODEL_CONFIG["max_new_tokens"],
    image_first: bool = True,
    **how: Any,
) -> Comparison:
    """Asks several prompts about one picture, which is read once: answers, maps, and how far they agree.

    Args:
        prompts: Two or more, as a person would type them or as `checks.prompts.variations` makes them; the
            specification's technical and simple form of the case's question where None.
        target: As of `explain`; None explains each prompt's own answer.
        others: Cases whose pictures are asked the first prompt, for context; other embedded films where None and the
            case is embedded, else none.
        other_question: About another finding, for context; made from the first prompt where None and it is understood.
        **how: As in `checks.compare.compare_prompts` (labels, context, seed), and options of the method.

    Raises:
        InputError: Unusable image, prompts, target or method, or a question that the two forms cannot say.
    """
    if method == "auto":
        raise InputError("With 'auto' two prompts could get maps of different methods. Name one; see `methods`.")
    if prompts is None:
        prompts = generate_prompt_variations(case.question)
        how = {"labels": ("technical", "simple")} | how
    given = other_films(case) if others is None else others
    asked = replace(case, question=text_of(prompts[0]) if prompts else case.question, options=_choices(case))
    comparison = compare_prompts(
        _read(model, asked, max_new_tokens, image_first),
        prompts,
        method=method or recommended_method(model),
        target=target,
        other_pictures=[picture(other) for other in given],
        other_finding=other_question or other_finding(asked.question),
        **how,
    )
    body = coverage(body_mask(grayscale(picture(case))), *model.grid)  # once for all maps, which share a grid
    known = _known(model, picture(case))
    return replace(comparison, prompts=tuple(_judged(one, case, body, known) for one in comparison.prompts))


def _choices(case: Case) -> tuple[str, ...]:
    """What prompts about the case's picture may be answered with: its options, and yes or no."""
    yes_no = {"yes", "no"} & {option.casefold() for option in case.options}
    return case.options if not case.options or yes_no else (*case.options, "yes", "no")


def _judged(asked: Asked, case: Case, body: np.ndarray, known: bool) -> Asked:
    """With what must be known to read the answer, and the scores of the map."""
    assert asked.reading is not None
    own = case if asked.question == case.question else case.asking(asked.question)
    scores = _scored(asked.heatmap, own, body) if asked.heatmap.available else Scores()
    return replace(asked, answer=_noticed(asked.reading, known, asked.heatmap.target, case.notice), scores=scores)


def analysis_of(comparison: Comparison, case: Case) -> Analysis:
    """The first prompt of a comparison of this case, as `analyze` would give it."""
    first = comparison.prompts[0]
    assert first.reading is not None
    own = case if first.question == case.question else case.asking(first.question)
    return _analysis(own, first.answer, first.heatmap, first.scores, first.reading, comparison.seconds)


def draw_comparison(comparison: Comparison, case: Case, **style: Any) -> Image:
    """The maps of a comparison and their differences; style as in `figures.comparison`."""
    image = picture(case)
    grids = [one.heatmap.grid for one in comparison.prompts]
    labels = [f"{one.label}: {one.question} – {one.answer.text}" for one in comparison.prompts]
    body = body_mask(grayscale(image))
    return comparison_figure(grids, labels, comparison.js, image=image, body_mask=body, **style)


def disturb(
    analysis: Analysis,
    perturbations: Sequence[str] | None = None,
    target: str | ScoreFunction | None = None,
    **how: Any,
) -> robustness.Robustness:
    """Asks an analysis's question of disturbed copies of its film: do noise or a slight move change answer or map?

    Args:
        perturbations: Names of `checks.perturbations.PERTURBATIONS`; all where None.
        target: That of the analysis.
        **how: As in `checks.robustness.disturb` (strengths, seeds, avoid, seed), and the method's own options.

    Raises:
        InputError: An unknown name, strength or option; or a map by "auto", whose method may change from film to film.
    """
    method = analysis.heatmap.requested
    if method == "auto":
        raise InputError("With 'auto' two films could get maps of different methods. Name one; see `methods`.")
    how = {"avoid": analysis.case.region} | how
    return robustness.disturb(analysis.reading, perturbations=perturbations, method=method, target=target, **how)


def draw_perturbations(found: robustness.Robustness, question: str = "") -> Image:
    """Drift of answer and map against the strength of what disturbed the film.

    Raises:
        InputError: No disturbed film was asked, so that there is nothing to draw.
    """
    told = f"{question} {found.answer.text} — map by {found.heatmap.requested}, target {found.heatmap.target.text}"
    labels = {name: PERTURBATIONS[name].label for name in found.levels}
    units = {name: PERTURBATIONS[name].unit for name in found.levels}
    return perturbations_figure(found.levels, labels, units, title=told)


def trust(model: Model, cases: Sequence[Case] | None = None, **how: Any) -> League:
    """The league table of this very model: which methods' maps find the cause of its answers.

    Args:
        cases: The embedded ones where None.
        **how: As in `runs.trust`: methods, number, probe ("regions" or "planted"), imputers, seed, workers, …

    Raises:
        InputError: A name or number that does not fit.
        UnavailableError: No answer is known to be owed to a planted mark.
        VisualizerError: No case could be measured.
    """
    found = load_cases() if cases is None else cases
    return runs.trust(model, found, **how).league


def run(
    model: Model,
    cases: Sequence[Case],
    out: Path | str,
    *,
    methods: Sequence[str] | None = None,
    workers: int = 1,
    loads: Sequence[Load] = (),
    shard_size: int | None = None,
    shard: str | None = None,
    **asked: Any,
) -> Outcome:
    """Asks every case of a set and keeps all of it in a folder; one that was begun is gone on with.

    Args:
        out: The folder.
        methods: Names of `METHODS`; `recommended_method(model)` where None.
        workers: Processes; the results are the same for any number.
        loads: Each loads a worker's own model; needed for more than one.
        shard_size: Cases that one file holds; by the number of cases where None.
        shard: "i/n": only this job's share.
        **asked: As in `runs.plan.RunPlan`: checks, prompts, target, imputers, space, steps, seed, batch, …

    Raises:
        InputError: A name or number that does not fit, or a folder that holds another run.
        VisualizerError: The disk is full, a worker ended, or nothing but failures.
    """
    plan = checked_plan(RunPlan(tuple(methods or (recommended_method(model),)), **asked))
    about: dict[str, Any] = {}
    if isinstance(cases, QuestionSet):
        about = {"source": cases.source, "left_out": cases.reasons, "notes": cases.notes}
    engine = start.local(model, plan, workers, loads)
    return start.run(engine, cases, Path(out), plan, shard_size=shard_size, shard=shard, **about)


def report(folder: Path | str, path: Path | str | None = None, *, level: str = "aggregate", **how: Any) -> Path:
    """Writes the page of a run: one HTML file that opens without a network.

    Args:
        folder: Of the run.
        path: The file; report.html in the folder where None.
        level: "aggregate", "pseudonymous" or "full"; see `reports.export.LEVELS`.
        **how: As in `reports.run.write_run_page`: cases, against, seed.

    Raises:
        InputError: No run, a damaged part, or no such level.
    """
    target = Path(folder) / "report.html" if path is None else Path(path)
    return write_run_page(Path(folder), target, level=Level(level), **how)


def draw_league(built: Built) -> str:
    """A self-contained HTML page of a league, with the best and worst cases of a few methods as pictures."""
    shown = cases_to_show(built.rows, shown_methods(built.league))
    pictures = {
        (one.method, one.case_id): _case_drawn(built.cases[one.case_id], built.maps[one.case_id][one.method])
        for one in shown
    }
    return league_page(built.league, built.rows, pictures)


def _case_drawn(case: Case, grid: np.ndarray) -> Image:
    """A map over its film without words, the region outlined."""
    from PIL.Image import fromarray

    image = picture(case)
    return fromarray(overlay_array(image, grid, body_mask(grayscale(image)), outline=case.region))


def draw_all(heatmaps: Mapping[str, Heatmap], case: Case, **style: Any) -> Image:
    """A contact sheet: the film under every method's map, with the scores that a reader compares first.

    Where the finding's region is known: pointing game, relevance mass ÷ chance and ROC-AUC. Elsewhere: the share inside
    the body and the normalised entropy, each with its chance level in brackets.
    """
    image = picture(case)
    body = body_mask(grayscale(image))
    tiles = [
        Tile(METHODS[name].label, heatmap, _caption(heatmap, case, body), "; ".join(heatmap.fallbacks.values()))
        for name, heatmap in heatmaps.items()
    ]
    return contact_sheet(image, tiles, body, **style)


def draw_tokens(analysis: Analysis, method: str, **options: Any) -> str:
    """A self-contained HTML page with every generated token of an analysis and its map; options go to the method."""
    image = analysis.reading.image
    maps = token_maps(analysis.reading, method, **options)
    return token_page(image, analysis.case.question, analysis.answer, maps, body_mask(grayscale(image)))


def _caption(heatmap: Heatmap, case: Case, body: np.ndarray) -> str:
    """What a reader compares first: against the finding's region where it is known, else on the map's face."""
    spent = f"{heatmap.seconds:.2f} s"
    if not heatmap.available:
        return spent
    if case.region is None:
        return " · ".join([*_on_its_face(quality_scores(heatmap.map, body, case.view)), spent])
    scores = localisation_scores(heatmap.map, case.region)
    parts = [f"AUC {scores['roc_auc'].value:.2f}", spent]
    mass = lift(scores["relevance_mass"])
    if mass is not None:
        parts.insert(0, f"mass {mass:.1f} × chance")
    return " · ".join([f"{'hit' if scores['pointing_game'].value == 1 else 'miss'}", *parts])


def _on_its_face(scores: Mapping[str, Score]) -> list[str]:
    """Share inside the body and spread, each with its chance level."""
    names = {"inside_body_ratio": "in body", "normalized_entropy": "spread"}
    return [f"{word} {scores[name].value:.2f} ({scores[name].chance:.2f})" for name, word in names.items()]


def about(model: Model) -> dict[str, Any]:
    """Which model computed a result, and on what."""
    rows, cols = model.grid
    return {
        "name": model.name,
        "revision": model.revision,
        "device": str(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "grid": [rows, cols],
    }


def noticed(reading: Reading, case: Case, explained: Target | None = None) -> Answer:
    """The answer with what must be known to read it, such as that the embedded model was shown a foreign film.

    Args:
        explained: What a map explains. Yes against no is warned of where the model says neither, and so is a phrase
            that the model did not say.
    """
    return _noticed(reading, _known(reading.model, reading.image), explained, case.notice)


def _known(model: Model, image: Image) -> bool:
    """Whether the model may know such films."""
    return not model.is_demo or is_demo_film(image)


def _noticed(reading: Reading, known: bool, explained: Target | None = None, of_film: str = "") -> Answer:
    notices = ([of_film] if of_film else []) + ([] if known else [DEMO_NOTICE])
    said, kind = reading.answer, "" if explained is None else explained.kind
    if not reading.prompt.image_first:
        notices.append("The question precedes the image, so nothing in the question can depend on the image.")
    weighed = said.label in ("yes", "no") or kind in ("contrast", "p_yes")
    if weighed and said.p_yes_no_mass is not None and said.p_yes_no_mass < 0.5:
        held = f"Yes and no together hold only {said.p_yes_no_mass:.1%} of the probability"
        notices.append(f"{held}; p_yes, and a map of yes against no, say little.")
    if explained is not None and kind == "phrase" and not phrase_was_said(reading, explained):
        notices.append(f"The model did not say {explained.text!r}: the map shows what would speak for it if it had.")
    if not said.stopped:
        notices.append(f"The answer was cut off after {len(said.tokens)} tokens.")
    return replace(said, notice=" ".join(notices))


def _read(model: Model, case: Case, max_new_tokens: int, image_first: bool = True) -> Reading:
    return read(
        model,
        picture(case),
        case.question,
        options=case.options,
        image_first=image_first,
        max_new_tokens=max_new_tokens,
    )


__all__: Sequence[str] = (
    "analyze",
    "answer",
    "check",
    "compare",
    "draw",
    "explain",
    "load_cases",
    "load_model",
    "report",
    "run",
    "score",
    "scores_figure",
)
