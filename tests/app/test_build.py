"""The whole page as it is built: its tabs, its names for tests, what no handler may do, and what each handler does."""

from __future__ import annotations

import base64
import inspect
import itertools
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from PIL import Image

from medgemma_visualizer import verbs
from medgemma_visualizer.app import words
from medgemma_visualizer.app.actions import analysis as analysis_actions
from medgemma_visualizer.app.actions import faithfulness as faithfulness_actions
from medgemma_visualizer.app.actions import tokens as tokens_actions
from medgemma_visualizer.app.actions.analysis import examples
from medgemma_visualizer.app.build import build
from medgemma_visualizer.app.desk import Cancelled, Desk
from medgemma_visualizer.app.parts import note
from medgemma_visualizer.app.session import Session
from medgemma_visualizer.app.tabs import _long
from medgemma_visualizer.data.photo import picture
from medgemma_visualizer.data.questions import QuestionSet
from medgemma_visualizer.errors import UnavailableError
from medgemma_visualizer.models import reading

DOCS = Path(__file__).parents[2] / "docs" / "app.md"
SPECIFIED = ("MIMIC Question Analysis", "Token-Conditioned Analysis", "Prompt Sensitivity Analysis")


@pytest.fixture(scope="module")
def page(demo, loops):
    return build(Desk(demo))


@pytest.fixture(scope="module")
def names(page):
    return [block.elem_id for block in page.blocks.values() if getattr(block, "elem_id", None)]


def test_the_tabs_are_the_specifications_and_the_league(page):
    labels = [block.label for block in page.blocks.values() if block.get_block_name() == "tabitem"]
    assert labels == list(words.TABS.values())
    assert labels[:3] == list(SPECIFIED)
    assert labels[3:] == ["Faithfulness Validation", "Method Trust", "About"]


def test_every_name_is_given_once(names):
    assert len(names) == len(set(names))


def test_the_documented_names_are_those_of_the_page(names):
    told = set(re.findall(r"`([a-z]+(?:-[a-z0-9]+)+)`", DOCS.read_text(encoding="utf-8").partition("## Names")[2]))
    assert told == {name for name in names if "-" in name}


def test_no_handler_is_offered_as_an_api(page):
    listeners = [fn for fn in page.fns.values() if not any(event == "unload" for _, event in fn.targets)]
    assert len(listeners) > 50
    assert {fn.api_visibility for fn in listeners} == {"private"}


def test_no_handler_puts_the_session_where_it_would_be_hashed_at_every_event(page):
    (session,) = [b for b in page.blocks.values() if type(getattr(b, "value", None)).__name__ == "Session"]
    assert all(session not in fn.outputs for fn in page.fns.values())
    assert sum(session in fn.inputs for fn in page.fns.values()) > 50


def test_the_desk_and_not_the_queue_says_who_may_ask_the_model(page):
    waiting = [fn for fn in page.fns.values() if fn.queue and fn.concurrency_limit is not None and fn.inputs]
    assert waiting == []


def test_what_gives_steps_is_a_generator_function_or_gradio_would_show_the_generator(page):
    handlers = [fn.fn for fn in page.fns.values() if fn.fn is not None]
    in_steps = [handler for handler in handlers if "Iterator" in str(inspect.signature(handler).return_annotation)]
    assert len(in_steps) >= 18
    assert all(map(inspect.isgeneratorfunction, in_steps))
    assert not any(inspect.isgeneratorfunction(handler) for handler in handlers if handler not in in_steps)


# --- what handlers do ------------------------------------------------------------------------------------------------


