"""Tab 1: a case and a question become an answer, a map, scores and a verdict; two of them can be pinned and compared.

Knows which case is meant and what is to be said of a result; the asking is the public verbs'. Truth is known only of an
untouched stored pair of film and question.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from medgemma_visualizer import verbs
from medgemma_visualizer.app import words
from medgemma_visualizer.app.actions import copies
from medgemma_visualizer.app.desk import Cancelled, Desk, Progress
from medgemma_visualizer.app.parts import Safe, download, downloads, facts, note, one_file, picture, png, table
from medgemma_visualizer.app.session import Session, Settings
from medgemma_visualizer.app.viewer import LOOK, Film, film_of, view
from medgemma_visualizer.checks.trust import DISTRUST, UNCHECKED, Trust
from medgemma_visualizer.data.findings import FINDINGS
from medgemma_visualizer.data.inputs import check_question, check_target
from medgemma_visualizer.data.photo import ALLOW_LATERAL, check_picture_path, is_dicom, open_image
from medgemma_visualizer.data.questions import QuestionSet
from medgemma_visualizer.errors import InputError, UnavailableError, VisualizerError
from medgemma_visualizer.heatmaps import METHODS, TextSide, explain_words
from medgemma_visualizer.records import Answer, Case, Heatmap, Score, Scores
from medgemma_visualizer.scores.agreement import agreement_scores
from medgemma_visualizer.settings import QUICK_METHOD, VIZ_CONFIG
from medgemma_visualizer.telling.analysis import document, score_as_document, target_of, words_as_document

if TYPE_CHECKING:
    from medgemma_visualizer.models.adapter import Model
    from medgemma_visualizer.verbs import Analysis

#: Methods of one or two passes, which no visitor has to wait for; all others are long work.
QUICK = (
    "relevance",
    "cross_attention",
    "attention_rollout",
    "activation_norm",
    "gradcam_multi_token",
    "gradcam_single",
    "hires_cam",
    "gradient_norm",
    "token_gradient",
    "tam",
)
#: Colour maps of the menu; all but the last are perceptual and safe for colour-blind eyes.
COLOUR_MAPS = (VIZ_CONFIG["colormap"], "viridis", "cividis", "magma", VIZ_CONFIG["colormap_of_the_specification"])


@dataclass(frozen=True)
class Preset:
    """How much is asked at once.

    Attributes:
        label: For people.
        tells: What it does.
        method: Asked where the visitor named none; None is the best of the loaded model's league table.
        words: Whether the question's words are weighed beside the picture.
        check: Whether the map itself is checked.
    """

    label: str
    tells: str
    method: str | None
    words: bool = False
    check: bool = False


PRESETS = {
    "quick": Preset("Quick", words.PRESET_QUICK, QUICK_METHOD),
    "paper": Preset("Paper", words.PRESET_PAPER, None, words=True),
    "audit": Preset("Audit", words.PRESET_AUDIT, None, words=True, check=True),
}


@dataclass(frozen=True)
class Found:
    """What one press of Analyse came to.

    Attributes:
        analysis: Answer, map and scores.
        trust: The verdict: of the checks where they were made, else of the league table.
        words: What the question's words weigh; None where not asked, or where neither side changes the score.
        check: The checks of this very map; None where not asked.
        preset: What was asked.
        target: As asked; None for yes against no, or the answer.
    """

    analysis: Analysis
    trust: Trust
    words: TextSide | None
    check: Any
    preset: str
    target: str | None = None


# --- which case is meant ---------------------------------------------------------------------------------------------


def choices(cases: Sequence[Case]) -> list[tuple[str, str]]:
    """(label, id) of every case; labels are unique, as they carry the case's number."""
    return [(f"{number}. {case.question} [{_film_name(case)}]", case.id) for number, case in enumerate(cases, 1)]


def _film_name(case: Case) -> str:
    return Path(case.image).stem if isinstance(case.image, str | Path) else "picture"


def case_by_id(cases: QuestionSet, name: str | None) -> Case:
    """The stored case.

    Raises:
        InputError: No such case.
    """
    found = next((case for case in cases if case.id == name), None)
    if found is None:
        raise InputError("No such case. Choose one from the list of questions.")
    return found


