"""What `analyze --words` and `analyze --cell` add to what is printed and written."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medgemma_visualizer import verbs
from medgemma_visualizer.heatmaps import explain_words, words_for_cell
from medgemma_visualizer.models.reading import read
from tests.cli.conftest import Call, everything_in

pytestmark = pytest.mark.usefixtures("answering")


@pytest.fixture
def stored(call: Call) -> Any:
    """Runs `analyze`, and returns what it printed with what it stored."""

    def run(*words: str) -> tuple[str, dict[str, Any]]:
        done = call("analyze", *words, "--out", "results")
        assert (done.code, done.err) == (0, "")
        return done.out, json.loads(Path("results/result.json").read_text("utf-8"))

    return run


def test_words_are_weighed_by_the_method_of_the_map(stored: Any, reading: Any) -> None:
    printed, document = stored("--words", "--method", "token_gradient")
    side, found = explain_words(reading, "token_gradient"), document["words"]
    assert (found["method"], found["requested"], found["fallbacks"]) == ("token_gradient", "token_gradient", {})
    assert [token["text"] for token in found["tokens"]] == [word.text for word in side.words]
    np.testing.assert_allclose([token["value"] for token in found["tokens"]], side.values, atol=1e-5)
    for name in ("image_share", "image_effect", "words_effect", "score", "prior"):
        assert found[name] == pytest.approx(getattr(side, name), abs=1e-4), name
    assert found["target"]["kind"] == document["heatmap"]["target"]["kind"] == "contrast"
    assert f"{side.image_share:.0%} of the effect is the picture's" in printed
    assert f"Score     {side.score:.3f} as asked, {side.prior:.3f} without the picture" in printed
    for word, value in zip(side.words, side.values, strict=True):
        assert any(row.split() == [word.text.strip(), f"{value:+.4f}"] for row in printed.splitlines()), word


def test_weights_without_sign_are_not_called_effects(stored: Any) -> None:
    printed, document = stored("--words", "--method", "relevance")
    assert not document["words"]["signed"]
    assert "of the weight is the picture's" in printed
    assert "Effect" not in printed


def test_where_the_method_tells_nothing_of_words_occlusion_does_and_it_is_said(stored: Any) -> None:
    printed, document = stored("--words", "--method", "cross_attention", "--layers", "0,1")
    assert (document["words"]["method"], document["words"]["requested"]) == ("occlusion", "cross_attention")
    assert document["words"]["fallbacks"] == {"cross_attention": "It gives no numbers for the question's words."}
    assert "Failed    cross_attention for words: It gives no numbers for the question's words." in printed
    assert "occlusion)" in printed


def test_an_option_that_words_do_not_have_is_named(stored: Any) -> None:
    printed, document = stored("--words", "--method", "gradcam_multi_token", "--option", "layer=1")
    assert document["words"]["left_out"] == ["layer"]
    assert "gradcam_multi_token, without the map's layer)" in printed


def test_without_a_map_words_are_still_weighed(stored: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["medgemma_visualizer.heatmaps.explain"], "AUTO", ())  # nothing is left to try
    printed, document = stored("--words", "--method", "auto")
    assert not document["heatmap"]["available"]
    assert document["words"]["method"] == "occlusion"
    assert "No explanation is available." in printed


def test_a_cell_names_the_words_that_lean_on_it(stored: Any, reading: Any) -> None:
    printed, document = stored("--cell", "11,2", "-q", "What does this radiograph show?")
    links = words_for_cell(read(reading.model, reading.image, "What does this radiograph show?"), 11, 2)
    found = document["cell"]
    assert (found["row"], found["col"]) == (11, 2)
    assert [(token["text"], token["generated"]) for token in found["tokens"]] == [
        (link.token.text, link.generated) for link in links
    ]
    np.testing.assert_allclose(
        [token["effect"] for token in found["tokens"]], [link.effect for link in links], atol=1e-4
    )
    np.testing.assert_allclose(
        [token["attention"] for token in found["tokens"]], [link.attention for link in links], atol=1e-6
    )
    assert any(link.generated for link in links)
    assert "row 11, column 2 of 16 × 16, from 0 at the top left" in printed
    assert sum(" question " in row or " answer " in row for row in printed.splitlines()) >= len(links)


def test_a_plain_result_has_neither(stored: Any) -> None:
    _, document = stored()
    assert not {"words", "cell"} & set(document)


def test_both_are_in_the_one_json_document(call: Call) -> None:
    done = call("analyze", "--words", "--cell", "0,0", "--json", "--out", "results")
    assert (done.code, done.err) == (0, "")
    document = json.loads(done.out)
    assert document == json.loads(Path("results/result.json").read_text("utf-8"))
    assert {"words", "cell"} <= set(document)


def test_words_of_a_question_are_printed_letter_by_letter(stored: Any) -> None:
    printed, _ = stored("--words", "-q", "Is \u202eit [red]red[/red] :smile: ?")
    assert "\u202e" not in printed
    rows = [row.split()[0] for row in printed[printed.index("Word  ") :].splitlines() if row.strip()]
    assert "[" in rows
    assert ":" in rows


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("3", "--cell '3' is not a row and a column"),
        ("1,2,3", "not a row and a column"),
        ("a,b", "--cell 'a,b' is not a list of whole numbers"),
        ("", "not a list of whole numbers"),
    ],
)
def test_what_names_no_cell_is_refused_before_a_model_is_loaded(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cell: str, said: str
) -> None:
    monkeypatch.setattr(verbs, "load_model", lambda *_, **__: pytest.fail("A model was loaded."))
    done = call("analyze", "--cell", cell, "--out", "results")
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert everything_in(tmp_path) == {}


@pytest.mark.parametrize("cell", ["16,0", "0,16", "-1,0"])
def test_a_cell_outside_the_grid_is_refused_and_nothing_is_written(call: Call, tmp_path: Path, cell: str) -> None:
    done = call("analyze", "--cell", cell, "--out", "results")
    assert (done.code, done.out) == (2, "")
    assert "the grid has 16 × 16 cells, counted from 0" in done.err
    assert everything_in(tmp_path) == {}