class Visitor:
    """Presses without a browser: `at` holds what stands where, by name."""

    def __init__(self, page: gr.Blocks) -> None:
        self.page, self.session = page, Session()
        self.at: dict[str, Any] = {}
        self.pressed: set[str] = set()
        self.listeners: dict[tuple[str, str], Any] = {}
        for fn in page.fns.values():
            for origin, event in fn.targets:
                name = getattr(page.blocks.get(origin), "elem_id", None) or fn.name
                if fn.name != "seen":
                    self.listeners[name, event] = fn

    def does(self, name: str, event: str, *given: Any, steps: int | None = None) -> str:
        """Sends an event; gives the text of its alert. Work that takes long is left after so many steps."""
        self.pressed.add(name)
        return self.run(self.listeners[name, event], given, steps)

    def run(self, fn: Any, given: tuple[Any, ...] = (), steps: int | None = None) -> str:
        mine = [self.session] if fn.inputs and isinstance(getattr(fn.inputs[0], "value", None), Session) else []
        found = fn.fn(*mine, *given)
        told = ""
        for update in itertools.islice(found if inspect.isgenerator(found) else [found], steps):
            assert update != {} or not fn.outputs, f"{fn.name} would show a bare {{}}, as its only output is given none"
            assert set(update or {}) <= set(fn.outputs), f"{fn.name} sets what its listener may not"
            kept = {block: value for block, value in (update or {}).items() if value != gr.skip()}
            named = {block.elem_id or type(block).__name__: value for block, value in kept.items()}
            self.at |= named
            told = next((str(value) for name, value in named.items() if name.endswith("-alert")), told)
        return told

    def asked(self) -> None:
        """Other tabs hear that another case was asked."""
        for fn in self.page.fns.values():
            if fn.name == "other_case":
                self.run(fn, ("", False)[: len(fn.inputs) - 1])

    def left(self, tab: str) -> set[str]:
        """What listens on a tab and was not pressed."""
        return {name for name, _ in self.listeners if name.startswith(f"{tab}-")} - self.pressed


def upload(folder: Path, film: Image.Image) -> str:
    """The path of a file as an upload makes it, in a folder of its own."""
    path = folder / "upload" / "film.png"
    path.parent.mkdir()
    film.save(path)
    return str(path)


def event(**data: Any) -> gr.EventData:
    return gr.EventData(None, data)


@pytest.fixture
def visitor(page):
    made = Visitor(page)
    assert made.does("opened", "load") == ""
    return made


@pytest.fixture
def analysed(visitor):
    """Presses Analyse, with what the controls say at first unless told otherwise."""

    def press(question: str, target: str = "", method: str = "", preset: str = "quick") -> str:
        return visitor.does("analysis-run", "click", question, preset, method, target, "viridis")

    return press


def test_the_first_tab_can_be_gone_through(visitor, analysed, cases):
    v, first = visitor, cases[0]
    assert v.at["analysis-truth"] == first.truth
    assert analysed(first.question, method="cross_attention") == ""
    assert v.does("analysis-question", "submit", first.question, "quick", "", "", "viridis") == ""
    v.does("analysis-viewer", "look", event(opacity=70))
    v.does("analysis-colormap", "input", "magma")
    v.does("analysis-undo", "click", "viridis")
    assert v.at["analysis-viewer"]["look"]["opacity"] == 50
    v.does("analysis-redo", "click", "viridis")
    assert v.at["analysis-viewer"]["look"]["opacity"] == 70
    assert v.does("analysis-downloads", "click", "viridis") == ""
    assert "result.html" in v.at["analysis-links"]
    assert "pinned as A and B" in v.does("analysis-compare", "click")
    v.does("analysis-pin-a", "click")
    v.does("analysis-pin-b", "click")
    assert v.does("analysis-compare", "click") == ""
    v.does("analysis-previous", "click", first.id, "viridis")
    assert v.at["analysis-case"] == cases[-1].id
    v.does("analysis-next", "click", cases[-1].id, "viridis")
    assert v.at["analysis-case"] == first.id
    v.does("analysis-case", "input", cases[2].id, "viridis")
    assert v.at["analysis-question"] == cases[2].question
    v.does("analysis-examples", "example", "viridis", event(n="2"))
    assert v.at["analysis-case"] == examples(cases)[2][1]
    for wrong in (event(n="99"), event(n="-1"), event(), gr.EventData(None, "x")):
        assert v.does("analysis-examples", "example", "viridis", wrong) == ""
    assert v.at["analysis-case"] == examples(cases)[2][1]
    v.does("analysis-custom", "input", True, "Is there fluid?")
    v.does("analysis-upload", "upload", None)
    v.does("analysis-cancel", "click")
    assert v.left("analysis") == set()