@dataclass(frozen=True)
class CaseExample:
    """A case to click, told by what it shows, so that it is found again in another set of embedded films.

    Attributes:
        label: For people.
        question: Asked of it.
        truths: One of these is the right answer.
        clear: Whether the film shows no finding.
    """

    label: str
    question: str
    truths: tuple[str, ...]
    clear: bool = False


EXAMPLES = (
    CaseExample(words.EXAMPLE_EFFUSION, "Is there a pleural effusion?", ("yes",)),
    CaseExample(words.EXAMPLE_SIDE, "Where is the pneumothorax?", ("left", "right")),
    CaseExample(words.EXAMPLE_CLEAR, "Is there evidence of pneumonia?", ("no",), clear=True),
    CaseExample(words.EXAMPLE_MARK, "Is there an arrow on the film?", ("yes",)),
)


def examples(cases: QuestionSet) -> list[tuple[str, str]]:
    """(label, id) of a few cases to click; none where other cases than the embedded ones are loaded."""
    embedded = [case for case in cases if copies.embedded(case)]
    found = ((one.label, next((case.id for case in embedded if _shows(case, one)), None)) for one in EXAMPLES)
    return [(label, name) for label, name in found if name is not None]


def _shows(case: Case, example: CaseExample) -> bool:
    asked = case.question == example.question and case.truth in example.truths
    return asked and not (example.clear and set(case.regions) & set(FINDINGS))


def neighbour(cases: QuestionSet, name: str | None, step: int) -> str:
    """The id of the case `step` further on, round the end."""
    ids = [case.id for case in cases]
    return ids[(ids.index(name) + step) % len(ids)] if name in ids else ids[0]


def choose(session: Session, cases: QuestionSet, name: str | None) -> Case:
    """Takes a stored case; an upload is put aside."""
    session.stored, session.upload = case_by_id(cases, name), None
    return session.stored


def take_upload(session: Session, path: str) -> Case:
    """Reads a visitor's picture and removes its file at once, whether it can be used or not.

    Raises:
        InputError: It cannot be read whole, or is no frontal radiograph; names the file as the visitor does.
    """
    name = os.path.basename(path)
    try:
        session.upload = _read(path)
    except InputError as error:
        told = str(error).replace(repr(path), repr(name)).replace(path, name)
        raise InputError(told.replace(ALLOW_LATERAL, words.FRONTAL)) from None
    finally:
        _remove(path)
    return session.upload


def _read(path: str) -> Case:
    if is_dicom(check_picture_path(path)):
        from medgemma_visualizer.data.dicom import read_dicom  # loads pydicom

        film = read_dicom(path)
        told: dict[str, Any] = {"view": film.view, "rendering": film.rendering, "notice": " ".join(film.notices)}
        return Case(id="upload", image=film.picture.convert("RGB"), question="", **told)
    return Case(id="upload", image=open_image(path), question="")


def _remove(path: str) -> None:
    file = Path(path)
    file.unlink(missing_ok=True)
    if not any(file.parent.iterdir()):
        file.parent.rmdir()


def asked(session: Session, question: str) -> Case:
    """The case that film and question make: the stored one only where neither was touched.

    Raises:
        InputError: No film, or an unusable question.
    """
    typed = check_question(question)
    if session.upload is not None:
        return replace(session.upload, question=typed)
    if session.stored is None:
        raise InputError("There is no film yet. Choose a question from the list, or upload a radiograph.")
    return session.stored if typed == session.stored.question else session.stored.asking(typed)


def truth_shown(session: Session, question: str) -> str:
    """The stored answer, as long as film and question are the stored ones; else ""."""
    stored = session.stored
    untouched = stored is not None and session.upload is None and question.strip() == stored.question
    return (stored.truth or "") if untouched and stored is not None else ""


# --- asking ----------------------------------------------------------------------------------------------------------


def method_of(model: Model, settings: Settings) -> str:
    """The method that these settings mean."""
    return settings.method or PRESETS[settings.preset].method or verbs.recommended_method(model)


def is_quick(model: Model, settings: Settings) -> bool:
    """Whether nobody has to wait: one or two passes, no checks."""
    preset = PRESETS[settings.preset]
    return method_of(model, settings) in QUICK and not preset.words and not preset.check


