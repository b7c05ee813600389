"""The galleries open from disk: each wording once, with film and both maps, every text as letters."""

from __future__ import annotations

import base64
import io
import re
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.checks.test_sensitivity import NO, QUESTION, YES, row

from medgemma_visualizer.checks.sensitivity import summarise
from medgemma_visualizer.checks.wordings import Asked, Facts, ask_all, by_rules, digest_of
from medgemma_visualizer.data.photo import picture
from medgemma_visualizer.errors import InputError
from medgemma_visualizer.reports.galleries import gallery_page
from medgemma_visualizer.scores.agreement import js_divergence

FIRST, OTHER = np.eye(16), np.eye(16)[::-1] + 0.1


@pytest.fixture
def film() -> Image.Image:
    levels = np.random.default_rng(0).integers(40, 200, (64, 64), dtype=np.uint8)
    return Image.fromarray(np.repeat(levels[..., None], 3, axis=2))


def shown(film: str, said: Any, js: float, **told: Any) -> Any:
    return row(film, said, js=js, js_answered=js, maps=(FIRST, OTHER), **told)


def page(film: Image.Image, *rows: Any, **told: Any) -> str:
    return gallery_page(summarise(Asked(rows, **told)), {"a": film, "b": film}, "Model <toy>.")


def test_each_wording_of_the_galleries_stands_once_with_film_and_maps(film: Image.Image) -> None:
    rows = [shown("a", NO, 0.02), shown("b", YES, 0.4), row("c", YES, js=0.1)]  # c is in no gallery and needs no film
    html = page(film, *rows)
    stable, moved = html.split('<h2 id="moved">')
    assert html.count("<article>") == 2
    assert "wording of a → <strong>no, p(yes) 0.200" in stable.replace("</dd>", "")
    assert "wording of b → <strong>yes, p(yes) 0.900" in moved
    assert "0.020" in stable
    assert "0.400" in moved
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    assert len(pictures) == 4
    sizes = [Image.open(io.BytesIO(base64.b64decode(one))).size for one in pictures]
    assert sizes[0] == sizes[2] == film.size
    assert all(width > 2 * height for width, height in (sizes[1], sizes[3]))  # two maps and their difference in a row


def test_text_stays_letters_and_nothing_is_asked_of_the_outside(film: Image.Image) -> None:
    html = page(film, shown("a", NO, 0.02, text="Is <b>it</b> there?", question="Why & how?"))
    assert "Is &lt;b&gt;it&lt;/b&gt; there?" in html
    assert "Why &amp; how?" in html
    assert "Model &lt;toy&gt;." in html
    assert not re.search(r"https?://|src=\"(?!data:)|@import|<link|<script", html)
    assert "default-src 'none'" in html


def test_where_the_targets_differ_both_divergences_are_told(film: Image.Image) -> None:
    one = row("a", NO, js=0.02, js_answered=0.25, maps=(FIRST, OTHER))
    assert "0.020; 0.250 each for its own answer" in page(film, one)
    assert "each for its own answer" not in page(film, shown("a", NO, 0.02))


def test_the_boundary_says_what_it_was_measured_by(film: Image.Image) -> None:
    assert "From 0.300 a map\ncounts as moved. " in page(film, shown("a", NO, 0.02))
    keys = {("a", QUESTION): Facts("1", "effusion"), ("a", "Is air there?"): Facts("1", "pneumothorax")}
    maps = dict(zip(keys, (FIRST, OTHER), strict=True))
    html = page(film, shown("a", NO, 0.02), maps=maps, facts=keys)
    assert f"From {js_divergence(FIRST, OTHER):.3f} a map\ncounts as moved: the mean of another finding" in html


def test_empty_galleries_say_so(film: Image.Image) -> None:
    assert page(film, row("a", YES, js=0.1)).count("<p>None.</p>") == 2


def test_a_wording_without_film_or_map_is_refused(film: Image.Image) -> None:
    with pytest.raises(InputError, match="of case 'z' has no film"):
        page(film, shown("z", NO, 0.02))
    with pytest.raises(InputError, match="of case 'a' has no map"):
        page(film, row("a", NO, js=0.02))


def test_wordings_keep_the_maps_that_their_divergence_is_of(demo: Any, cases: Any) -> None:
    asked = ask_all(demo, cases[:1], by_rules(2), method="cross_attention")
    for one in asked.wordings:
        assert one.maps is not None
        assert one.picture == digest_of(picture(cases[0]))
        assert one.js == js_divergence(*one.maps)
        np.testing.assert_array_equal(one.maps[0], asked.maps[one.group])