def test_an_alert_outlives_late_replies_to_what_was_done_before_it(visitor, analysed):
    told = analysed("")
    assert "question is empty" in told
    visitor.does("analysis-question", "change", "")
    visitor.does("analysis-custom", "input", True, "")
    visitor.does("analysis-viewer", "look", event(opacity=70))
    visitor.does("tokens-viewer", "box", event(x0=0.2, y0=0.2, x1=0.4, y1=0.4))
    visitor.does("analysis-cancel", "click")
    assert visitor.at["analysis-alert"] == told
    assert "tokens-alert" not in visitor.at


def test_keys_pressed_in_one_go_each_go_on_from_the_one_before(visitor, cases):
    handlers = inspect.unwrap(visitor.listeners["analysis-next", "click"].fn).__self__
    gone = [handlers._beside(visitor.session, cases[0].id, step) for step in (1, 1, 1, -1)]
    assert [name for name, _ in gone] == [cases[n].id for n in (1, 2, 3, 2)]
    assert visitor.session.request == gone[-1][1]  # the last one is the one that is answered
    visitor.does("analysis-next", "click", cases[0].id, "viridis")
    assert visitor.at["analysis-case"] == cases[3].id


@pytest.mark.parametrize(
    ("module", "drawing", "press", "kept"),
    [
        (analysis_actions, "scores_part", ("analysis-run", "click"), "analysis-answer"),
        (analysis_actions, "links", ("analysis-downloads", "click", "viridis"), "analysis-links"),
        (tokens_actions, "links", ("tokens-downloads", "click"), "tokens-links"),
        (tokens_actions, "strip", ("tokens-next", "click", "", False), "tokens-strip"),
        (tokens_actions, "heads", ("tokens-show-heads", "click"), "tokens-heads"),
        (faithfulness_actions, "links", ("faithfulness-downloads", "click"), "faithfulness-links"),
    ],
)
def test_what_is_drawn_while_the_visitor_turns_to_another_case_is_not_shown(
    visitor, cases, monkeypatch, module, drawing, press, kept
):
    visitor.does("tab-tokens", "select", "", False)
    before = visitor.at.get(kept)

    def drawn(*_: Any, **__: Any) -> str:
        monkeypatch.undo()
        visitor.session.took(verbs.analyze(visitor.session.current().reading.model, cases[2], method="cross_attention"))
        return "of the case that was left"

    monkeypatch.setattr(module, drawing, drawn)
    given = (cases[0].question, "quick", "", "", "viridis") if press[0] == "analysis-run" else press[2:]
    assert visitor.does(*press[:2], *given) == ""
    assert visitor.session.current().case is cases[2]
    assert visitor.at.get(kept) == before


def test_a_word_chosen_before_the_second_tab_hears_of_its_case_stays_shown(visitor):
    visitor.does("tab-tokens", "select", "", False)
    visitor.does("tokens-next", "click", "", False)
    shown = {name: value for name, value in visitor.at.items() if name in ("tokens-strip", "tokens-viewer")}
    visitor.asked()
    assert {name: visitor.at[name] for name in shown} == shown
    assert shown["tokens-strip"]


