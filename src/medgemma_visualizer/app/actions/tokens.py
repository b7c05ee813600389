"""Tab 2: every word of question and answer with its map, words of the visitor's own, cells, heads, and an edited film.

Knows which word is meant and what is to be said of its map; maps come from `heatmaps`, most of them for all words from
one pass. A word is told by its kind, "question", "answer" or "word" (one that the visitor typed), and its number.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from medgemma_visualizer import verbs
from medgemma_visualizer.app import words
from medgemma_visualizer.app.actions import analysis as one
from medgemma_visualizer.app.actions import copies
from medgemma_visualizer.app.actions.analysis import COLOUR_MAPS, QUICK, with_model
from medgemma_visualizer.app.actions.edits import EDITS, box_of
from medgemma_visualizer.app.desk import Cancelled, Desk, Progress
from medgemma_visualizer.app.parts import Safe, escaped, facts, note, picture, png_url, table
from medgemma_visualizer.app.session import Session, Settings, Superseded
from medgemma_visualizer.app.viewer import film_of, view
from medgemma_visualizer.checks.trust import DISTRUST
from medgemma_visualizer.data.inputs import check_target
from medgemma_visualizer.errors import InputError, VisualizerError
from medgemma_visualizer.figures import Tile, contact_sheet
from medgemma_visualizer.heatmaps import METHODS, question_maps, resolve, token_maps, words_for_cell
from medgemma_visualizer.heatmaps.explain import explain_aim, explain_or_say_why
from medgemma_visualizer.heatmaps.targets import Aim, phrase_was_said, question_token
from medgemma_visualizer.models.trace import attention_rows
from medgemma_visualizer.progress import track
from medgemma_visualizer.records import Heatmap
from medgemma_visualizer.settings import QUICK_METHOD
from medgemma_visualizer.telling.analysis import document, score_as_document

if TYPE_CHECKING:
    from medgemma_visualizer.models.adapter import Model
    from medgemma_visualizer.models.reading import Reading
    from medgemma_visualizer.verbs import Analysis

KINDS = ("question", "answer", "word")
#: Words that are explained at once.
MOST_WORDS = 12
#: Words to click, from the specification.
EXAMPLES = (
    "pneumonia, pneumonic, consolidation",
    "effusion, pleural, fluid",
    "nodule, nodules, nodular, mass",
    "calcification, calcified",
    "fracture, fractured, break",
    "cardiomegaly, enlarged, heart",
)
GRAD_CAM = "gradcam_multi_token"
#: Pixels of white at each side of a map among those of all heads.
EDGE = ((2, 2), (2, 2), (0, 0))


@dataclass(frozen=True)
class Chosen:
    """The word whose map is shown.

    Attributes:
        kind: One of `KINDS`.
        number: From 0, among those of its kind.
        method: Of its map.
        heatmap: The map.
        head: (layer, head) where the map is of one attention head.
    """

    kind: str
    number: int
    method: str
    heatmap: Heatmap
    head: tuple[int, int] | None = None


# --- which word ------------------------------------------------------------------------------------------------------


def method_for(session: Session, wanted: str, force_grad_cam: bool) -> str:
    """The method that the menu means; Grad-CAM where it is forced, the quick one where nothing is named.

    Raises:
        InputError: No such method.
    """
    name = GRAD_CAM if force_grad_cam else wanted or QUICK_METHOD
    METHODS[name]
    return name


def texts(session: Session, kind: str) -> list[str]:
    """The words of a kind, as they stand."""
    reading = session.current().reading
    if kind == "answer":
        return [token.text for token in reading.answer.tokens]
    if kind == "word":
        return list(session.results.get("words", ()))
    prompt = reading.prompt
    return [prompt.text[slice(*prompt.offsets[position])] for position in prompt.question_positions]


def aim_of(session: Session, reading: Reading, kind: str, number: int) -> Aim:
    """What the map of a word explains.

    Raises:
        InputError: No such word.
    """
    known = texts(session, kind) if kind in KINDS else []
    if not (isinstance(number, int) and 0 <= number < len(known)):
        raise InputError("There is no such word any more. Click one that stands here.")
    if kind == "answer":
        return resolve(reading, f"token:{number}")
    if kind == "word":
        return resolve(reading, target_of(reading, known[number]))
    return question_token(reading, reading.prompt.question_positions[number])


def target_of(reading: Reading, word: str) -> str:
    """A word of the question where it stands there; else a phrase, which need not have been said."""
    check_target(word)
    asked = reading.prompt.text[slice(*reading.prompt.question)]
    stands = re.search(rf"(?<!\w){re.escape(word)}(?!\w)", asked, re.IGNORECASE)
    return f"word:{word}" if reading.prompt.image_first and stands else f"phrase:{word}"


def next_word(session: Session, step: int) -> tuple[str, int]:
    """(kind, number) of the word `step` further on, through question, answer and own words, round the end."""
    every = [(kind, n) for kind in KINDS for n in range(len(texts(session, kind)))]
    chosen: Chosen | None = session.results.get("chosen")
    shown = (chosen.kind, chosen.number) if chosen is not None else None
    here = session.results.get("wanted", (shown,))[0]
    return every[(every.index(here) + step) % len(every)] if here in every else every[0]


# --- maps ------------------------------------------------------------------------------------------------------------


def choose(desk: Desk, session: Session, kind: str, number: int, method: str) -> Iterator[Progress | Chosen]:
    """The map of a word: kept from before, or from one pass for all words of its kind, or, slowly, for this one.

    The last word that a visitor chooses wins: those before it end without a map.

    Raises:
        InputError: No such word or method.
        Cancelled: The visitor called it off.
        Superseded: The visitor chose another word, or turned to another case.
    """
    aim_of(session, session.current().reading, kind, number)
    wanted = session.results["wanted"] = ((kind, number), method)

    def still() -> None:
        if session.results.get("wanted") is not wanted:
            raise Superseded

    try:
        yield from _made(desk, session, kind, number, method, still)
    except (VisualizerError, Cancelled):
        still()
        del session.results["wanted"]
        raise
    still()
    del session.results["wanted"]
    if (kind, method, number) not in session.heatmaps:  # other words came between
        raise Cancelled
    chosen = Chosen(kind, number, method, session.heatmaps[kind, method, number])
    yield _shown_now(session, chosen)


def _made(
    desk: Desk, session: Session, kind: str, number: int, method: str, still: Callable[[], None]
) -> Iterator[Progress]:
    """Sees to it that the map of a word is among the session's."""
    if (kind, method, number) in session.heatmaps:
        return
    if method not in QUICK:
        for step in _slowly(desk, session, kind, number, method):
            still()  # else its bar would come after another word's map; who leaves calls the work off
            yield step
        return

    def ask(model: Model) -> None:
        if (kind, method, number) not in session.heatmaps:  # a word chosen before may have brought all of its kind
            _quickly(session, kind, method)

    desk.quick(ask, still)