def analyse(
    desk: Desk, session: Session, case: Case, settings: Settings, *, turning: bool = False, request: int | None = None
) -> Iterator[Progress | Found]:
    """Asks; quick work gives its result at once, long work its progress before. The session then is about this case.

    The last one that a visitor asks for wins: those before it end without a result.

    Args:
        desk, session, case, settings: Whom to ask, for whom, what and how.
        turning: Whether the visitor turns to this stored case; the next key then goes on from it.
        request: The number of the request for it; None where it is asked for now.

    Raises:
        InputError: Unusable film, question, method or target.
        UnavailableError: The method cannot explain this target.
        Cancelled: The visitor called it off.
        Superseded: The visitor asked for another analysis meanwhile.
    """
    target = settings.target or None
    if target is not None:
        check_target(target)
    request = session.requests(case if turning else None) if request is None else request
    try:
        for step in _steps(desk, session, case, settings, target, request):
            if isinstance(step, Progress):
                session.still(request)
                yield step
                continue
            if turning:
                session.stored, session.upload = case, None
            yield _settled(desk, session, step)
    except (VisualizerError, Cancelled):
        session.still(request)  # what became of an analysis that nobody waits for any more concerns nobody
        raise


def _steps(
    desk: Desk, session: Session, case: Case, settings: Settings, target: str | None, request: int
) -> Iterator[Progress | Found]:
    if not is_quick(desk.model, settings):
        changes = PRESETS[settings.preset].check
        yield from session.asks(desk, lambda model: _found(model, case, settings, target), changes_weights=changes)
        return
    session.stop()
    found = desk.quick(lambda model: _found(model, case, settings, target), lambda: session.still(request))
    session.still(request)
    yield found


def _found(model: Model, case: Case, settings: Settings, target: str | None) -> Found:
    preset = PRESETS[settings.preset]
    analysis = verbs.analyze(model, case, method=method_of(model, settings), target=target)
    side = _weighed(analysis, target) if preset.words else None
    check = verbs.check_analysis(analysis, target) if preset.check and analysis.heatmap.available else None
    trust = verbs.trust_of(analysis) if check is None else check.trust
    return Found(analysis, trust, side, check, settings.preset, target)


def _weighed(analysis: Analysis, target: str | None) -> TextSide | None:
    try:
        return explain_words(analysis.reading, analysis.heatmap.method, target)
    except UnavailableError:  # neither side changes the score; the page says so in place of a share
        return None


def with_model(analysis: Analysis, model: Model) -> Analysis:
    """The analysis, its reading asked of `model` from now on: the desk's double for long work, or its model."""
    return replace(analysis, reading=replace(analysis.reading, model=model))


def _settled(desk: Desk, session: Session, found: Found) -> Found:
    """Makes it what the session is about; whoever asks more of it next asks the quick model."""
    settled = replace(found, analysis=with_model(found.analysis, desk.model))
    if found.analysis.reading.model is desk.model:
        settled = found  # what it has computed is kept
    session.took(settled.analysis)
    session.results["found"] = settled
    return settled


# --- what is shown ---------------------------------------------------------------------------------------------------


def film(session: Session) -> Film:
    """The current case's film, prepared once."""
    analysis = session.current()
    if session.film is None:
        session.film = film_of(analysis.reading.image, analysis.case.region)
    return session.film


def bare(session: Session) -> dict[str, Any]:
    """The viewer's value for an upload that has not been asked yet."""
    assert session.upload is not None
    image = session.upload.image
    assert isinstance(image, Image.Image)
    return view(film_of(image), None, description=words.FILM_ALONE, look=dict(session.settings.look))


def look_of(event: Any) -> tuple[tuple[str, Any], ...]:
    """What the viewer says of its controls, as far as there are such controls and values."""
    given = event if isinstance(event, dict) else {}
    return tuple((name, given[name]) for name, usual in LOOK.items() if isinstance(given.get(name), type(usual)))


def shown(session: Session, heatmap: Heatmap | None = None, colormap: str | None = None) -> dict[str, Any]:
    """The viewer's value for a map of the current case; its own map where None."""
    analysis = session.current()
    drawn = analysis.heatmap if heatmap is None else heatmap
    trust = trust_for(session, drawn)
    return view(
        film(session),
        drawn,
        description=words.FILM_OF.format(question=analysis.case.question, answer=analysis.answer.text),
        look=dict(session.settings.look),
        notes=notes_of(drawn, trust),
        trusted=trust.word != DISTRUST,
        colormap=colormap or COLOUR_MAPS[0],
    )