def test_a_case_without_a_first_map_leaves_nothing_of_the_case_before(visitor, monkeypatch):
    visitor.does("tab-tokens", "select", "", False)
    visitor.session.results.pop("chosen")

    def full(*_: Any) -> Any:
        raise UnavailableError("The memory is full. Ask again.")

    monkeypatch.setattr(tokens_actions, "choose", full)
    visitor.asked()
    assert "memory is full" in visitor.at["tokens-alert"]
    assert (visitor.at["tokens-strip"], visitor.at["tokens-viewer"]) == ("", {})


def test_results_of_a_case_that_was_left_meanwhile_are_not_shown(visitor, cases):
    done = _long.of_this_case(visitor.session, lambda found: {"table": found})
    assert done("of this case") == {"table": "of this case"}
    visitor.does("analysis-case", "input", cases[2].id, "viridis")
    with pytest.raises(Cancelled):
        done("of the case before")


def test_the_second_tab_can_be_gone_through(visitor):
    v, how = visitor, ("", False)
    assert v.does("tab-tokens", "select", *how) == ""
    for name in ("tokens-previous", "tokens-next"):
        assert v.does(name, "click", *how) == ""
    for name in ("tokens-method", "tokens-force"):
        assert v.does(name, "input", "cross_attention", False) == ""
    assert v.does("tokens-strip", "word", *how, event(kind="answer", n="0")) == ""
    assert "no such word" in v.does("tokens-strip", "word", *how, event(kind="answer", n="-1"))
    v.does("tokens-examples", "example", event(n="1"))
    assert v.at["tokens-words"] == "effusion, pleural, fluid"
    assert v.does("tokens-run", "click", *how, "effusion, fluid") == ""
    assert "No words" in v.does("tokens-words", "submit", *how, " ,")
    v.does("tokens-all", "click", steps=1)
    assert v.does("tokens-viewer", "cell", event(row=1, col=2)) == ""
    assert v.does("tokens-show-heads", "click") == ""
    assert v.does("tokens-heads", "choice", event(layer="0", head="1")) == ""
    v.does("tokens-viewer", "box", event(x0=0.2, y0=0.2, x1=0.4, y1=0.4))
    assert v.does("tokens-edit", "click", "white") == ""
    assert "Undo the changes" in v.does("tokens-downloads", "click")
    assert v.does("tokens-undo", "click") == ""
    assert v.does("tokens-downloads", "click") == ""
    v.does("tokens-cancel", "click")
    assert v.left("tokens") == set()


def test_the_third_tab_can_be_gone_through(visitor, cases):
    v, prompts = visitor, [cases[0].question, "Is there fluid?", *[""] * 6]
    v.does("sensitivity-add", "click", 2)
    v.does("sensitivity-remove", "click", 3)
    assert "Remove one first" in v.does("sensitivity-add", "click", 8)
    assert "No fewer than 2" in v.does("sensitivity-remove", "click", 2)
    assert v.does("sensitivity-more", "click", 2, *prompts) == ""
    assert v.does("sensitivity-run", "click", "relevance", "", 2, *prompts) == ""
    assert v.does("sensitivity-difference", "input", 1) == ""
    assert v.does("sensitivity-downloads", "click") == ""
    v.does("sensitivity-cancel", "click")
    assert v.left("sensitivity") == set()


def test_the_fourth_and_fifth_tab_can_be_gone_through(visitor):
    v = visitor
    assert "Nothing has been checked" in v.does("faithfulness-downloads", "click")
    for name in ("faithfulness-validate", "faithfulness-sanity"):
        v.does(name, "click", "relevance", "", steps=1)
    v.does("faithfulness-cancel", "click")
    assert v.does("show", "load") == ""
    assert "mv-sortable" in v.at["trust-table"]
    assert v.does("trust-column", "input", "roc_auc") == ""
    assert v.does("trust-downloads", "click") == ""
    v.does("trust-examples-run", "click", "relevance", steps=1)
    v.does("trust-examples-cancel", "click")
    assert "No method is chosen" in v.does("trust-measure", "click", 2, [], 0)
    v.does("trust-cancel", "click")
    assert v.left("faithfulness") | v.left("trust") == set()