def _shown_now(session: Session, chosen: Chosen) -> Chosen:
    """A word's map is shown, and so the film as it was; edits are kept, but are not what is looked at."""
    session.results["chosen"], session.results["edited"] = chosen, False
    return chosen


def shown_film(session: Session) -> Analysis:
    """What the film that is shown is of: the last edit, until a word is chosen again."""
    return session.edits[-1] if session.edits and session.results.get("edited") else session.current()


def _as_it_was(session: Session) -> Analysis:
    """The current case, where its own film is shown.

    Raises:
        InputError: A changed film is shown, or nothing has been analysed.
    """
    if shown_film(session) is not session.current():
        raise InputError(words.EDITED_IS_SHOWN)
    return session.current()


def _quickly(session: Session, kind: str, method: str) -> None:
    """Maps of all words of a kind."""
    analysis, named = session.current(), texts(session, kind)
    reading = analysis.reading
    if kind == "answer":
        found = token_maps(reading, method)
    elif kind == "question":
        found = question_maps(reading, method)
    else:
        aims = [aim_of(session, reading, kind, n) for n in range(len(named))]
        found = [explain_or_say_why(reading, aim, method, {}) for aim in aims]
    if session.analysis is analysis and texts(session, kind) == named:  # else these maps are of other words by now
        session.heatmaps |= {(kind, method, n): heatmap for n, heatmap in enumerate(found)}


