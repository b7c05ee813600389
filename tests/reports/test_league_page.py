"""The league's page: every number on it is one of the record, words stay words, and it opens without a network."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.reports import Shown, cases_to_show, league_page, shown_methods
from medgemma_visualizer.reports._league_view import MEANINGS, SPLIT_TITLES, number, p_value
from medgemma_visualizer.runs.league import CONTROLS, METRICS, SPLITS, SRG, Curve, League, Row, Sanity
from medgemma_visualizer.runs.table import controls_of, left_out, places_of, splits_of
from medgemma_visualizer.scores.statistics import Estimate

NAMES = {"relevance": 0.9, "cross_attention": 0.6, "gradcam_multi_token": 0.4, "occlusion": 0.85}
LABELS = {
    "relevance": "Relevance",
    "cross_attention": "Cross-Attention",
    "gradcam_multi_token": "Grad-CAM Multi-Token",
    "occlusion": "<b>Occlusion</b>",
}
COLUMNS = (*METRICS, SRG + "blur", SRG + "mean")
CHANCES = {name: 0.5 if name == "roc_auc" else 0.125 for name in METRICS} | {SRG + "blur": 0.0, SRG + "mean": 0.0}
CASES = tuple(f"case-{n:02d}" for n in range(12))
SILENT = "the gradient is zero & <i>nothing</i> can be told"


def row(case: str, method: str, worth: float, **told: Any) -> Row:
    n = CASES.index(case)
    value = round(worth - 0.02 * n, 4)
    curve = Curve((0.0, 0.5, 1.0), (1.0, 1 - value, 0.1), (0.1, value, 1.0))
    facts: dict[str, Any] = {
        "case_id": case,
        "patient_id": f"patient-{n // 2}",
        "finding": ("effusion", "pneumonia")[n % 2],
        "side": ("left", "right")[n % 2],
        "size": ("small", "medium", "large")[n % 3],
        "label": "yes",
        "truth": ("yes", "no")[n % 4 == 3],
        "correct": n % 4 != 3,
        "method": method,
        "available": True,
        "numbers": dict.fromkeys(COLUMNS, value),
        "chances": CHANCES,
        "curves": {"blur": curve, "mean": curve},
        "forward_passes": 2,
        "seconds": 0.25,
    }
    return Row(**(facts | told))


@pytest.fixture(scope="module")
def rows() -> tuple[Row, ...]:
    """Four methods and four controls on twelve cases of six patients; occlusion is silent about one."""
    made = [row(case, name, worth) for name, worth in NAMES.items() for case in CASES]
    made += [row(case, name, 0.2, numbers=CHANCES, curves={}) for name in CONTROLS for case in CASES]
    silent = {"available": False, "reason": SILENT, "numbers": {}, "curves": {}}
    return tuple(
        replace(one, **silent) if (one.method, one.case_id) == ("occlusion", CASES[0]) else one for one in made
    )


def league_of(rows: tuple[Row, ...], **told: Any) -> League:
    passed = Sanity("pass", 0.03, (0.01, 0.06), 0.02, -0.41, 0.22, False, False, 4, 0, 5)
    failed = Sanity("fail", 0.81, (0.7, 0.9), 0.02, 1.0, 1.0, True, False, 4, 3, 5, "3 of 4 cases fail")
    verdicts = {"relevance": passed, "cross_attention": failed, "gradcam_multi_token": passed}
    facts: dict[str, Any] = {
        "model": {"name": "tiny <script>alert(1)</script>", "revision": "abc123", "dtype": "float32", "grid": [4, 8]},
        "identity": "0123456789abcdef",
        "probe": "regions",
        "source": "made & up",
        "seed": 7,
        "n": 12,
        "patients": 6,
        "imputers": ("blur", "mean"),
        "space": "tokens",
        "steps": 2,
        "reference": "gradcam_multi_token",
        "places": places_of(rows, tuple(NAMES), COLUMNS, LABELS, verdicts),
        "controls": controls_of(rows, CONTROLS, COLUMNS),
        "splits": {},
        "left_out": left_out(rows) | {"the film <cannot> be read": 3},
        "notes": ("12 of 40 cases, drawn by lot",),
        "versions": {"torch": "2.13.0"},
        "command": "medgemma-visualizer trust demo --model 'my model' --seed 7",
    }
    return League(**(facts | told))


@pytest.fixture(scope="module")
def league(rows: tuple[Row, ...]) -> League:
    return league_of(rows, splits=splits_of(rows, tuple(NAMES), COLUMNS, LABELS))


@pytest.fixture(scope="module")
def pictures(league: League, rows: tuple[Row, ...]) -> dict[tuple[str, str], Image.Image]:
    shown = cases_to_show(rows, shown_methods(league))
    return {
        (one.method, one.case_id): Image.fromarray(np.full((600, 500, 3), 20 + n, np.uint8))
        for n, one in enumerate(shown)
    }


@pytest.fixture(scope="module")
def page(league: League, rows: tuple[Row, ...], pictures: Any) -> str:
    return league_page(league, rows, pictures)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """For statements about words: charts, which take most of the time, become a white pixel."""
    for name in ("forest_figure", "mean_curves_figure"):
        monkeypatch.setattr(f"medgemma_visualizer.reports.league.{name}", lambda *a, **k: Image.new("RGB", (1, 1)))


class Read(HTMLParser):
    """Tables as rows of words, headings, pictures, and everything that a browser would load."""

    VOID = frozenset({"meta", "br", "img", "link", "input", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.headings: list[tuple[int, str]] = []
        self.images: list[dict[str, str | None]] = []
        self.cells: list[tuple[str, dict[str, str | None]]] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []
        self.caption, self.rows, self.words = "", [], ""
        self.feed(text)
        assert not self.open, "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        self.ids += [told["id"]] if told.get("id") else []  # type: ignore[list-item]
        self.links += [value for name, value in attrs if name in ("href", "src", "action") and value]
        if tag in self.VOID:
            self.images += [told] if tag == "img" else []
            return
        self.open.append(tag)
        if tag == "table":
            self.rows = []
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td", "caption", "h1", "h2", "h3"):
            self.words = ""
            self.cells += [(tag, told)] if tag in ("th", "td") else []

    def handle_data(self, data: str) -> None:
        self.words += " " + data

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"
        said = " ".join(self.words.split())
        if tag in ("th", "td"):
            self.rows[-1].append(said)
        elif tag == "caption":
            self.caption = said
        elif tag == "table":
            self.tables[self.caption] = self.rows
        elif tag in ("h1", "h2", "h3"):
            self.headings.append((int(tag[1]), said))


@pytest.fixture(scope="module")
def read(page: str) -> Read:
    return Read(page)


def lines(table: list[list[str]]) -> Iterator[tuple[str, dict[str, str]]]:
    """Line by line: its name, and its cells by heading."""
    heads = table[0]
    return ((one[0], dict(zip(heads[1:], one[1:], strict=True))) for one in table[1:] if len(one) == len(heads))


def test_the_table_holds_the_numbers_of_the_record(read: Read, league: League) -> None:
    found = dict(lines(read.tables["Methods by rank"]))
    assert len(found) == len(league.places) + len(league.controls)
    for place in (*league.places, *league.controls):
        (name,) = (name for name in found if name.startswith(place.label))
        cells = found[name]
        low, high = place.counted["pointing"].interval or (0, 0)
        assert (
            cells["Pointing chance 0.125, n = 12"] == f"{place.counted['pointing'].value:.3f} {low:.3f} to {high:.3f}"
        )
        assert cells["Mass ÷ chance chance 0.12, n = 12"].startswith(
            f"{place.counted['relevance_mass_lift'].value:.2f} "
        )
        assert cells["SRG, mean chance 0.000, n = 12"].startswith(f"{place.counted[SRG + 'mean'].value:.3f} ")
        assert cells["Maps of cases"] == f"{place.maps} of {place.n}"
        assert cells["Seconds"].startswith("0.25")
        assert cells["Forward passes"].startswith("2.0")


def test_methods_stand_by_rank_and_controls_apart(read: Read, league: League) -> None:
    table = read.tables["Methods by rank"]
    names = [one[0] for one in table[1:]]
    assert names[:4] == ["Relevance best", "<b>Occlusion</b>", "Cross-Attention", "Grad-CAM Multi-Token reference"]
    assert names[4].startswith("Controls, not ranked: maps that know nothing")
    assert names[5:] == list(CONTROLS.values())
    found = dict(lines(table))
    assert [found[name]["Rank"] for name in names[:4]] == ["1", "2", "3", "4"]
    assert {found[name]["Rank"] for name in CONTROLS.values()} == {"–"}
    assert found["Cross-Attention"]["Sanity"] == "fail"


@pytest.mark.usefixtures("undrawn")
def test_shared_ranks_are_marked(rows: tuple[Row, ...]) -> None:
    twins = tuple(one for one in rows if one.method != "relevance") + tuple(
        replace(one, method="relevance") for one in rows if one.method == "cross_attention"
    )
    found = dict(lines(Read(league_page(league_of(twins), twins)).tables["Methods by rank"]))
    assert found["Relevance best"]["Rank"] == found["Cross-Attention"]["Rank"] == "2 (tied)"


def test_a_missing_map_is_counted_at_chance_and_its_reason_told(read: Read, page: str, league: League) -> None:
    worths = [0.85 - 0.02 * n for n in range(1, 12)]
    found = dict(lines(read.tables["Methods by rank"]))["<b>Occlusion</b>"]
    assert found["Pointing chance 0.125, n = 12"].split()[0] == f"{(sum(worths) + 0.125) / 12:.3f}"
    assert found["Maps of cases"] == "11 of 12"
    (caption,) = (caption for caption in read.tables if caption.startswith("Means over the cases with a map"))
    bare = dict(lines(read.tables[caption]))["<b>Occlusion</b>"]["Pointing"]
    assert bare.split()[0] == f"{sum(worths) / 11:.3f}"
    assert "n = 11" in bare
    assert "1 of 12 – 1: the gradient is zero &amp; &lt;i&gt;nothing&lt;/i&gt; can be told" in page
    assert "A missing map counts as one that knows\nnothing" in page


def test_differences_to_the_reference_come_with_their_corrected_p(read: Read, league: League) -> None:
    found = dict(lines(read.tables["Differences to the reference"]))
    assert len(found) == len(league.places) - 1 + len(league.controls)
    place = league.place("relevance")
    assert place is not None
    assert found["Relevance best"]["Pointing"] == f"+0.500 0.500 to 0.500, {p_value(place.p_values['pointing'])}"
    assert found["Random"]["Pointing"].startswith("−0.165 ")
    assert found["Random"]["Pointing"].endswith("not tested")


def test_every_part_of_every_split_has_its_own_table(read: Read, league: League) -> None:
    for split, values in league.splits.items():
        for value, places in values.items():
            title = f"By {SPLIT_TITLES[split]}: {value} (n = {places[0].n})"
            found = dict(lines(read.tables[title]))
            for place in places:
                (cells,) = (cells for name, cells in found.items() if name.startswith(place.label))
                (cell,) = (cells[head] for head in cells if head.startswith("ROC-AUC"))
                assert cell.startswith(f"{place.counted['roc_auc'].value:.3f} ")


def test_the_page_says_whose_league_it_is_and_how_to_build_it_again(page: str) -> None:
    for phrase in (
        "This league is of this very model; it says nothing about another.",
        "Research use only, not for",
        "0123456789abcdef",
        "abc123",
        "12 cases of 6 patients",
        "<dd>4 × 8</dd>",
        "<dd>7</dd>",
        "2 steps in tokens, imputers blur, mean",
        "12 of 40 cases, drawn by lot",
        "the film &lt;cannot&gt; be read: 3",
        "torch 2.13.0",
        "--model &#39;my model&#39; --seed 7",
    ):
        assert phrase in page


@pytest.mark.usefixtures("undrawn")
def test_a_model_that_cannot_be_known_again_and_unknown_seconds_are_said(league: League, rows: tuple[Row, ...]) -> None:
    bare = tuple(replace(place, seconds=None) for place in league.places)
    text = league_page(replace(league, identity="", places=bare, controls=()), rows)
    assert "without a revision the model cannot be known again" in text
    assert "Seconds were not kept with this table" in text
    assert {cells["Seconds"] for _, cells in lines(Read(text).tables["Methods by rank"])} == {"–"}


@pytest.mark.usefixtures("undrawn")
def test_a_column_says_over_how_many_cases_it_is(rows: tuple[Row, ...]) -> None:
    regions = {name for name in COLUMNS if not name.startswith(SRG)}

    def without_region(one: Row) -> Row:
        kept = (
            {name: value for name, value in told.items() if name not in regions} for told in (one.numbers, one.chances)
        )
        return replace(one, **dict(zip(("numbers", "chances"), kept, strict=True)))

    some = tuple(without_region(one) if one.case_id in CASES[5:] else one for one in rows)
    heads = Read(league_page(league_of(some), some)).tables["Methods by rank"][0]
    assert "Pointing chance 0.125, n = 5" in heads
    assert "SRG, blur chance 0.000, n = 12" in heads


@pytest.mark.usefixtures("undrawn")
def test_where_no_method_is_sane_none_is_called_best(league: League, rows: tuple[Row, ...]) -> None:
    insane = tuple(replace(place, sanity=Sanity("fail")) for place in league.places)
    text = league_page(replace(league, places=insane), rows)
    assert "No method passes the sanity check on 12 cases of 6 patients" in text
    assert '<span class="badge">best' not in text


@pytest.mark.usefixtures("undrawn")
def test_where_the_best_is_not_above_chance_the_first_lines_say_so(
    league: League, rows: tuple[Row, ...], page: str
) -> None:
    assert "not shown to be better than chance in" not in page
    first, *others = league.places
    counted = dict(first.counted) | {"pointing": Estimate(0.2, (0.125, 0.3), 12, 6)}
    text = league_page(replace(league, places=(replace(first, counted=counted), *others)), rows)
    assert "Relevance is not shown to be better than chance in: Pointing.</p>" in text


@pytest.mark.usefixtures("undrawn")
def test_a_better_method_without_a_passed_check_is_not_hidden(league: League, rows: tuple[Row, ...]) -> None:
    first, *others = league.places
    text = league_page(replace(league, places=(replace(first, sanity=Sanity("undecided")), *others)), rows)
    assert "Cross-Attention (fail)" in text
    assert "Relevance (undecided)" in text


@pytest.mark.usefixtures("undrawn")
def test_a_planted_league_tells_its_drops_and_its_agreement(league: League, rows: tuple[Row, ...]) -> None:
    planted = replace(
        league,
        probe="planted",
        notes=("marks planted by us: kept 12 of 30; 18 wrong with the mark",),
        left_out={"wrong with the mark": 18},
        agreement=Estimate(0.8, (0.4, 1.0), 4, 6),
    )
    text = league_page(planted, rows)
    for phrase in (
        "Probe: planted marks",
        "kept 12 of 30",
        "<li>wrong with the mark: 18</li>",
        "Spearman 0.800 (0.400 to 1.000) of mean ranks over 4 methods, chance 0",
    ):
        assert phrase in text


def test_what_others_wrote_stays_letters(page: str) -> None:
    assert "<script" not in page
    assert "tiny &lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<b>Occlusion" not in page
    assert "made &amp; up" in page


def test_the_page_asks_nothing_of_the_outside(page: str, read: Read) -> None:
    assert not re.search(r"https?://|//[a-z]+\.|@import|<link|<script|<iframe|url\(", page)
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in read.links)
    assert {link[1:] for link in read.links if link.startswith("#")} <= set(read.ids)
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page


def test_headings_descend_one_step_at_a_time_and_ids_are_single(read: Read) -> None:
    levels = [level for level, _ in read.headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert len(read.ids) == len(set(read.ids))


def test_every_cell_of_a_heading_says_what_it_heads_and_every_picture_has_words(read: Read) -> None:
    assert all(told.get("scope") in ("col", "row", "rowgroup") for tag, told in read.cells if tag == "th")
    assert len(read.images) == 6 + 4 + 12  # ranked columns, curves, cases
    assert all(image["alt"] and image["width"] and image["height"] for image in read.images)
    forest = next(str(image["alt"]) for image in read.images if str(image["alt"]).startswith("Pointing"))
    assert "Relevance 0.790" in forest
    assert forest.endswith("chance 0.125")


def test_curves_are_named_with_their_values(read: Read) -> None:
    (removed,) = (str(i["alt"]) for i in read.images if str(i["alt"]).startswith("blur: cells removed"))
    assert "at 50% of the cells" in removed
    assert f"Relevance {1 - 0.79:.3f}" in removed
    assert "Occlusion" not in removed


def test_best_and_worst_cases_are_the_ends_of_the_order_and_never_the_same(rows: tuple[Row, ...]) -> None:
    assert cases_to_show(rows, ["relevance"]) == (
        Shown("relevance", CASES[0], "best"),
        Shown("relevance", CASES[1], "best"),
        Shown("relevance", CASES[11], "worst"),
        Shown("relevance", CASES[10], "worst"),
    )
    three = [one for one in rows if one.case_id in CASES[:3]]
    assert [(one.case_id, one.which) for one in cases_to_show(three, ["relevance"])] == [
        (CASES[0], "best"),
        (CASES[1], "best"),
        (CASES[2], "worst"),
    ]
    assert CASES[0] not in [one.case_id for one in cases_to_show(rows, ["occlusion"])], "it has no map of it"


def test_equal_cases_are_told_apart_by_rank_then_by_name_and_srg_stands_in_for_regions() -> None:
    def numbers(case: str, **told: float) -> Row:
        return row(case, "relevance", 0.5, numbers=told)

    same = [numbers(CASES[2], roc_auc=1.0, relevance_rank=0.5), numbers(CASES[1], roc_auc=1.0, relevance_rank=0.5)]
    better = numbers(CASES[3], roc_auc=1.0, relevance_rank=0.9)
    assert [one.case_id for one in cases_to_show([*same, better], ["relevance"], 1)] == [CASES[3], CASES[2]]
    blind = [numbers(CASES[0], **{SRG + "blur": 0.2, SRG + "mean": 0.0}), numbers(CASES[1], **{SRG + "blur": 0.15})]
    assert [one.case_id for one in cases_to_show(blind, ["relevance"], 1)] == [CASES[1], CASES[0]]


def test_shown_are_the_best_method_and_two_to_compare(league: League) -> None:
    assert shown_methods(league) == ("relevance", "cross_attention", "gradcam_multi_token")
    alone = replace(league, places=league.places[-1:])
    assert shown_methods(alone) == ("gradcam_multi_token",)


@pytest.mark.usefixtures("undrawn")
def test_a_case_is_told_with_its_answer_and_numbers_and_a_missing_picture_is_said(
    league: League, rows: tuple[Row, ...], pictures: Any, page: str
) -> None:
    assert "Case case-11 (pneumonia, right, large); answer “yes”, truth “no”: wrong. Pointing 0.680" in page
    text = league_page(league, rows, {key: image for key, image in pictures.items() if key[0] == "relevance"})
    assert text.count("No picture was drawn.") == len(pictures) - 4


@pytest.mark.usefixtures("undrawn")
def test_a_table_without_rows_is_shown_without_what_only_rows_know(league: League) -> None:
    text = league_page(league)
    assert "The rows of this league carry no curves." in text
    assert "No row of this league can be shown as a case." in text


def test_what_does_not_belong_together_is_refused(league: League, rows: tuple[Row, ...], pictures: Any) -> None:
    with pytest.raises(InputError, match="12 cases, the rows hold 1"):
        league_page(league, [one for one in rows if one.case_id == CASES[0]])
    with pytest.raises(InputError, match="'elsewhere' under 'relevance' is not shown"):
        league_page(league, rows, {("relevance", "elsewhere"): next(iter(pictures.values()))})
    with pytest.raises(InputError, match="no method"):
        league_page(replace(league, places=()), rows)


def test_every_column_and_split_has_words() -> None:
    assert {*METRICS, SRG} == MEANINGS.keys()
    assert set(SPLITS) == SPLIT_TITLES.keys()


def test_numbers_are_written_as_people_read_them() -> None:
    assert [number(v) for v in (0.98765, -0.25, -0.0001, None, float("nan"))] == ["0.988", "−0.250", "0.000", "–", "–"]
    assert number(11.046, "relevance_mass_lift") == "11.05"
    assert [p_value(p) for p in (0.0004, 0.0125, 1.0, None)] == ["p < 0.001", "p = 0.013", "p = 1.000", "not tested"]