def trust_for(session: Session, heatmap: Heatmap) -> Trust:
    """The verdict on a map of the current case: that of its own checks where they were made."""
    found: Found | None = session.results.get("found")
    if found is not None and heatmap is found.analysis.heatmap:
        return found.trust
    key = f"trust {heatmap.method} {heatmap.available}"
    if key not in session.results:
        session.results[key] = verbs.trust_of(replace(session.current(), heatmap=heatmap))
    trust: Trust = session.results[key]
    return trust


def notes_of(heatmap: Heatmap, trust: Trust) -> list[str]:
    """What must be read with the colours, the verdict first."""
    if not heatmap.available:
        return [words.NO_EXPLANATION, *(f"{name}: {reason}" for name, reason in heatmap.fallbacks.items())]
    stamp = words.DO_NOT_TRUST if trust.word == DISTRUST else trust.word
    told = [f"{stamp}: {here(trust).reasons[0]}"]
    return [*told, words.TEXT_INDEPENDENT] if heatmap.text_independent else told


def here(trust: Trust) -> Trust:
    """The verdict with a next step on this page where the package names a command."""
    return replace(trust, reasons=tuple(words.UNCHECKED if r == UNCHECKED[1] else r for r in trust.reasons))


def answer_part(found: Found) -> Safe:
    """Answer, right or wrong, probability, tokens, notices, method, verdict with every reason."""
    analysis, trust = found.analysis, found.trust
    case, said, heatmap = analysis.case, analysis.answer, analysis.heatmap
    right = {None: "", True: words.RIGHT, False: words.WRONG.format(truth=case.truth)}[analysis.correct]
    rows: list[tuple[str, object]] = [
        ("Question", case.question),
        ("Answer", f"{said.text}{f' — {right}' if right else ''}"),
        ("Read as", said.label),
        ("p(yes)", probability(said)),
        ("Tokens", " ".join(f"{t.text.strip() or t.text!r} ({math.exp(t.logprob or 0):.3f})" for t in said.tokens)),
        ("Map", f"{METHODS[heatmap.method].label if heatmap.available else words.NO_EXPLANATION}"),
        ("Explains", f"{heatmap.target.text} ({heatmap.target.kind})"),
        ("Trust", f"{trust.word}: {'; '.join(here(trust).reasons)}"),
        ("Time", words.TIME.format(seconds=analysis.seconds, device=analysis.model["device"])),
    ]
    notices = said.notice if case.notice in said.notice else f"{case.notice} {said.notice}".strip()
    return Safe(facts(rows) + note(notices))


def probability(said: Answer) -> str:
    """p_yes with the mass behind it, or that the question was not answered with yes or no."""
    if said.p_yes is None or said.p_yes_no_mass is None:
        return "this model has no single token for yes and no"
    return f"{said.p_yes:.3f}, from {said.p_yes_no_mass:.1%} of the probability (undecided: 0.500)"


#: Names that a person of the original tool looks for first.
FIRST = ("regional_focus", "attention_entropy")


def scores_part(scores: dict[str, Score], caption: str) -> Safe:
    """Every score with target and chance level; regional focus and entropy first."""
    ordered = sorted(scores.values(), key=lambda score: score.name not in FIRST)
    return table([score_row(score) for score in ordered], words.SCORE_HEADINGS, caption)


def score_row(score: Score) -> tuple[object, ...]:
    """Metric, value, target, chance, which way is better, status."""
    value = words.NOT_APPLICABLE if score.value is None else score.value
    better = "" if score.direction == "none" else score.direction
    return score.name, value, target_of(score), score.chance, better, score.verdict or score.reason


def words_part(found: Found) -> Safe:
    """What the question's words weigh beside the picture; "" where that was not asked."""
    if not PRESETS[found.preset].words:
        return Safe("")
    side = found.words
    if side is None:
        return note(words.NEITHER_SIDE)
    rows = [
        (word.text.strip() or repr(word.text), float(value))
        for word, value in zip(side.words, side.values, strict=True)
    ]
    share = words.IMAGE_SHARE.format(share=side.image_share, method=side.method, score=side.score, prior=side.prior)
    return Safe(note(share) + table(rows, ("Word", "Effect" if side.signed else "Weight"), words.WORDS_CAPTION))