def _slowly(desk: Desk, session: Session, kind: str, number: int, method: str) -> Iterator[Progress]:
    """The map of one word, as long work."""
    analysis = session.current()

    def work(model: Model) -> Heatmap:
        reading = with_model(analysis, model).reading
        return explain_or_say_why(reading, aim_of(session, reading, kind, number), method, {})

    for step in session.asks(desk, work):
        if isinstance(step, Progress):
            yield step
        else:
            session.heatmaps[kind, method, number] = step


def take_words(session: Session, text: str) -> tuple[str, ...]:
    """The visitor's own words, from a list with commas.

    Raises:
        InputError: None, too many, or one that is too long.
    """
    found = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if not found:
        raise InputError("No words are given. Type some with commas between, such as 'effusion, fluid'.")
    if len(found) > MOST_WORDS:
        raise InputError(f"There are {len(found)} words, over the limit of {MOST_WORDS}; leave some out.")
    reading = session.current().reading
    for word in found:
        resolve(reading, target_of(reading, word))
    session.results["words"] = found
    session.heatmaps = {key: heatmap for key, heatmap in session.heatmaps.items() if key[0] != "word"}
    return found


# --- what is shown ---------------------------------------------------------------------------------------------------


def case_line(session: Session) -> Safe:
    """What this tab is about."""
    analysis = session.current()
    return facts([("Question", analysis.case.question), ("Answer", analysis.answer.text)])


def strip(session: Session) -> Safe:
    """Every word as a button, the chosen one pressed."""
    chosen: Chosen | None = session.results.get("chosen")
    lines = []
    for kind in KINDS:
        known = texts(session, kind)
        if known:
            buttons = "".join(_button(kind, n, text, chosen) for n, text in enumerate(known))
            label = words.KINDS[kind]
            lines.append(
                f'<div class="mv-strip" role="group" aria-label="{label}"><strong>{label}:</strong> {buttons}</div>'
            )
    return Safe("".join(lines))


def _button(kind: str, number: int, text: str, chosen: Chosen | None) -> str:
    pressed = chosen is not None and (chosen.kind, chosen.number) == (kind, number)
    shown = escaped(text.strip() or repr(text))
    state = f'aria-pressed="{str(pressed).lower()}"'
    return f'<button type="button" data-kind="{kind}" data-n="{number}" {state}>{shown}</button>'


def shown(session: Session, chosen: Chosen) -> dict[str, Any]:
    """The viewer's value for a word's map."""
    return one.shown(session, chosen.heatmap)


def caption(session: Session, chosen: Chosen) -> Safe:
    """Which word, how likely it was, by which method, and what must be known."""
    reading, heatmap = session.current().reading, chosen.heatmap
    text = texts(session, chosen.kind)[chosen.number]
    rows: list[tuple[str, object]] = [
        ("Word", f"{text.strip() or text!r} ({words.KINDS[chosen.kind].lower()})"),
        (
            "Method",
            METHODS[chosen.method].label + ("" if chosen.head is None else " layer {}, head {}".format(*chosen.head)),
        ),
    ]
    if chosen.kind == "answer":
        rows.append(("Probability", math.exp(reading.answer.tokens[chosen.number].logprob or 0.0)))
    share = heatmap.extras.get("share_on_image")
    rows.append(("Attention on the image", None if share is None else f"{share:.1%}"))
    unsaid = heatmap.target.kind == "phrase" and not phrase_was_said(reading, heatmap.target)
    return Safe(facts(rows) + note(words.NOT_SAID.format(text=text) if unsaid else ""))


