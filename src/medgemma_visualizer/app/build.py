"""The whole page: heading, six tabs, keys, colours. Knows what stands where; leaves what happens to the tabs."""

from __future__ import annotations

import threading
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any

import gradio as gr

from medgemma_visualizer.app import words
from medgemma_visualizer.app.desk import Desk, Desks
from medgemma_visualizer.app.memory import give_back_soon
from medgemma_visualizer.app.page import Page, new_page, on
from medgemma_visualizer.app.parts import escaped
from medgemma_visualizer.app.session import Session
from medgemma_visualizer.app.tabs import about, analysis, faithfulness, sensitivity, tokens, trust
from medgemma_visualizer.data.questions import QuestionSet
from medgemma_visualizer.data.sources import load_cases

TABS = {
    "analysis": analysis.create,
    "tokens": tokens.create,
    "sensitivity": sensitivity.create,
    "faithfulness": faithfulness.create,
    "trust": trust.create,
    "about": about.create,
}


#: Seconds after which a visitor who left is forgotten once more.
LATER_S = 60.0


def build(desk: Desk, cases: QuestionSet | None = None, others: Sequence[Desk] = ()) -> gr.Blocks:
    """The page.

    Args:
        desk: Where the model is asked.
        cases: What the menus offer; the embedded ones where None.
        others: Where it is asked on other devices.
    """
    with gr.Blocks(title=words.TITLE, analytics_enabled=False, fill_width=True) as demo:
        page = new_page(demo, Desks([desk, *others]), load_cases() if cases is None else cases)
        gr.HTML(_heading(page), elem_id="heading")
        with gr.Tabs(elem_id="tabs"):
            for name, create in TABS.items():
                with gr.Tab(words.TABS[name], elem_id=f"tab-{name}", id=name) as tab:
                    page.tabs[name] = tab
                    create(page)
                on(tab.select, _seen(name), [page.session], queue=False)
        gr.HTML(_keys(), elem_id="keys")

        def left(request: gr.Request) -> None:
            """A visitor closed the page: their work ends and what they asked is forgotten now, not in an hour."""
            kept, name = demo.app.state_holder.session_data, request.session_hash or ""
            for session in _sessions(kept.pop(name, None)):
                session.stop()  # Gradio calls back for states that were an output, which this one never is
            give_back_soon()
            later = threading.Timer(LATER_S, _forget_what_came_back, (kept, name))
            later.daemon = True
            later.start()

        demo.unload(left)
    return demo


def _forget_what_came_back(kept: MutableMapping[str, Any], name: str) -> None:
    """An event that was under way when its visitor left has Gradio remember what it showed; a visitor who came back has
    a session again, which stays."""
    there = kept.get(name)
    if there is not None and not _sessions(there):
        kept.pop(name, None)
        give_back_soon()


def _sessions(state: Any) -> list[Session]:
    """What Gradio keeps of a visitor: the session, where there is one."""
    return [] if state is None else [value for value in state.state_data.values() if isinstance(value, Session)]


def _seen(name: str) -> Callable[[Session], None]:
    """Notes which tab a visitor looks at."""

    def seen(session: Session) -> None:
        session.tab = name

    return seen


def _heading(page: Page) -> str:
    model = escaped(page.model.name)
    return (
        f'<header class="mv-head"><h1>{escaped(words.TITLE)}</h1><p>{escaped(words.LEAD)} '
        f"<strong>{escaped(words.DISCLAIMER)}</strong> Model: <code>{model}</code></p></header>"
    )


def _keys() -> str:
    rows = "".join(f"<dt><kbd>{escaped(key)}</kbd></dt><dd>{escaped(does)}</dd>" for key, does in words.KEYS.items())
    return f'<dialog id="mv-keys" aria-label="{words.KEYS_TITLE}"><h2>{words.KEYS_TITLE}</h2><dl>{rows}</dl></dialog>'