def test_truth_goes_with_an_edited_question_and_with_a_film_of_ones_own(visitor, cases, tmp_path):
    question, truth = cases[0].question, cases[0].truth
    visitor.does("analysis-question", "change", question + "?")
    assert (visitor.at["analysis-truth"], visitor.at["analysis-custom"]) == ("", True)
    visitor.does("analysis-custom", "input", False, question + "?")
    assert (visitor.at["analysis-question"], visitor.at["analysis-truth"]) == (question, truth)
    film = upload(tmp_path, picture(cases[1]))
    assert visitor.does("analysis-upload", "upload", film) == ""
    assert (visitor.at["analysis-truth"], visitor.at["analysis-custom"]) == ("", True)
    assert visitor.at["analysis-upload"] is None
    assert list(tmp_path.iterdir()) == []
    visitor.does("analysis-question", "change", question)
    assert visitor.at["analysis-truth"] == ""
    assert "No case has been analysed" in visitor.does("analysis-downloads", "click", "viridis")


def test_a_film_without_a_body_takes_nothing_of_the_place_of_the_one_before(visitor, cases, tmp_path):
    before = dict(visitor.at)
    assert "shows no body" in visitor.does("analysis-upload", "upload", upload(tmp_path, Image.new("L", (64, 64), 90)))
    assert list(tmp_path.iterdir()) == []
    assert {name for name in visitor.at if visitor.at[name] is not before.get(name)} == {"analysis-alert"}
    assert visitor.session.current().case is cases[0]
    visitor.does("analysis-question", "change", cases[0].question)
    assert visitor.at["analysis-truth"] == cases[0].truth


def test_results_of_the_case_before_are_gone_from_every_tab(visitor, cases):
    v = visitor
    v.does("tab-tokens", "select", "", False)
    v.session.tab = "analysis"
    v.does("sensitivity-run", "click", "relevance", "", 2, "Is there fluid?", "Is there an effusion?", *[""] * 6)
    kept = ("tokens-strip", "tokens-caption", "sensitivity-answers", "sensitivity-maps", "sensitivity-copy")
    assert all(v.at[name] for name in kept)
    assert v.at["sensitivity-hint"] == ""  # what was to come is there
    v.does("analysis-next", "click", cases[0].id, "viridis")
    v.asked()
    assert {v.at[name] for name in kept} == {""}
    assert v.at["sensitivity-hint"] == note(words.SENSITIVITY_HINT)
    assert v.at["faithfulness-hint"] == note(words.FAITHFULNESS_HINT)
    assert (v.at["tokens-viewer"], v.at["sensitivity-viewer"]) == ({}, {})
    assert cases[1].question in v.at["faithfulness-case"]


def test_a_target_of_the_case_before_is_not_asked_of_the_next(visitor, analysed, cases):
    assert analysed(cases[0].question, target="token:0") == ""
    visitor.session.choose(replace(visitor.session.settings, target="token:99"))
    assert visitor.does("analysis-next", "click", cases[0].id, "viridis") == ""
    assert visitor.at["analysis-case"] == cases[1].id
    assert "--target" not in visitor.at["analysis-copy"]


@pytest.fixture
def meanwhile(monkeypatch):
    """What is done in this list happens while the model is asked the next time."""
    done, at_once = [], Desk.quick

    def quick(desk, *work):
        if done:
            done.pop()()
        return at_once(desk, *work)

    monkeypatch.setattr(Desk, "quick", quick)
    return done


