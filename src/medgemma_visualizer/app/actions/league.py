"""Tab 5: which methods' maps of the loaded model can be believed, the cases behind the numbers, and measuring it now.

Knows which league is shown and what is to be said of it; the measuring is `runs.trust`. A league that is measured here
belongs to the visitor who asked for it: it changes no verdict for others and is kept nowhere.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from medgemma_visualizer import runs, verbs
from medgemma_visualizer.app import words
from medgemma_visualizer.app.actions import copies
from medgemma_visualizer.app.actions.analysis import COLOUR_MAPS, QUICK, here
from medgemma_visualizer.app.desk import Desk, Progress
from medgemma_visualizer.app.parts import Safe, download, downloads, escaped, facts, note, picture, table
from medgemma_visualizer.app.session import Session
from medgemma_visualizer.data.questions import QuestionSet
from medgemma_visualizer.errors import InputError, UnavailableError, unknown_name
from medgemma_visualizer.heatmaps import METHODS
from medgemma_visualizer.progress import track
from medgemma_visualizer.records import Case, Score
from medgemma_visualizer.reports import PROBES, chance_of, forest, headline, league_page, meanings, ranked_metrics
from medgemma_visualizer.runs import Built, League, Place, metric_of
from medgemma_visualizer.telling import league as telling
from medgemma_visualizer.telling.analysis import score_as_document

if TYPE_CHECKING:
    from PIL.Image import Image

    from medgemma_visualizer.models.adapter import Model
    from medgemma_visualizer.scores.statistics import Estimate

MISSING = "–"
#: How many cases are looked at for the best and the worst; how many of either are shown.
LOOKED_AT, EACH = 12, 2
#: Cases that a visitor may measure at once.
FEWEST, USUAL, MOST = 2, 6, 100
#: Options of `trust` that are counts, and what Python calls them.
_COUNTS = {"--cases": "number", "--sanity-cases": "sanity_cases"}
#: By which a case's map is called good or bad (`reports.league.JUDGED_BY`).
JUDGED_BY = "roc_auc"
#: Scores that stand under an example.
SHOWN_WITH = ("pointing_game", "relevance_mass", "relevance_rank", JUDGED_BY)


@dataclass(frozen=True)
class Example:
    """A case under a method, with the picture behind its numbers.

    Attributes:
        case: What was asked.
        which: Whether the map is among the best or the worst of those looked at.
        said: What the model answered, and whether that is right.
        scores: Of the map.
        picture: The map over the film.
        model: Name of the model.
    """

    case: Case
    which: str
    said: str
    scores: dict[str, Score]
    picture: Image
    model: str


# --- the league that is shown ----------------------------------------------------------------------------------------


def league(desk: Desk, session: Session) -> League | None:
    """What the visitor has measured, else the league kept for the loaded model; None where there is neither.

    Raises:
        InputError: A file that is there cannot be read as a league.
    """
    return runs.league_of(desk.model) if session.measured is None else session.measured.league


def rows(shown: League) -> list[tuple[str, ...]]:
    """A row a method, the controls and chance after them; every number begins its cell, so that it can be sorted by."""
    names, everyone = ranked_metrics(shown), (*shown.places, *shown.controls)
    chance = (words.CHANCE, *[MISSING] * 3, *(_plain(chance_of(name, everyone)) for name in names), *[MISSING] * 2)
    return [*(_row(shown, place, names) for place in everyone), chance]


def headings(shown: League) -> tuple[str, ...]:
    """Of `rows`."""
    named = (metric_of(name).label for name in ranked_metrics(shown))
    return ("Method", "Rank", "Mean rank", "Sanity", *named, "Forward passes", "Maps")


def _row(shown: League, place: Place, names: Sequence[str]) -> tuple[str, ...]:
    best = " (best)" if place.method == shown.best else ""
    default = words.DEFAULT if place.method == shown.reference else ""
    control = "" if place.rank else words.CONTROL
    rank = f"{place.rank}{' (tied)' if place.tied else ''}" if place.rank else MISSING
    mean = MISSING if place.mean_rank is None else _with(place.mean_rank, place.mean_rank_interval, 1)
    sane = MISSING if not place.rank else _sane(place)
    passes = MISSING if place.forward_passes is None else f"{place.forward_passes.value:.1f}"
    numbers = (_estimated(place.counted.get(name)) for name in names)
    return (f"{place.label}{best}{default}{control}", rank, mean, sane, *numbers, passes, f"{place.maps} of {place.n}")


def _sane(place: Place) -> str:
    found = place.sanity
    return found.verdict if found.rho is None else f"{found.verdict}, |ρ| {found.rho:.2f}"


def _estimated(estimate: Estimate | None) -> str:
    return MISSING if estimate is None else _with(estimate.value, estimate.interval)


def _with(value: float, interval: tuple[float, float] | None, digits: int = 3) -> str:
    """The number with its interval; an ordinary minus, as a table is sorted by what stands first."""
    bounds = "" if interval is None else f" ({interval[0]:.{digits}f} to {interval[1]:.{digits}f})"
    return f"{value:.{digits}f}{bounds}"


def _plain(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3f}"


# --- what is shown ---------------------------------------------------------------------------------------------------


def about_part(desk: Desk, shown: League | None) -> Safe:
    """Whose league this is and how it was made; or that there is none, and what makes one."""
    if shown is None:
        return note(words.NO_LEAGUE.format(model=desk.model.name, command=command(desk.model)))
    told: list[tuple[str, object]] = [
        ("In short", headline(shown)),
        ("Model", f"{shown.model.get('name', '')} ({shown.model.get('dtype', '')})"),
        ("Cases", f"{shown.n} of {shown.patients} patients, from {shown.source or 'an unnamed source'}"),
        ("Probe", PROBES[shown.probe]),
        ("Seed", shown.seed),
        *(("Note", text) for text in shown.notes),
        *((f"Left out: {count}", reason) for reason, count in shown.left_out.items()),
        ("Built again by", shown.command),
    ]
    return Safe(facts(told) + note(words.OF_THIS_MODEL))


def table_part(shown: League) -> Safe:
    """The league, sortable by every column."""
    return table(rows(shown), headings(shown), words.LEAGUE_CAPTION, sortable=True)


def columns_part(shown: League) -> Safe:
    """What each column asks of a map."""
    return facts((*words.LEAGUE_COLUMNS, *meanings(shown).items()))


def column_menu(shown: League | None) -> list[tuple[str, str]]:
    """(label, name) of the columns that can be drawn."""
    return [] if shown is None else [(metric_of(name).label, name) for name in ranked_metrics(shown)]


def forest_part(shown: League, name: str) -> Safe:
    """A column as a picture: every method's mean with its interval, beside chance.

    Raises:
        InputError: No such column.
    """
    if name not in ranked_metrics(shown):
        raise unknown_name("column", name, ranked_metrics(shown))
    drawn, said = forest(shown, name)
    return Safe(picture(drawn, said) + downloads([copies.as_png(name.replace(":", "_"), drawn)]))


def command(model: Model) -> str:
    """What measures and keeps a league of this model."""
    return shlex.join([copies.PROGRAM, "trust", "--model", model.name])


def copies_part(shown: League) -> Safe:
    """The command that builds this league, and the lines of Python that do."""
    name = str(shown.model.get("name", ""))
    lines = [
        "import medgemma_visualizer as mv",
        f"model = mv.load_model({name!r})",
        f"league = mv.trust(model{_arguments(shown)})",
        "print(league.best)",
    ]
    return copies.copies(
        shown.command or shlex.join([copies.PROGRAM, "trust", "--model", name]), "\n".join(lines) + "\n"
    )


def _arguments(shown: League) -> str:
    """Those of `trust` that the league itself tells, and those of its command."""
    names = ("probe", "imputers", "space", "steps")
    told: dict[str, Any] = {name: getattr(shown, name) for name in names}
    told |= {"seed": shown.seed, "methods": [place.method for place in shown.places]}
    said = shlex.split(shown.command)
    given = {option: value for option, value in pairwise(said) if option.startswith("--")}
    told |= {name: int(given[option]) for option, name in _COUNTS.items() if option in given}
    told |= {"findings": given["--findings"].split(",")} if "--findings" in given else {}
    source = f", mv.load_cases({shown.source!r})" if shown.source not in ("", "demo") else ""
    return source + "".join(f", {name}={value!r}" for name, value in told.items())


def links(desk: Desk, session: Session) -> Safe:
    """Downloads: the table as JSON and CSV, and the whole league as one page, with cases where it was measured here.

    Raises:
        InputError: There is no league.
    """
    shown = league(desk, session)
    if shown is None:
        raise InputError(words.NO_LEAGUE.format(model=desk.model.name, command=command(desk.model)))
    page = league_page(shown) if session.measured is None else verbs.draw_league(session.measured)
    return downloads(
        (
            copies.as_download("league.json", telling.document(shown)),
            download("league.csv", copies.as_csv([headings(shown), *rows(shown)]), "text/csv", "CSV"),
            download("league.html", page.encode(), "text/html", words.ONE_FILE),
        )
    )


# --- the pictures behind the numbers ---------------------------------------------------------------------------------


def method_menu(shown: League | None) -> list[tuple[str, str]]:
    """(label, name) of the methods of a league, best first; all methods without one."""
    if shown is None:
        return [(one.label, name) for name, one in METHODS.items()]
    return [(place.label, place.method) for place in shown.places]


def examples(
    desk: Desk, session: Session, cases: Sequence[Case], method: str, number: int = LOOKED_AT
) -> Iterator[Progress | list[Example]]:
    """Makes a method's maps of some cases with a known region; gives progress, at last the best and the worst by AUC.

    A stored league keeps no maps, so these are made anew.

    Raises:
        InputError: No such method, or no case with a known region.
        Cancelled: The visitor called it off.
    """
    METHODS[method]
    known = _with_region(cases)
    if not known:
        raise InputError(words.NO_REGIONS)
    chosen = _spread(known, number)
    yield from session.asks(desk, lambda model: _examples(model, chosen, method))


def looked_at(cases: Sequence[Case]) -> int:
    """How many cases `examples` asks."""
    return min(LOOKED_AT, len(_with_region(cases)))


def _with_region(cases: Sequence[Case]) -> list[Case]:
    return [case for case in cases if case.finding is not None and case.finding in case.regions]


def _spread(cases: Sequence[Case], number: int) -> list[Case]:
    """So many cases from the first to the last, the same each time."""
    places = np.unique(np.linspace(0, len(cases) - 1, min(number, len(cases))).round().astype(int))
    return [cases[place] for place in places.tolist()]


def _examples(model: Model, cases: Sequence[Case], method: str) -> list[Example]:
    found = []
    for case in track(cases, total=len(cases), what="maps"):
        try:
            found.append(verbs.analyze(model, case, method=method))
        except UnavailableError:  # a case without a map is neither the best nor the worst
            continue
    if not found:
        raise UnavailableError(f"{method} gave no map of any of {len(cases)} cases. Choose another method.")
    ordered = sorted(found, key=lambda one: -_value(one.scores[JUDGED_BY]))
    count = min(EACH, (len(ordered) + 1) // 2)
    best, worst = ordered[:count], ordered[count:][::-1][:count]
    return [_example(one, which) for group, which in ((best, "Best"), (worst, "Worst")) for one in group]


def _value(score: Score) -> float:
    return score.value if isinstance(score.value, float) else 0.0


def _example(analysis: verbs.Analysis, which: str) -> Example:
    right = {None: "", True: f" — {words.RIGHT}", False: f" — {words.WRONG.format(truth=analysis.case.truth)}"}
    said = f"{analysis.answer.text}{right[analysis.correct]}"
    trust = here(verbs.trust_of(analysis))
    drawn = verbs.draw(
        analysis.heatmap, analysis.case, answer=analysis.answer.text, trust=trust, colormap=COLOUR_MAPS[0]
    )
    return Example(analysis.case, which, said, dict(analysis.scores), drawn, str(analysis.model["name"]))


def examples_part(shown: Sequence[Example], method: str, number: int) -> Safe:
    """Best and worst beside each other, each with the numbers behind its place."""
    told = note(words.EXAMPLES.format(method=METHODS[method].label, number=number))
    figures = "".join(_figure(one, method, n) for n, one in enumerate(shown, 1))
    return Safe(f'{told}<div class="mv-examples">{figures}</div>{_examples_taken(shown, method)}')


def _examples_taken(shown: Sequence[Example], method: str) -> Safe:
    """Downloads of the numbers of all examples."""
    rows = [(one.which, one.case.id, one.case.question, one.said, *_numbers_of(one)) for one in shown]
    numbers = [heading for name in SHOWN_WITH for heading in (name, f"{name}, chance")]
    headings = ("which", "case", "question", "answer", *numbers)
    told = [
        {"which": one.which, "case": one.case.id, "question": one.case.question, "answer": one.said, "method": method}
        | {"scores": {name: score_as_document(score) for name, score in one.scores.items()}}
        for one in shown
    ]
    links = (copies.as_download("examples.json", {"examples": told}), copies.as_table("examples", [headings, *rows]))
    return copies.part(links, said=words.NO_COMMAND_EXAMPLES)


def _numbers_of(one: Example) -> list[object]:
    """Value and chance of the scores that stand under an example."""
    there = (one.scores.get(name) for name in SHOWN_WITH)
    return [number for score in there for number in ((None, None) if score is None else (score.value, score.chance))]


def _figure(one: Example, method: str, n: int) -> str:
    numbers = ", ".join(
        f"{name.replace('_', ' ')} {_value(one.scores[name]):.3f}"
        + (f" (chance {chance:.3f})" if (chance := one.scores[name].chance) is not None else "")
        for name in SHOWN_WITH
        if name in one.scores
    )
    words_ = f"{one.which}: {one.case.question} {one.said}. {numbers}"
    drawn = picture(one.picture, f"{one.which} map of {one.case.question} Case {one.case.id}")
    given = {"method": method}
    taken = copies.part(
        [copies.as_png(f"{one.which.lower()}_{n}", one.picture)],
        copies.command("analyze", one.case, {"--method": method, "--model": one.model}),
        copies.python("analyze", one.case, one.model, given, ['mv.draw(result.heatmap, case).save("overlay.png")']),
    )
    return f"<figure>{drawn}<figcaption>{escaped(words_)}</figcaption>{taken}</figure>"


# --- measuring now ---------------------------------------------------------------------------------------------------


def measure(
    desk: Desk,
    session: Session,
    cases: QuestionSet,
    number: int = USUAL,
    methods: Sequence[str] = QUICK,
    sanity_cases: int = 1,
) -> Iterator[Progress | Built]:
    """A league of the loaded model on so many cases drawn by lot; gives progress, at last everything measured.

    Raises:
        InputError: No method, or a number out of range.
        VisualizerError: No case could be measured.
        Cancelled: The visitor called it off.
    """
    if not FEWEST <= number <= MOST:
        raise InputError(f"{number} cases: choose {FEWEST} to {MOST}. For more use the command line.")
    if not methods:
        raise InputError("No method is chosen. Choose at least one.")
    how: dict[str, Any] = {"methods": list(methods), "number": number, "sanity_cases": sanity_cases}
    how |= {"command": _command(desk.model, cases.source, number, methods, sanity_cases)}
    for step in session.asks(desk, lambda model: runs.trust(model, cases, **how), changes_weights=sanity_cases > 0):
        if not isinstance(step, Progress):
            session.measured = step
        yield step


def _command(model: Model, source: str, number: int, methods: Sequence[str], sanity_cases: int) -> str:
    said = ["trust", source, "--model", model.name, "--methods", ",".join(methods)]
    return shlex.join([copies.PROGRAM, *said, "--cases", str(number), "--sanity-cases", str(sanity_cases)])
