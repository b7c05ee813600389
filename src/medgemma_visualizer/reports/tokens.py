"""One page with every generated token and its map. What model and user wrote is shown as letters, never as markup."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from medgemma_visualizer.figures import overlay_array
from medgemma_visualizer.records import Answer, Heatmap
from medgemma_visualizer.reports._page import FILM_PIXELS, HEAD, data_uri, environment

_PAGE = (
    HEAD
    + """<title>Where the model looked, token by token</title>
<style>
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 1rem auto; padding: 0 1rem; }
.answer a { padding: .1em .15em; color: inherit; text-decoration: underline dotted; white-space: pre; }
.answer a:hover, .answer a:focus { outline: 2px solid; }
.maps { display: grid; grid-template-columns: repeat(auto-fill, minmax(16rem, 1fr)); gap: 1rem; }
figure { margin: 0; } figure:target { outline: 3px solid; outline-offset: .3rem; }
img { width: 100%; height: auto; } figcaption { font-size: .85em; } .quiet { font-size: .85em; opacity: .8; }
</style>
</head>
<body>
<h1>Where the model looked, token by token</h1>
<p><strong>Question:</strong> {{ question }}</p>
<p class="answer"><strong>Answer:</strong>
{% for token in tokens %}<a href="#t{{ loop.index0 }}">{{ token.text }}</a>{% endfor %}</p>
{% if notice %}<p><strong>Notice:</strong> {{ notice }}</p>{% endif %}
<p class="quiet">{{ method }}, model {{ model }}. Each map has colours of its own, from its 2nd to its 98th percentile
within the body. Film left is the patient's right. Research use only, not for clinical use.</p>
<div class="maps">
{% for token in tokens %}
<figure id="t{{ loop.index0 }}">
<img src="{{ token.image }}" alt="Film with the map of token {{ loop.index0 }}">
<figcaption><strong>{{ token.text }}</strong> · P = {{ token.probability }}{% if token.share %} · {{ token.share }} of
attention on the image{% endif %}{% if token.reason %}<br>no explanation available: {{ token.reason }}{% endif %}
</figcaption>
</figure>
{% endfor %}
</div>
</body>
</html>
"""
)


def token_page(
    image: Image.Image, question: str, answer: Answer, heatmaps: Sequence[Heatmap], body: np.ndarray | None = None
) -> str:
    """A self-contained HTML page: the answer with every token a link to its map.

    Args:
        image: The film, RGB.
        question: As asked.
        answer: What the model said; one heatmap belongs to each of its tokens.
        heatmaps: As `heatmaps.tokens.token_maps` returns them.
        body: bool (height, width); colour is drawn inside it.
    """
    small = image.copy()
    small.thumbnail((FILM_PIXELS, FILM_PIXELS))
    inside = None if body is None else np.asarray(Image.fromarray(body).resize(small.size, Image.Resampling.NEAREST))
    tokens = [
        {
            "text": token.text,
            "probability": f"{np.exp(token.logprob or 0.0):.3f}",
            "share": _share(heatmap),
            "reason": "; ".join(heatmap.fallbacks.values()),
            "image": data_uri(Image.fromarray(overlay_array(small, heatmap, inside))),
        }
        for token, heatmap in zip(answer.tokens, heatmaps, strict=True)
    ]
    template = environment().from_string(_PAGE)
    about: dict[str, Any] = {"method": heatmaps[0].method, "model": heatmaps[0].model, "notice": answer.notice}
    return template.render(question=question, tokens=tokens, **about)


def _share(heatmap: Heatmap) -> str:
    share = heatmap.extras.get("share_on_image")
    return "" if share is None else f"{share:.1%}"
