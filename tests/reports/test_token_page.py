"""The page of tokens opens from disk: each token once, every text as letters, nothing from outside."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from medgemma_visualizer.records import Answer, Heatmap, Target, Token
from medgemma_visualizer.reports import token_page

TOKENS = (Token("There", 1, 300, -0.1), Token(" <script>alert(1)</script>", 2, 301, -0.5), Token(" end", 3, 302, -2.0))
ANSWER = Answer("There", "uncertain", None, None, None, TOKENS, True, "prompt")
FILM = Image.fromarray(np.full((64, 64, 3), 90, np.uint8))


@pytest.fixture
def page() -> str:
    hot = np.zeros((4, 4), np.float32)
    hot[1, 2] = 1
    maps = [
        Heatmap(
            hot, "cross_attention", "cross_attention", Target("token", token.text, (token.position - 1,)), model="m"
        )
        for token in TOKENS
    ]
    maps[2] = replace(maps[2], grid=None, fallbacks={"cross_attention": "planned <i>reason</i>"})
    return token_page(FILM, "Is <b>this</b> & that?", ANSWER, maps)


def test_every_token_is_a_link_to_its_own_map(page: str) -> None:
    assert re.findall(r'href="(#t\d)"', page) == ["#t0", "#t1", "#t2"]
    assert re.findall(r'<figure id="(t\d)">', page) == ["t0", "t1", "t2"]
    images = re.findall(r'src="(data:image/png;base64,[^"]+)"', page)
    assert images[0] != images[2]


def test_text_of_user_and_model_stays_letters(page: str) -> None:
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "Is &lt;b&gt;this&lt;/b&gt; &amp; that?" in page
    assert "planned &lt;i&gt;reason" in page


def test_nothing_is_asked_of_the_outside(page: str) -> None:
    assert not re.search(r"https?://|src=\"(?!data:)|@import|<link", page)
    assert "default-src 'none'" in page


def test_probabilities_are_those_of_the_tokens(page: str) -> None:
    assert [f"P = {p}" in page for p in ("0.905", "0.607", "0.135")] == [True] * 3


def test_a_token_without_a_map_says_why(page: str) -> None:
    assert page.count("no explanation available") == 1