def scores(session: Session, chosen: Chosen) -> Safe:
    """Quality of the map with targets and chance; against the finding's region where it is known."""
    if not chosen.heatmap.available:
        return Safe("")
    analysis = session.current()
    found = verbs.score(chosen.heatmap, analysis.case, one.film(session).whole)
    return one.scores_part(dict(found), words.SCORES_CAPTION)


def words_sheet(session: Session, method: str) -> Safe:
    """The visitor's words side by side."""
    analysis = session.current()
    known = texts(session, "word")
    maps = [session.heatmaps.get(("word", method, n)) for n in range(len(known))]
    tiles = [
        Tile(word, heatmap, _where(analysis.reading, word), "; ".join(heatmap.fallbacks.values()))
        for word, heatmap in zip(known, maps, strict=True)
        if heatmap is not None
    ]
    sheet = contact_sheet(analysis.reading.image, tiles, one.film(session).whole)
    return picture(sheet, words.WORDS_SHEET.format(words=", ".join(known)))


def _where(reading: Reading, word: str) -> str:
    if target_of(reading, word).startswith("word:"):
        return words.IN_QUESTION
    return words.IN_ANSWER if phrase_was_said(reading, resolve(reading, f"phrase:{word}").target) else words.UNSAID


def all_methods(desk: Desk, session: Session, kind: str, number: int) -> Iterator[Progress | Safe]:
    """Every method's map of a word on one sheet: long work.

    Raises:
        InputError: A changed film is shown.
        Cancelled: The visitor called it off.
    """
    analysis = _as_it_was(session)

    def work(model: Model) -> tuple[dict[str, Heatmap], Image.Image]:
        own = with_model(analysis, model)
        aim = aim_of(session, own.reading, kind, number)
        names = track(METHODS, total=len(METHODS), what="methods")
        found = {name: explain_or_say_why(own.reading, aim, name, {}) for name in names}
        return found, verbs.draw_all(found, own.case)

    target = spelled(session, kind, number)
    for step in session.asks(desk, work):
        yield step if isinstance(step, Progress) else _methods_part(analysis, target, *step)


def _methods_part(analysis: Analysis, target: str | None, found: dict[str, Heatmap], sheet: Image.Image) -> Safe:
    """The sheet with its copies and downloads."""
    case, model = analysis.case, str(analysis.model["name"])
    links = (
        copies.as_png("methods", sheet),
        copies.as_npz("methods", **{name: one.map for name, one in found.items() if one.available}),
        copies.as_download("methods.json", {name: _about(one, analysis) for name, one in found.items()}),
    )
    given = {"--method": QUICK_METHOD, "--target": target, "--all-methods": True, "--model": model}
    after = (
        "from medgemma_visualizer.heatmaps import explain_all",
        "from medgemma_visualizer.verbs import draw_all",
        f'draw_all(explain_all(result.reading, {target!r}), case).save("methods.png")',
    )
    told = {"method": QUICK_METHOD, "target": target}
    made = (copies.command("analyze", case, given), copies.python("analyze", case, model, told, after))
    taken = copies.part(links, said=NO_TARGET.lstrip("# ")) if target is None else copies.part(links, *made)
    return Safe(picture(sheet, words.ALL_METHODS) + taken)


def _about(heatmap: Heatmap, analysis: Analysis) -> dict[str, Any]:
    """A map of the sheet as plain JSON values: what it is of, or why there is none, and its scores."""
    scores = verbs.score(heatmap, analysis.case) if heatmap.available else {}
    told: dict[str, Any] = json.loads(json.dumps(heatmap.about(), default=list))
    return told | {"scores": {name: score_as_document(score) for name, score in scores.items()}}