def test_a_key_pressed_while_an_answer_is_waited_for_goes_on_from_the_case_that_is_coming(visitor, cases, meanwhile):
    v, told = visitor, []
    meanwhile.append(lambda: told.append(v.does("analysis-next", "click", cases[0].id, "viridis")))
    assert v.does("analysis-next", "click", cases[0].id, "viridis") == ""
    assert told == [""]
    assert (v.at["analysis-case"], v.at["analysis-question"]) == (cases[2].id, cases[2].question)
    assert cases[2].question in v.at["analysis-answer"]
    assert v.session.current().case is v.session.stored is cases[2]


def test_analyse_pressed_while_another_case_is_coming_asks_the_one_that_is_shown(visitor, analysed, cases, meanwhile):
    v = visitor
    meanwhile.append(lambda: analysed("Is there fluid?"))
    v.does("analysis-case", "input", cases[1].id, "viridis")
    assert v.at["analysis-case"] == cases[0].id  # the menu had the other one
    assert "Is there fluid?" in v.at["analysis-answer"]
    assert v.session.current().case.image == v.session.stored.image == cases[0].image


def test_a_case_that_is_coming_does_not_take_the_place_of_a_film_that_was_uploaded_meanwhile(
    visitor, cases, meanwhile, tmp_path
):
    v, film = visitor, upload(tmp_path, picture(cases[2]))
    meanwhile.append(lambda: v.does("analysis-upload", "upload", film))
    v.does("analysis-next", "click", cases[0].id, "viridis")
    assert words.UPLOADED in v.at["analysis-answer"]
    assert v.at["analysis-truth"] == ""
    assert v.session.analysis is None
    assert v.session.upload is not None


def test_an_analysis_that_another_took_the_place_of_says_nothing(visitor, analysed, cases, meanwhile):
    v, told = visitor, []
    meanwhile.append(lambda: told.append(v.does("analysis-next", "click", cases[0].id, "viridis")))
    assert analysed("Is there fluid?") == ""
    assert told == [""]
    assert cases[1].question in v.at["analysis-answer"]
    assert v.at["analysis-alert"] == ""


def test_settings_taken_back_stand_in_the_controls(visitor, analysed, cases):
    analysed(cases[0].question, target="answer", method="cross_attention")
    visitor.does("analysis-undo", "click", "viridis")
    assert (visitor.at["analysis-method"], visitor.at["analysis-target"]) == ("", "")
    visitor.does("analysis-redo", "click", "viridis")
    assert (visitor.at["analysis-method"], visitor.at["analysis-target"]) == ("cross_attention", "answer")


def test_an_error_leaves_every_input_and_the_result_before(visitor, analysed, cases):
    before = dict(visitor.at)
    assert "no token" in analysed(cases[0].question, target="token:99")
    changed = {name for name, value in visitor.at.items() if name not in before or before[name] is not value}
    assert changed <= {"analysis-alert", "analysis-progress"}
    assert visitor.session.current().case is cases[0]


def test_long_work_that_is_called_off_says_so_and_keeps_the_result_before(visitor, cases):
    answer = visitor.at["analysis-answer"]
    (run,) = [fn.fn for fn in visitor.page.fns.values() if fn.name == "validate"]
    steps = run(visitor.session, "relevance", "")
    shown = {block.elem_id: text for block, text in next(steps).items()}
    assert 'role="progressbar"' in shown["faithfulness-progress"]
    _long.cancel(visitor.session)
    *_, last, _ = steps
    told = {block.elem_id: text for block, text in last.items()}
    assert words.STOPPED in told["faithfulness-alert"]
    assert told["faithfulness-progress"] == ""
    assert visitor.at["analysis-answer"] is answer
    assert visitor.session.results.keys() == {"found"}


def test_an_analysis_that_is_called_off_leaves_no_bar_and_the_answer_before(visitor, cases):
    v, answer = visitor, visitor.at["analysis-answer"]
    steps = v.listeners["analysis-run", "click"].fn(v.session, cases[0].question, "paper", "rise", "", "viridis")
    shown: dict[str, Any] = {}
    for update in steps:
        shown |= {block.elem_id: text for block, text in update.items()}
        if 'role="progressbar"' in shown.get("analysis-progress", ""):
            v.does("analysis-cancel", "click")
            break
    for update in steps:
        shown |= {block.elem_id: text for block, text in update.items() if text != gr.skip()}
    assert words.STOPPED in shown["analysis-alert"]
    assert shown["analysis-progress"] == ""
    assert shown.get("analysis-answer", answer) is answer