def check_part(found: Found) -> Safe:
    """The table of the checks and their curves; "" where they were not made."""
    if found.check is None:
        return Safe("")
    from medgemma_visualizer.telling import check as telling

    drawn = "".join(picture(image, name) for name, image in telling.pictures(found.check).items())
    return Safe(table(telling.rows(found.check), telling.HEADINGS, words.CHECK_CAPTION) + drawn)


# --- to take away ----------------------------------------------------------------------------------------------------


def command_of(analysis: Analysis, settings: Settings) -> str:
    """What makes the same result at a prompt, a line each; a picture of the visitor's own stands as IMAGE."""
    preset, model = PRESETS[settings.preset], analysis.model["name"]
    asked: dict[str, object] = {"--method": analysis.heatmap.requested, "--target": settings.target}
    lines = [copies.command("analyze", analysis.case, asked | {"--words": preset.words, "--model": model})]
    if preset.check:
        lines.insert(0, copies.command("check", analysis.case, asked | {"--model": model}))
    return "\n".join(lines)


def python_of(analysis: Analysis, settings: Settings) -> str:
    """The same in Python."""
    preset, target = PRESETS[settings.preset], settings.target
    given = {"method": analysis.heatmap.requested, "target": target}
    after = ["print(result.answer.text, result.answer.p_yes)", 'mv.draw(result.heatmap, case).save("overlay.png")']
    if preset.words:
        after.append("from medgemma_visualizer.heatmaps import explain_words")
        after.append(f"print(explain_words(result.reading, result.heatmap.method, {target!r}))")
    if preset.check:
        named = "".join(f", {name}={value!r}" for name, value in given.items() if value is not None)
        after.append(f"print(mv.check(model, case{named}).trust)")
    return copies.python("analyze", analysis.case, str(analysis.model["name"]), given, after)


def links(session: Session, heatmap: Heatmap | None = None, colormap: str | None = None) -> Safe:
    """Downloads of a map of the current case (its own where None): PNG, NPZ, JSON, CSV, and all in one HTML file."""
    analysis = session.current()
    if heatmap is not None and heatmap is not analysis.heatmap:
        scores = verbs.score(heatmap, analysis.case) if heatmap.available else Scores()
        analysis = replace(analysis, heatmap=heatmap, scores=scores)
    trust = trust_for(session, analysis.heatmap)
    image = overlay(analysis, trust, colormap or COLOUR_MAPS[0])
    name, found = analysis.heatmap.method, _asked_of(session, analysis, trust)
    as_json = json.dumps(document(analysis, _further(found)), indent=2)
    page = answer_part(found) + picture(image, analysis.case.question)
    page += scores_part(dict(analysis.scores), words.SCORES_CAPTION) if analysis.scores else ""
    page += words_part(found) + check_part(found)
    return downloads(
        (
            download(f"{name}.png", png(image), "image/png", "PNG"),
            download(f"{name}.npz", npz(analysis.heatmap), "application/octet-stream", "NPZ"),
            download("result.json", as_json.encode(), "application/json", "JSON"),
            download("scores.csv", scores_csv(analysis.scores), "text/csv", "CSV"),
            download("result.html", one_file(words.TITLE, page), "text/html", words.ONE_FILE),
        )
    )


def overlay(analysis: Analysis, trust: Trust, colormap: str = COLOUR_MAPS[0]) -> Image.Image:
    """The map as a picture by itself; one that is not to be trusted says so."""
    style = {"trust": trust} if trust.word == DISTRUST else {}
    return verbs.draw(analysis.heatmap, analysis.case, answer=analysis.answer.text, colormap=colormap, **style)


def _asked_of(session: Session, analysis: Analysis, trust: Trust) -> Found:
    """All that was asked of this map: of the case's own map what its preset asked, of another one nothing more."""
    found: Found | None = session.results.get("found")
    own = found is not None and found.analysis.heatmap is analysis.heatmap
    return found if own and found is not None else Found(analysis, trust, None, None, "quick")


def _further(found: Found) -> dict[str, Any]:
    """What a document holds beside the answer and its map."""
    told: dict[str, Any] = {"trust": {"word": found.trust.word, "reasons": list(found.trust.reasons)}}
    if found.words is not None:
        told["words"] = words_as_document(found.words)
    if found.check is not None:
        from medgemma_visualizer.telling.check import document as check_document

        told["check"] = check_document(found.check)
    return told


