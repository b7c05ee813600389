"""What the embedded model is taught is true, what judges it is new, and training reads prompts as asking does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import evaluate
import held_out
import language as lang
import tokenizer as tokens
import train
from medgemma_visualizer.data.photo import picture
from medgemma_visualizer.errors import InputError
from medgemma_visualizer.models.loading import demo_folder
from medgemma_visualizer.models.prompt import render
from medgemma_visualizer.models.reading import read

SIDES = (None, "left", "right", "both")
ALL_FINDINGS = [
    {name: side for name, side in zip(lang.FINDINGS, sides, strict=True) if side}
    for sides in product(SIDES, SIDES, SIDES, (None, "middle"))
]
MARKS = ({}, {"L": "sans"}, {"R": "serif", "arrow": "white"}, {"pacemaker": "lead"})
QUESTIONS = (
    "Is there a pleural effusion?",
    lang.INSTRUCTION.format(q="Is there evidence of pneumonia?"),
    "Where is the fluid around the lungs?",
    "DOES IT SHOW 12 “odd” WORDS – naïve, 肺炎, 🫁?",
    "First line\nSecond line (yes/no)",
)


# --- what is taught ---------------------------------------------------------------------------------------------------


def exchanges() -> Iterator[tuple[dict[str, str], dict[str, str], lang.Exchange]]:
    """Some 4,000 exchanges over every combination of findings, and four of marks."""
    asker = lang.Questioner(np.random.default_rng(7))
    for findings, marks in product(ALL_FINDINGS, MARKS):
        for exchange in asker.draw(findings, marks, 8):
            yield findings, marks, exchange


def finding_named(question: str) -> str:
    """The finding whose name, the longest found, stands in a question."""
    text = question.lower()
    names = [(bare.removeprefix("an ").removeprefix("a "), f) for f, terms in lang.TERMS.items() for bare, _ in terms]
    found = [(len(term), finding) for term, finding in names if term in text]
    if not found:
        assert "heart" in text or "cardiac silhouette" in text, question
        return "cardiomegaly"
    return max(found)[1]


def test_every_answer_taught_is_true_of_its_film() -> None:
    asked = set()
    for findings, marks, exchange in exchanges():
        asked.add(exchange.kind)
        assert exchange.answer == true_answer(findings, marks, exchange), exchange
    assert asked == {
        "presence",
        "sided",
        "where",
        "report",
        "marker",
        "arrow",
        "pacemaker",
        "negated",
        "normal",
        "absent",
    }


def true_answer(findings: dict[str, str], marks: dict[str, str], exchange: lang.Exchange) -> str:
    """Read anew from the words of the question, by other rules than those that drew it."""
    text, kind = exchange.question.lower(), exchange.kind
    if kind in ("presence", "negated"):
        return "yes" if (finding_named(text) in findings) == (kind == "presence") else "no"
    if kind == "sided":
        side = findings.get(finding_named(text))
        return "yes" if side == "both" or (side is not None and side in text) else "no"
    if kind == "where":
        return findings.get(finding_named(text), "none")
    if kind == "marker":
        return "L" if "L" in marks else "R" if "R" in marks else "none"
    if kind in ("arrow", "pacemaker"):
        return "yes" if kind in marks else "no"
    if kind == "normal":
        asks_for_health = any(word in text for word in ("healthy", " normal"))
        return "yes" if asks_for_health == (not findings) else "no"
    return "no" if kind == "absent" else lang.report(findings)


def test_a_report_names_each_finding_with_its_side() -> None:
    told = lang.report({"pneumonia": "both", "pleural_effusion": "left", "cardiomegaly": "middle"})
    assert told == "There is pneumonia in both lungs. There is a left pleural effusion. The heart is enlarged."
    assert lang.report({}) == "No acute finding."


@pytest.mark.parametrize("findings", ALL_FINDINGS)
def test_what_a_report_says_can_be_read_back(findings: dict[str, str]) -> None:
    assert evaluate.read_report(lang.report(findings)) == findings


@pytest.mark.parametrize(
    "garbled",
    [
        "",
        "yes",
        "No acute finding. The heart is enlarged.",
        "There is a left pneumothorax",
        "There is a left pneumothorax. There is a right pneumothorax.",
        "The heart is enlarged. The heart is enlarged.",
    ],
)
def test_a_garbled_report_says_nothing(garbled: str) -> None:
    assert evaluate.read_report(garbled) is None


# --- what judges ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wording", held_out.WORDINGS)
def test_a_held_out_wording_is_unlike_every_known_template(wording: str) -> None:
    likeness, nearest = held_out.nearest_known(wording)
    assert likeness < held_out.TOO_ALIKE, nearest


def test_likeness_is_the_share_of_words_in_common() -> None:
    assert held_out.likeness("Is there {a}?", "is THERE {t}") == 1
    assert held_out.likeness("Is there {a} here?", "Is {t} there?") == pytest.approx(3 / 4)
    assert held_out.likeness("Read the marker.", "Any {t}?") == 0


def test_the_names_of_what_is_never_there_are_new() -> None:
    known = {name.removeprefix("an ").removeprefix("a ") for name in lang.ABSENT}
    known |= {bare for terms in lang.TERMS.values() for bare, _ in terms}
    assert not known & {name.removeprefix("a ") for name in held_out.ABSENT}


def trained_questions() -> set[str]:
    """Every plain question that training can draw."""
    terms = [(name, term) for name, all_terms in lang.TERMS.items() for term in all_terms]
    named = {lang.fill(t, term) for t in (*lang.PRESENCE, *lang.NEGATED) for _, term in terms}
    named |= {lang.fill(t, (name, name)) for t in lang.PRESENCE for name in lang.ABSENT}
    placed = [(name, term) for name in lang.SIDED for term in lang.TERMS[name][:4]]
    named |= {lang.fill(t, term) for t in lang.WHERE for _, term in placed}
    named |= {lang.fill(t, term, side) for t in lang.SIDE_PRESENCE for _, term in placed for side in ("left", "right")}
    return named.union(
        lang.HEART_FORMS, lang.REPORT, lang.MARKER, lang.ARROW, lang.PACEMAKER, lang.NORMAL, lang.ABNORMAL
    )


def test_groups_tell_seen_wordings_from_new_ones() -> None:
    trained = trained_questions()
    before, after = lang.INSTRUCTION.split("{q}")
    for probe in evaluate.probes():
        plain = probe.question.removeprefix(before).removesuffix(after)
        assert (plain in trained) != ("unseen" in probe.group or "watched" in probe.group), probe.question


def test_no_question_is_asked_twice() -> None:
    questions = [probe.question for probe in evaluate.probes()]
    assert len(set(questions)) == len(questions)


def test_the_true_answers_of_a_film_are_those_a_reader_gives() -> None:
    image = np.zeros((512, 512), np.uint8)
    film = evaluate.Film(image, {"pleural_effusion": "left", "cardiomegaly": "middle"}, {"R": "sans", "arrow": "white"})
    answers = {probe.group: probe.truth(film) for probe in evaluate.probes()}
    assert answers["finding/cardiomegaly"] == answers["unseen wording/pleural_effusion"] == "yes"
    assert answers["finding/pneumonia"] == "no"
    assert answers["side/pleural_effusion"] == "left"
    assert answers["side/pneumothorax"] == "none"
    assert answers["report"] == "There is a left pleural effusion. The heart is enlarged."
    assert answers["marker"] == "R"
    assert (answers["arrow"], answers["pacemaker"]) == ("yes", "no")
    assert (answers["normal"], answers["abnormal"], answers["never there"]) == ("no", "yes", "no")
    sided = [p for p in evaluate.probes() if p.group == "sided yes/no/pleural_effusion"]
    assert {p.truth(film) for p in sided if "left" in p.question} == {"yes"}
    assert {p.truth(film) for p in sided if "right" in p.question} == {"no"}


def test_balanced_accuracy_is_the_mean_over_the_true_answers() -> None:
    pairs = [("yes", True), ("no", True), ("no", True), ("no", False), ("no", False)]
    assert evaluate.figures_of(pairs) == {"balanced_accuracy": 0.75, "accuracy": 0.6, "chance": 0.5, "n": 5}


@pytest.mark.parametrize(
    "seeds", [range(0, 4), range(54_999_999, 55_000_001), range(899_999_999, 900_000_001), range(0)]
)
def test_films_that_training_or_the_cases_may_have_used_are_refused(seeds: range) -> None:
    with pytest.raises(InputError, match="cannot judge the model"):
        evaluate.fresh_films(Path("no-volume.npz"), seeds, "cpu", 1)


def test_training_is_judged_on_other_films_than_it_watched() -> None:
    from cases import FIRST_SEED

    assert train.JUDGED_SEEDS in evaluate.FRESH_SEEDS
    assert train.WATCHED_SEEDS not in evaluate.FRESH_SEEDS
    assert FIRST_SEED not in evaluate.FRESH_SEEDS


def test_the_card_holds_the_measured_figures_and_keeps_the_training_settings(tmp_path: Path) -> None:
    training = {"films": "15", "seed": "3", "stage1_steps": "7", "stage2_steps": "9"}
    row = {"balanced_accuracy": 0.875, "accuracy": 0.9, "chance": 0.5, "n": 40}
    asked = {probe.group for probe in evaluate.probes()}
    masked = {f"evidence masked, {by}/{name}" for by in evaluate.MASKED_BY for name in evaluate.EVIDENCE}
    groups = asked | masked | {f"all masked, {by}" for by in evaluate.MASKED_BY}
    said = dict.fromkeys(("dtype", "device", "torch", "transformers", "image_processor"), "x")
    evaluate.write_card(tmp_path, dict.fromkeys(groups, row), training, {"films": 4, "first_seed": 60, **said})
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "| finding/pneumonia | 0.875 | 0.500 | 0.900 | 40 |" in card
    assert f"4 fresh films, each judged once, {40 * len(asked)} answers" in card
    assert "| noisy_linear | 0.875 | 0.875 | 0.875 |" in card
    assert "| on which side it is (three findings) | 0.875 | 0.875 | 0.875 |" in card
    assert "--films 4 --first-seed 60 " in card
    assert evaluate.stored_training(tmp_path) == training
    assert set(json.loads((tmp_path / "metrics.json").read_text())["metrics"]) == groups


def test_a_folder_that_does_not_tell_how_it_was_trained_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no metrics\.json"):
        evaluate.stored_training(tmp_path)


def test_the_judge_hears_what_the_product_answers(demo: Any, cases: Any) -> None:
    some = cases[:2]
    films = [evaluate.Film(np.asarray(picture(case).convert("L")), {}, {}) for case in some]
    examinee = evaluate.Examinee(demo_folder(), films, torch.device("cpu"), torch.float32)
    for question in ("Is there a pleural effusion?", "What does this radiograph show?"):
        expected = [read(demo, picture(case), question).answer.text for case in some]
        assert examinee.answers(question) == expected


# --- what is read -----------------------------------------------------------------------------------------------------


def processor_ids(processor: Any, question: str) -> list[int]:
    """The prompt as transformers makes it in one go."""
    import PIL.Image

    content = [{"type": "image", "image": PIL.Image.new("RGB", (8, 8))}, {"type": "text", "text": question}]
    made = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=True, return_dict=True
    )
    return list(made["input_ids"][0])


@pytest.fixture(scope="module")
def built() -> Any:
    """Tokenizer and processor as training builds them."""
    return tokens.build_processor(tokens.build_tokenizer(lang.all_texts()), train.IMAGE_SIZE, train.CELLS**2)


def test_the_embedded_tokenizer_is_the_one_that_training_builds(built: Any) -> None:
    shipped = json.loads((demo_folder() / "tokenizer.json").read_text(encoding="utf-8"))
    assert json.loads(built.tokenizer.backend_tokenizer.to_str())["model"] == shipped["model"]
    assert (demo_folder() / "chat_template.jinja").read_text(encoding="utf-8") == tokens.CHAT_TEMPLATE


@pytest.mark.parametrize("question", QUESTIONS)
def test_training_and_judging_and_the_product_read_the_ids_of_the_processor(
    demo: Any, built: Any, question: str
) -> None:
    expected = processor_ids(demo.processor, question)
    packed = train.Packed([], built, 1, 1, 1, 0)
    assert packed.prefix + packed.ids(packed.lead + question + packed.after) == expected
    blank = [evaluate.Film(np.zeros((512, 512), np.uint8), {}, {})]
    examinee = evaluate.Examinee(demo_folder(), blank, torch.device("cpu"), torch.float32)
    assert examinee.prompt(question)["input_ids"][0].tolist() == expected
    assert list(render(demo, question).ids) == expected


@torch.no_grad()
def test_a_packed_sequence_gives_the_logits_of_each_question_asked_alone(built: Any) -> None:
    model = train.build_model(built.tokenizer, 0).eval()
    for parameter in model.parameters():  # random weights are small: larger ones make a leak between questions show
        if parameter.ndim > 1:
            parameter.mul_(3)
    source = train.Packed([{"findings": {"pneumonia": "left"}, "marks": ["L"]}], built, 1, 3, 1, 0)
    batch = source.make(np.random.default_rng(0))
    image = torch.randint(0, 256, (1, train.IMAGE_SIZE, train.IMAGE_SIZE), generator=torch.Generator().manual_seed(0))
    pixels = train.as_seen(image)
    seen = packed_logits(model, batch, pixels, source.prefix.index(model.config.image_token_id))
    alone = torch.cat([logits_alone(model, source.prefix, batch, s, pixels) for s in (1, 2, 3)])
    assert seen.shape == alone.shape
    assert alone.std() > 0.1
    assert torch.allclose(seen, alone, rtol=0, atol=1e-4)


def packed_logits(model: Any, batch: dict[str, torch.Tensor], pixels: torch.Tensor, first_image: int) -> torch.Tensor:
    """What the loss is computed from: (answer tokens, V)."""
    caught: list[torch.Tensor] = []
    hook = model.lm_head.register_forward_hook(lambda module, inputs, output: caught.append(output))
    train.answer_loss(model, batch, pixels, first_image)
    hook.remove()
    return caught[0]


def logits_alone(
    model: Any, prefix: list[int], batch: dict[str, torch.Tensor], question: int, pixels: torch.Tensor
) -> torch.Tensor:
    """One question of the batch's only film, by the model's own forward: (its answer tokens, V)."""
    own = batch["segment"][0] == question
    ids = torch.cat([torch.tensor(prefix), batch["ids"][0, own]])[None]  # (1, S)
    kinds = (ids == model.config.image_token_id).long()
    out = model(input_ids=ids, attention_mask=torch.ones_like(ids), token_type_ids=kinds, pixel_values=pixels)
    answers = torch.cat([torch.zeros(len(prefix)), batch["weight"][0, own]]) > 0
    return out.logits[0, :-1][answers[1:]]


# --- Gemma's chat -----------------------------------------------------------------------------------------------------


def chat(built: Any, *turns: tuple[str, Any], reply: bool = True) -> str:
    messages = [{"role": role, "content": content} for role, content in turns]
    return str(built.apply_chat_template(messages, add_generation_prompt=reply, tokenize=False))


def text(words: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": words}]


def test_one_question_about_an_image_has_the_form_of_gemma(built: Any) -> None:
    assert chat(built, ("user", [{"type": "image"}, *text(" Any effusion? ")])) == (
        "<bos><start_of_turn>user\n<start_of_image>Any effusion?<end_of_turn>\n<start_of_turn>model\n"
    )


def test_several_turns_have_the_form_of_gemma(built: Any) -> None:
    turns = (("user", text("One?")), ("assistant", text("yes")), ("user", text("Two?")))
    assert chat(built, *turns) == (
        "<bos><start_of_turn>user\nOne?<end_of_turn>\n<start_of_turn>model\nyes<end_of_turn>\n"
        "<start_of_turn>user\nTwo?<end_of_turn>\n<start_of_turn>model\n"
    )


@pytest.mark.parametrize("content", ["Be brief.", text("Be brief.")], ids=["string", "parts"])
def test_a_system_text_stands_before_the_first_question_only(built: Any, content: Any) -> None:
    turns = (("system", content), ("user", text("One?")), ("assistant", text("no")), ("user", text("Two?")))
    assert chat(built, *turns, reply=False) == (
        "<bos><start_of_turn>user\nBe brief.\n\nOne?<end_of_turn>\n<start_of_turn>model\nno<end_of_turn>\n"
        "<start_of_turn>user\nTwo?<end_of_turn>\n"
    )
