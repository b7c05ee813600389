"""Wordings worth looking at, as one page that opens from disk: another answer on the same map, another map under the
same answer.

Knows how to show a wording beside its question; chooses none of them and measures nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from medgemma_visualizer.checks.sensitivity import Sensitivity
from medgemma_visualizer.checks.wordings import Wording
from medgemma_visualizer.data.photo import grayscale
from medgemma_visualizer.errors import InputError
from medgemma_visualizer.figures import comparison
from medgemma_visualizer.reports._page import FILM_PIXELS, HEAD, data_uri, environment
from medgemma_visualizer.scores.body import body_mask

Films = Mapping[str, Image.Image]

_PAGE = (
    HEAD
    + """<title>Does the map move with the answer?</title>
<style>
:root { color-scheme: light dark; --line: #8886; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 84rem; margin: 1rem auto; padding: 0 1rem 2rem;
  overflow-wrap: break-word; }
h1 { line-height: 1.2; } h2 { margin-top: 2.2rem; border-bottom: 1px solid var(--line); } p { max-width: 48rem; }
nav a { color: inherit; display: inline-block; margin-right: 1rem; }
article { border-bottom: 1px solid var(--line); padding: .8rem 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: 0 0 .6rem; }
dt { font-weight: 600; } dd { margin: 0; }
.films { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 4fr); gap: 1rem; align-items: center; }
@media (max-width: 48rem) { .films { display: block; } dl { display: block; } }
img { max-width: 100%; height: auto; display: block; background: #fff; } .quiet { font-size: .85em; opacity: .85; }
</style>
</head>
<body>
<header>
<h1>Does the map move with the answer?</h1>
<p>{{ about }}</p>
<p>Both maps of a pair explain what the model answered to the question itself, on one scale of colours; beside them
the first less the second. JS: their Jensen-Shannon divergence, in nats, from 0 to 0.693. From {{ boundary }} a map
counts as moved{{ measured_by }}. Film left is the patient’s right on a frontal film.</p>
<p><strong>A few of the extremes are shown, not what is usual.</strong> Research use only, not for clinical use.</p>
<nav aria-label="Parts of this page">{% for part in parts %}<a href="#{{ part.name }}">{{ part.title }}</a>\
{% endfor %}</nav>
</header>
<main>
{% for part in parts %}
<h2 id="{{ part.name }}">{{ part.title }}</h2>
{% for one in part.rows %}
<article>
<dl>
<dt>Question</dt><dd>{{ one.question }} → <strong>{{ one.base }}</strong></dd>
<dt>Wording</dt><dd>{{ one.text }} → <strong>{{ one.said }}</strong></dd>
<dt>JS</dt><dd>{{ one.js }}{{ one.answered }}</dd>
<dt>Case</dt><dd>{{ one.case }}, {{ one.strategy }}{{ one.truth }}</dd>
</dl>
<div class="films">
<img src="{{ one.film }}" alt="The film of case {{ one.case }}">
<img src="{{ one.maps }}" alt="Left the map of “{{ one.question }}”, in the middle that of “{{ one.text }}”, right the \
first less the second; JS {{ one.js }}">
</div>
</article>
{% else %}<p>None.</p>
{% endfor %}
{% endfor %}
</main>
</body>
</html>
"""
)


def gallery_page(found: Sensitivity, films: Films, about: str = "") -> str:
    """Both galleries of a set as one HTML page, without a script and without a request to anywhere.

    Args:
        found: Of a set that was asked just now: its wordings still hold their maps.
        films: `checks.wordings.digest_of` -> film, of every wording that is shown.
        about: Model and set, as a sentence.

    Raises:
        InputError: A wording of the galleries has no film or no map.
    """
    parts = [
        _part("stable", "Another answer, and the map did not move", found.stable_flips, films),
        _part("moved", "The same answer, and the map moved", found.moved_same, films),
    ]
    measured = "other_finding" in found.context
    return environment().from_string(_PAGE).render(
        about=about,
        boundary=f"{found.boundary:.3f}",
        measured_by=": the mean of another finding in the same picture" if measured else "",
        parts=parts,
    )  # fmt: skip


def _part(name: str, title: str, rows: Sequence[Wording], films: Films) -> dict[str, Any]:
    return {"name": name, "title": title, "rows": [_shown(row, films) for row in rows]}


def _shown(row: Wording, films: Films) -> dict[str, str]:
    if row.picture not in films or row.maps is None:
        lacking = "map" if row.picture in films else "film"
        raise InputError(f"The wording {row.text!r} of case {row.case_id!r} has no {lacking}; ask the set again.")
    film = films[row.picture]
    small = film.copy()
    small.thumbnail((FILM_PIXELS, FILM_PIXELS))
    return {
        "question": row.question,
        "base": _said(row.base.label, row.base.p_yes),
        "text": row.text,
        "said": _said(row.said.label, row.said.p_yes),
        "js": f"{row.js:.3f}",
        "answered": "" if row.js_answered in (None, row.js) else f"; {row.js_answered:.3f} each for its own answer",
        "case": row.case_id,
        "strategy": row.strategy.replace("_", " "),
        "truth": "" if row.truth is None else f"; the truth is {row.truth}",
        "film": data_uri(small),
        "maps": data_uri(_maps(row, film, row.maps)),
    }


def _said(label: str, p_yes: float | None) -> str:
    return label if p_yes is None else f"{label}, p(yes) {p_yes:.3f}"


def _maps(row: Wording, film: Image.Image, maps: tuple[np.ndarray, np.ndarray]) -> Image.Image:
    js = np.array([[0.0, row.js], [row.js, 0.0]], dtype=float)
    labels = [f"{row.question} → {row.base.label}", f"{row.text} → {row.said.label}"]
    return comparison(maps, labels, js, image=film, body_mask=body_mask(grayscale(film)), unit="share")