def spelled(session: Session, kind: str, number: int) -> str | None:
    """A word as a target that can be typed; None for a piece of a word of the question, which no target names."""
    reading = session.current().reading
    if kind == "answer":
        return f"token:{number}"
    if kind == "word":
        return target_of(reading, texts(session, "word")[number])
    aim = aim_of(session, reading, kind, number)
    word = aim.target.text
    asked = reading.prompt.text[slice(*reading.prompt.question)]
    times = len(re.findall(rf"(?<!\w){re.escape(word)}(?!\w)", asked, re.IGNORECASE))
    every = [f"word:{word}", *(f"word:{word}#{n}" for n in range(2, times + 1))][:times]
    return next((target for target in every if resolve(reading, target).rows == aim.rows), None)


# --- cells and heads -------------------------------------------------------------------------------------------------


def cell(desk: Desk, session: Session, row: Any, col: Any) -> Safe:
    """Which words lean on a cell of the film that is shown.

    Raises:
        InputError: No such cell.
        Cancelled: Meanwhile the visitor turned to another case.
        Superseded: The visitor clicked another cell meanwhile.
    """
    analysis, reading = session.current(), shown_film(session).reading
    asked = session.results["cell"] = (row, col)
    found = desk.quick(lambda model: words_for_cell(reading, row, col))
    _still_about(session, analysis)
    if session.results.get("cell") is not asked:
        raise Superseded
    rows = [
        (
            link.token.text.strip() or repr(link.token.text),
            "answer" if link.generated else "question",
            f"{link.attention:.5f}",
            f"{link.effect:+.4f}",
        )
        for link in found
    ]
    return table(rows, words.CELL_HEADINGS, words.CELL_CAPTION.format(row=row, col=col))


def heads(desk: Desk, session: Session) -> Safe:
    """A small map for each layer and head: where that head looks from the row before the chosen word.

    Raises:
        InputError: No word is chosen, or a changed film is shown.
        Cancelled: Meanwhile the visitor turned to another case.
    """
    chosen, analysis = current(session), _as_it_was(session)
    reading = analysis.reading
    aim = aim_of(session, reading, chosen.kind, chosen.number)
    traced = desk.quick(
        lambda model: attention_rows(model, reading.ids(aim.forced), reading.image_tokens, list(aim.rows))
    )
    _still_about(session, analysis)
    maps = traced.on_image.mean(axis=2).reshape(*traced.weights.shape[:2], *reading.model.grid)  # (L, H, rows, cols)
    layers, count = maps.shape[:2]
    tiles = "".join(_head(maps[layer, head], layer, head) for layer in range(layers) for head in range(count))
    style = f"grid-template-columns: repeat({count}, minmax(2.5rem, 5rem))"
    told = words.HEADS_CAPTION.format(layers=layers, heads=count, word=aim.target.text)
    drawn = f'<p>{escaped(told)}</p><div class="mv-heads mv-strip" style="{style}">{tiles}</div>'
    return Safe(drawn + _heads_taken(session, chosen, maps))


def _heads_taken(session: Session, chosen: Chosen, maps: np.ndarray) -> Safe:
    """Copies and downloads of the maps of all heads, (layers, heads, rows, cols)."""
    layers, heads = maps.shape[:2]
    shares = [(layer, head, float(maps[layer, head].sum())) for layer in range(layers) for head in range(heads)]
    links = (
        copies.as_png("heads", _mosaic(maps)),
        copies.as_npz("heads", attention=maps),
        copies.as_table("heads", [("layer", "head", "attention on the image"), *shares]),
    )
    analysis, target = session.current(), spelled(session, chosen.kind, chosen.number)
    if target is None:
        return copies.part(links, said=words.NO_COMMAND_HEADS)
    after = (
        f"every = [(layer, head) for layer in range({layers}) for head in range({heads})]",
        f'how = {{"method": "cross_attention", "target": {target!r}}}',
        "maps = {(layer, head): mv.explain(model, case, layers=[layer], heads=[head], **how) for layer, head in every}",
    )
    given = {"method": "cross_attention", "target": target}
    python = copies.python("explain", analysis.case, str(analysis.model["name"]), given, after)
    return copies.part(links, as_python=python, said=words.NO_COMMAND_HEADS)