def test_markup_and_template_text_in_a_question_stay_letters_in_all_html(visitor, analysed):
    evil = "<script>alert(1)</script> **b** ${value} {{value}} `x` is there an effusion?"
    assert analysed(evil) == ""
    visitor.asked()
    visitor.does("tab-tokens", "select", "", False)
    html = {name: text for name, text in visitor.at.items() if isinstance(text, str) and "<" in text}
    html.pop("analysis-raw", None)
    html.pop("analysis-prompt")  # a box of text, whose value is letters
    assert {"analysis-answer", "tokens-case", "tokens-strip", "faithfulness-case"} <= html.keys()
    for name, text in html.items():
        assert not re.search(r"<script|\*\*b\*\*<|\$\{|\{\{|`", text), name
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html["analysis-answer"]


def test_what_the_model_writes_stays_letters_in_all_html(visitor, analysed, cases, monkeypatch):
    evil = "<img src=x onerror=alert(1)> **b** ${value} {{value}} `x` yes"
    monkeypatch.setattr(reading, "token_texts", lambda model, ids: (evil,) * len(ids))
    assert analysed(cases[0].question) == ""
    visitor.asked()
    visitor.does("tab-tokens", "select", "", False)
    visitor.does("tokens-viewer", "cell", event(row=1, col=2))
    cell = visitor.at["tokens-cell"]
    visitor.does("tokens-viewer", "box", event(x0=0.2, y0=0.2, x1=0.4, y1=0.4))
    visitor.does("tokens-edit", "click", "white")
    for name in ("analysis-pin-a", "analysis-pin-b", "analysis-compare"):
        visitor.does(name, "click")
    visitor.does("analysis-downloads", "click", "viridis")
    told = {name: text for name, text in (visitor.at | {"cell": cell}).items() if "onerror" in str(text)}
    assert told.pop("analysis-raw").startswith(evil)  # a box of text, whose value is letters
    for name in ("analysis-viewer", "tokens-viewer"):
        assert evil in told.pop(name)["alt"]  # an attribute that the viewer's script sets
    assert {"analysis-answer", "analysis-pins", "tokens-case", "tokens-strip", "cell", "tokens-edited"} <= set(told)
    for name, text in told.items():
        assert not re.search(r"<img src=x|\*\*b\*\*<|\$\{|\{\{|`", text), name
    page = base64.b64decode(
        re.search(r'download="result.html" href="data:[^,]+,([^"]+)"', visitor.at["analysis-links"])[1]
    )
    assert b"onerror" in page
    assert b"<img src=x" not in page


def test_a_stored_case_that_cannot_be_read_shows_no_other_film_beside_its_question(demo, cases, loops, tmp_path):
    gone = replace(cases[0], id="gone", image=tmp_path / "gone.png", question="Is there a nodule?")
    visitor = Visitor(build(Desk(demo), QuestionSet([cases[0], gone], cases.source)))
    visitor.does("opened", "load")
    assert visitor.at["analysis-viewer"]["film"]
    assert "gone.png" in visitor.does("analysis-next", "click", cases[0].id, "viridis")
    assert (visitor.at["analysis-case"], visitor.at["analysis-question"]) == ("gone", "Is there a nodule?")
    assert (visitor.at["analysis-viewer"], visitor.at["analysis-answer"]) == ({}, "")
    assert visitor.session.analysis is None
    assert visitor.does("analysis-next", "click", "gone", "viridis") == ""
    assert visitor.session.current().case is cases[0]