def npz(heatmap: Heatmap) -> bytes:
    """As `Heatmap.save` writes it."""
    buffer = io.BytesIO()
    heatmap.write(buffer)
    return buffer.getvalue()


def scores_csv(scores: dict[str, Score]) -> bytes:
    """One score a line."""
    rows = [(s.name, s.value, s.threshold, s.chance, s.direction, s.verdict, s.reason) for s in scores.values()]
    return copies.as_csv([("metric", "value", "threshold", "chance", "direction", "verdict", "reason"), *rows])


# --- A and B ---------------------------------------------------------------------------------------------------------


def pin(session: Session, name: str) -> None:
    """Keeps the current analysis as "A" or "B", with its verdict.

    Raises:
        InputError: Nothing has been analysed.
    """
    session.current()
    session.pins[name] = session.results["found"]


def compared(session: Session) -> Safe:
    """A and B beside each other: answers, probabilities, verdicts, pictures, how far the maps agree.

    Raises:
        InputError: One of them is missing.
    """
    missing = [name for name in ("A", "B") if name not in session.pins]
    if missing:
        raise InputError(f"Nothing is pinned as {' and '.join(missing)}. Analyse a case and press Pin as {missing[0]}.")
    first, second = session.pins["A"], session.pins["B"]
    rows = [(name, fact(first.analysis), fact(second.analysis)) for name, fact in _COMPARED.items()]
    rows.append(("Trust", str(here(first.trust)), str(here(second.trust))))
    pictures = "".join(picture(overlay(one.analysis, one.trust), one.analysis.case.question) for one in (first, second))
    return Safe(
        table(rows, ("", "A", "B"), words.PINS_CAPTION)
        + f'<div class="mv-pins">{pictures}</div>'
        + _agreement(first.analysis, second.analysis)
        + _pins_taken(first, second, rows)
    )


def _pins_taken(first: Found, second: Found, rows: Sequence[Sequence[object]]) -> Safe:
    """Copies and downloads of A, B and how far they agree."""
    both = {"A": first, "B": second}
    agreed = _agreed(first.analysis, second.analysis)
    made = [Settings(preset=one.preset, target=one.target) for one in both.values()]
    commands = [command_of(one.analysis, asked) for one, asked in zip(both.values(), made, strict=True)]
    lines = [python_of(one.analysis, asked) for one, asked in zip(both.values(), made, strict=True)]
    further = (
        "from medgemma_visualizer.scores.agreement import agreement_scores\n"
        "print(agreement_scores(first.heatmap.map, result.heatmap.map))\n"
    )
    told = {name: document(one.analysis, _further(one)) for name, one in both.items()}
    told["agreement"] = {name: score_as_document(score) for name, score in agreed.items()}
    scores = [[name, score.value, ""] for name, score in agreed.items()]
    links = (
        *(copies.as_png(name, overlay(one.analysis, one.trust)) for name, one in both.items()),
        copies.as_download("comparison.json", told),
        copies.as_table("comparison", [("", "A", "B"), *rows, ("How far the maps agree", "", ""), *scores]),
    )
    python = f"{lines[0]}first = result\n{lines[1]}{further if agreed else ''}"
    return copies.part(links, "\n".join(commands), python, words.NO_COMMAND_PINS)


def _agreed(first: Analysis, second: Analysis) -> dict[str, Score]:
    """How far two maps agree; nothing where one of them is missing."""
    one, other = first.heatmap.grid, second.heatmap.grid
    return {} if one is None or other is None else agreement_scores(one, other)


_COMPARED: dict[str, Any] = {
    "Question": lambda one: one.case.question,
    "Answer": lambda one: one.answer.text,
    "p(yes)": lambda one: one.answer.p_yes,
    "Right": lambda one: {None: "–", True: "yes", False: "no"}[one.correct],
    "Method": lambda one: one.heatmap.method,
    "Explains": lambda one: one.heatmap.target.text,
    "Film": lambda one: one.image_digest,
}


def _agreement(first: Analysis, second: Analysis) -> Safe:
    agreed = _agreed(first, second)
    if not agreed:
        return note(words.NO_EXPLANATION)
    return table([score_row(score) for score in agreed.values()], words.SCORE_HEADINGS, words.AGREE_CAPTION)