def _mosaic(maps: np.ndarray) -> Image.Image:
    """All heads' maps as one picture: a row a layer, a column a head, eight pixels a cell, white between."""
    tiles = [
        [np.pad(np.kron(_coloured(one), np.ones((8, 8, 1), np.uint8)), EDGE, constant_values=255) for one in row]
        for row in maps
    ]
    return Image.fromarray(np.vstack([np.hstack(row) for row in tiles]))


def _coloured(attention: np.ndarray) -> np.ndarray:
    """uint8 (rows, cols, 3), in colours of its own."""
    from matplotlib import colormaps

    pixels = colormaps[COLOUR_MAPS[0]](attention / (attention.max() or 1.0), bytes=True)[..., :3]
    return np.ascontiguousarray(pixels)


def _head(attention: np.ndarray, layer: int, head: int) -> str:
    """A button with the map of one head, (rows, cols)."""
    label = f"layer {layer}, head {head}: {attention.sum():.1%} on the image"
    image = f'<img src="{png_url(Image.fromarray(_coloured(attention)))}" alt="{label}">'
    return f'<button type="button" data-layer="{layer}" data-head="{head}" title="{label}">{image}</button>'


def choose_head(desk: Desk, session: Session, layer: Any, head: Any) -> Chosen:
    """The chosen word's attention in one head, as the map shown.

    Raises:
        InputError: No such head, or no word is chosen.
        Cancelled: Meanwhile the visitor turned to another case.
        Superseded: The visitor chose another word meanwhile.
    """
    chosen = current(session)
    analysis = session.current()
    reading = analysis.reading
    aim = aim_of(session, reading, chosen.kind, chosen.number)
    heatmap = desk.quick(lambda model: explain_aim(reading, aim, "cross_attention", layers=[layer], heads=[head]))
    _still_about(session, analysis)
    now = current(session)
    if (now.kind, now.number) != (chosen.kind, chosen.number):
        raise Superseded
    return _shown_now(session, replace(chosen, method="cross_attention", heatmap=heatmap, head=(layer, head)))


def _still_about(session: Session, analysis: Analysis) -> None:
    """What was found of `analysis` is to be kept; quick work waits for its turn, and a visitor may go on meanwhile."""
    if session.analysis is not analysis:
        raise Cancelled


def current(session: Session) -> Chosen:
    """The word whose map is shown.

    Raises:
        InputError: None is.
    """
    chosen: Chosen | None = session.results.get("chosen")
    if chosen is None:
        raise InputError("No word is chosen. Click one.")
    return chosen


# --- edit and ask again ----------------------------------------------------------------------------------------------


def edit(desk: Desk, session: Session, kind: str) -> Analysis:
    """The film with the drawn rectangle changed, asked again; later edits go on from it.

    Raises:
        InputError: No rectangle, or no such edit.
        Cancelled: Meanwhile the visitor turned to another case.
    """
    box = session.results.get("box")
    if box is None:
        raise InputError("No rectangle is drawn. Drag one on the film, then ask again.")
    before = session.edits[-1] if session.edits else session.current()
    image = EDITS[kind](before.reading.image, box_of(before.reading.image, *box))
    first = session.current()
    case = replace(first.case.showing(image), view=first.case.view)
    method = first.heatmap.method if first.heatmap.method in QUICK else QUICK_METHOD
    made = desk.quick(lambda model: verbs.analyze(model, case, method=method))
    _still_about(session, first)
    session.edits.append(made)
    session.results["edited"] = True
    return made


def draw_box(session: Session, corners: Any) -> None:
    """Keeps the rectangle that was drawn, as fractions of the film.

    Raises:
        InputError: It is none.
    """
    given = corners if isinstance(corners, dict) else {}
    box = tuple(given.get(name, -1) for name in ("x0", "y0", "x1", "y1"))
    box_of(session.current().reading.image, *box)
    session.results["box"] = box


def undo_edit(session: Session) -> None:
    """Takes the last edit back.

    Raises:
        InputError: There is none.
    """
    if not session.edits:
        raise InputError("The film is as it was; there is nothing to take back.")
    session.edits.pop()
    session.results["edited"] = True


def edited(session: Session) -> tuple[Safe, dict[str, Any]]:
    """Answer and p_yes as the film was and after each edit, and the viewer's value for the last one."""
    first = session.current()
    every: Sequence[Analysis] = (first, *session.edits)
    rows = [
        (
            "as it was" if n == 0 else f"after edit {n}",
            a.answer.text,
            a.answer.p_yes,
            a.answer.contrast,
            a.heatmap.method,
        )
        for n, a in enumerate(every)
    ]
    last = every[-1]
    if last is first:  # every change was taken back
        return Safe(""), one.shown(session)
    told = Safe(table(rows, words.EDIT_HEADINGS, words.EDIT_CAPTION) + _edits_taken(every, rows))
    trust = one.trust_for(session, first.heatmap)
    trusted = trust.word != DISTRUST
    notes = [*([] if trusted else one.notes_of(last.heatmap, trust)), *filter(None, [last.answer.notice])]
    description = words.FILM_OF.format(question=last.case.question, answer=last.answer.text)
    value = view(film_of(last.reading.image), last.heatmap, description=description, notes=notes, trusted=trusted)
    return told, value


def _edits_taken(every: Sequence[Analysis], rows: Sequence[Sequence[object]]) -> Safe:
    """Copies and downloads of the changed film's answers."""
    last = every[-1]
    links = (
        copies.as_png("changed", last.reading.image),
        copies.as_download("edits.json", {"films": [document(one) for one in every]}),
        copies.as_table("edits", [words.EDIT_HEADINGS, *rows]),
    )
    made = replace(Settings(), method=last.heatmap.requested)
    return copies.part(links, one.command_of(last, made), one.python_of(last, made), words.EDIT_TAKE)


# --- to take away ----------------------------------------------------------------------------------------------------


#: Stands in a command's place; a comment to a shell and to Python.
NO_TARGET = "# No target names this piece of a word by itself; choose the whole word among your own words."


def links(session: Session) -> Safe:
    """Downloads of the chosen word's map.

    Raises:
        InputError: No word is chosen; or an edited film is shown, which that map is not of.
    """
    _as_it_was(session)
    return one.links(session, current(session).heatmap)


def command_of(session: Session, chosen: Chosen) -> str:
    """The line that makes this map."""
    analysis, target = session.current(), spelled(session, chosen.kind, chosen.number)
    if target is None:
        return NO_TARGET
    options: dict[str, object] = {"--method": chosen.method, "--target": target}
    if chosen.head is not None:
        options |= {"--layers": chosen.head[0], "--heads": chosen.head[1]}
    return copies.command("analyze", analysis.case, options | {"--model": analysis.model["name"]})


def python_of(session: Session, chosen: Chosen) -> str:
    """The same in Python."""
    analysis, target = session.current(), spelled(session, chosen.kind, chosen.number)
    if target is None:
        return NO_TARGET
    given: dict[str, object] = {"method": chosen.method, "target": target}
    if chosen.head is not None:
        given |= {"layers": [chosen.head[0]], "heads": [chosen.head[1]]}
    after = ('mv.draw(result, case).save("overlay.png")',)
    return copies.python("explain", analysis.case, str(analysis.model["name"]), given, after)
