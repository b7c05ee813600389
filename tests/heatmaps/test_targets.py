"""A target names rows: the token at position p is explained by row p − 1, wherever its words stand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from medgemma_visualizer.data.photo import picture
from medgemma_visualizer.errors import InputError
from medgemma_visualizer.heatmaps.targets import find_target_tokens_with_offsets, flipped, resolve, score_tokens
from medgemma_visualizer.models.answer import yes_no
from medgemma_visualizer.models.forward import Generated, logits_at
from medgemma_visualizer.models.reading import read


def _read(demo: Any, cases: Any, question: str, **options: Any) -> Any:
    return read(demo, picture(cases[0]), question, **options)


def _words(reading: Any, phrase: str) -> list[str]:
    prompt = reading.prompt
    spans = find_target_tokens_with_offsets(reading, phrase)
    covered = [(prompt.offsets[span[0]][0], prompt.offsets[span[-1]][1]) for span in spans]
    return [prompt.text[start:end].strip() for start, end in covered]


@pytest.fixture(scope="module")
def report(demo: Any, cases: Any) -> Any:
    return _read(demo, cases, "What does this radiograph show?")


def test_the_default_target_of_a_yes_or_no_answer_is_the_contrast(reading: Any) -> None:
    aim = resolve(reading)
    assert aim.target.kind == "contrast"
    assert aim.rows == (len(reading.prompt.ids) - 1,)
    assert aim.forced == ()


def test_the_default_target_of_any_other_answer_is_the_answer(report: Any) -> None:
    aim = resolve(report)
    first = len(report.prompt.ids) - 1
    assert aim.target.kind == "answer"
    assert aim.rows == tuple(range(first, first + len(report.generated.ids)))


def test_the_contrast_is_signed_towards_the_answer_given(demo: Any, cases: Any) -> None:
    for case in (cases[0], next(case for case in cases if case.truth == "no")):
        reading = read(demo, picture(case), case.question)
        assert reading.answer.label == case.truth
        with torch.no_grad():
            assert float(score_tokens(reading, resolve(reading, "contrast"), reading.image_tokens)[0]) > 0


def test_scores_are_read_from_the_rows_logits(reading: Any) -> None:
    with torch.no_grad():
        logits = logits_at(reading.model, reading.ids(), reading.image_tokens, [len(reading.prompt.ids) - 1])
        p, _, contrast = yes_no(reading.model, logits[:, 0])
        score = lambda kind: score_tokens(reading, resolve(reading, kind), reading.image_tokens)  # noqa: E731
        torch.testing.assert_close(score("p_yes"), p)
        torch.testing.assert_close(score("contrast"), contrast)
    assert float(p[0]) == pytest.approx(reading.answer.p_yes, abs=1e-5)


def test_teacher_forced_logprobs_are_those_of_generation(report: Any) -> None:
    for n, token in enumerate(report.answer.tokens):
        aim = resolve(report, f"token:{n}")
        assert aim.rows == (token.position - 1,)
        with torch.no_grad():
            score = float(score_tokens(report, aim, report.image_tokens)[0])
        assert score == pytest.approx(token.logprob, abs=1e-4)


def test_the_answers_score_is_the_mean_over_its_tokens(report: Any) -> None:
    with torch.no_grad():
        score = float(score_tokens(report, resolve(report, "answer"), report.image_tokens)[0])
    logprobs = [token.logprob for token in report.answer.tokens]
    assert score == pytest.approx(sum(logprobs) / len(logprobs), abs=1e-4)


def test_a_phrase_of_the_answer_is_read_in_its_place(report: Any) -> None:
    assert "pleural effusion" in report.answer.text
    aim = resolve(report, "pleural effusion")
    inside = [token.position - 1 for token in report.answer.tokens]
    assert set(aim.rows) < set(inside)
    covered = "".join(token.text for token in report.answer.tokens if token.position - 1 in aim.rows)
    assert covered.strip(" .") == "pleural effusion"


def test_a_phrase_that_was_not_generated_is_forced_after_the_prompt(reading: Any) -> None:
    aim = resolve(reading, "enlarged heart")
    ids = reading.model.tokenizer("enlarged heart", add_special_tokens=False)["input_ids"]
    first = len(reading.prompt.ids) - 1
    assert len(ids) > 1
    assert aim.forced == tuple(ids[:-1])
    assert aim.rows == tuple(range(first, first + len(ids)))


@pytest.mark.parametrize(
    ("question", "phrase", "found"),
    [
        ("Is there cardiomegaly?", "cardiomegaly", ["cardiomegaly"]),
        ("CARDIOMEGALY or not?", "cardiomegaly", ["CARDIOMEGALY"]),
        ("Is there a pleural effusion on the left?", "pleural effusion", ["pleural effusion"]),
        ("Fluid, or fluid? No fluids.", "fluid", ["Fluid", "fluid"]),
        ("Ist da ein Pleuraerguß, größer als 5 cm?", "größer", ["größer"]),
    ],
)
def test_words_of_the_question_are_found_whole(
    demo: Any, cases: Any, question: str, phrase: str, found: list[str]
) -> None:
    assert _words(_read(demo, cases, question), phrase) == found


def test_a_word_in_several_pieces_has_a_row_for_each(demo: Any, cases: Any) -> None:
    reading = _read(demo, cases, "Is there cardiomegaly?")
    (positions,) = find_target_tokens_with_offsets(reading, "cardiomegaly")
    assert len(positions) > 1
    assert resolve(reading, "word:cardiomegaly").rows == tuple(p - 1 for p in positions)


def test_every_occurrence_of_a_word_can_be_reached(demo: Any, cases: Any) -> None:
    reading = _read(demo, cases, "Is the left lung clear, or is the left side white?")
    first, second = (resolve(reading, f"word:left#{n}").rows for n in (1, 2))
    assert max(first) < min(second)
    with pytest.raises(InputError, match="occurs 2 times"):
        resolve(reading, "word:left#3")


def test_all_occurrences_of_a_word_can_be_read_together(demo: Any, cases: Any) -> None:
    reading = _read(demo, cases, "Is the left lung clear, or is the left side white?")
    first, second, both = (set(resolve(reading, f"word:left#{n}").rows) for n in ("1", "2", "all"))
    assert both == first | second


def test_every_occurrence_of_a_phrase_in_the_answer_can_be_reached(demo: Any, cases: Any) -> None:
    reading = _read(demo, cases, "What does this radiograph show?")
    said = demo.tokenizer("No effusion, no pneumothorax.", add_special_tokens=False)["input_ids"]
    first_logits = reading.generated.first_logits
    reading.__dict__["generated"] = Generated(tuple(said), (0.0,) * len(said), True, first_logits)
    words = [token.text.strip().casefold() for token in reading.answer.tokens]
    one, two = (token.position - 1 for token, w in zip(reading.answer.tokens, words, strict=True) if w == "no")
    assert resolve(reading, "no").rows == resolve(reading, "no#1").rows == (one,)
    assert resolve(reading, "no#2").rows == (two,)
    assert resolve(reading, "no#all").rows == (one, two)
    with pytest.raises(InputError, match="occurs 2 times in the answer"):
        resolve(reading, "no#3")


def test_an_occurrence_of_a_phrase_that_was_not_said_is_refused(report: Any) -> None:
    with pytest.raises(InputError, match=r"'fracture' is not in the answer .*Leave #2 out"):
        resolve(report, "fracture#2")


@pytest.mark.parametrize("number", ["0", "3", "²"])
def test_an_occurrence_that_is_not_there_is_never_taken_for_the_first(reading: Any, number: str) -> None:
    with pytest.raises(InputError, match=r"counted from 1|is not in the question"):
        resolve(reading, f"word:effusion#{number}")


@pytest.mark.parametrize(
    "target", ["", "  ", "phrase:", "phrase: \n", "word:", "word: ", "token:", "token:-1", "token:1.0"]
)
def test_a_target_that_names_nothing_is_refused(reading: Any, target: str) -> None:
    with pytest.raises(InputError, match=r"no characters|is not in the question|has no token"):
        resolve(reading, target)


def test_letters_inside_another_word_of_the_answer_are_no_phrase(report: Any) -> None:
    assert "effusion" in report.answer.text
    aim = resolve(report, "fusion")
    assert aim.rows[0] == len(report.prompt.ids) - 1
    assert aim.forced != report.generated.ids[: len(aim.forced)]


def test_a_phrase_longer_than_the_model_reads_is_refused(reading: Any) -> None:
    with pytest.raises(InputError, match="too long: with the prompt the model reads"):
        resolve(reading, "effusion " * 8192)


def test_a_word_that_is_not_there_names_those_that_are(reading: Any) -> None:
    with pytest.raises(InputError, match=r"'fracture' is not in the question.*effusion"):
        resolve(reading, "word:fracture")


def test_a_token_that_is_not_there_names_those_that_are(reading: Any) -> None:
    with pytest.raises(InputError, match=r"no token '7'.*0: 'yes'"):
        resolve(reading, "token:7")


def test_with_text_first_the_questions_words_cannot_be_explained(demo: Any, cases: Any) -> None:
    reading = _read(demo, cases, "Is there an effusion?", image_first=False)
    with pytest.raises(InputError, match="cannot depend on the image"):
        resolve(reading, "word:effusion")


def test_with_text_first_the_questions_logits_do_not_change_with_the_image(demo: Any, cases: Any) -> None:
    reading = _read(demo, cases, "Is there an effusion?", image_first=False)
    rows = list(reading.prompt.question_positions)
    with torch.no_grad():
        seen = logits_at(demo, reading.ids(), reading.image_tokens, rows)
        blank = logits_at(demo, reading.ids(), torch.zeros_like(reading.image_tokens), rows)
    assert torch.equal(seen, blank)


def test_a_function_of_logits_is_a_target(reading: Any) -> None:
    def first_logit(logits: torch.Tensor) -> torch.Tensor:
        return logits[:, 0, 7]

    aim = resolve(reading, first_logit)
    assert aim.target.kind == "callable"
    assert aim.target.text == "first_logit"
    with torch.no_grad():
        assert score_tokens(reading, aim, reading.image_tokens).shape == (1,)


@pytest.mark.parametrize("function", [lambda z: z.sum(), lambda z: 3.0, lambda z: z[:, 5, 7], lambda: 0])
def test_a_function_that_is_no_score_of_each_picture_is_refused_at_once(reading: Any, function: Any) -> None:
    with pytest.raises(InputError, match=r"must give one number for each of 2 images|fails on logits .* of \(2, 1"):
        resolve(reading, function)


@pytest.mark.parametrize(
    "function",
    [lambda z: z[:, 0, 7] - z[:, 0, 7].mean(), lambda z: z[:, 0, 7] * len(z), lambda z: z[:, 0].max(0)[0][:1]],
)
def test_a_function_that_mixes_images_is_refused(reading: Any, function: Any) -> None:
    with pytest.raises(InputError, match=r"mixes images|must give one number for each of 2 images"):
        resolve(reading, function)


def test_a_function_that_is_not_finite_is_refused(reading: Any) -> None:
    with pytest.raises(InputError, match="not finite"):
        resolve(reading, lambda z: z[:, 0, 7] + float("nan"))


@pytest.mark.parametrize("target", [3, 1.5, True, b"yes", ["answer"], {"word": "effusion"}, object()])
def test_a_target_that_is_no_text_and_no_function_is_refused(reading: Any, target: Any) -> None:
    with pytest.raises(InputError, match="give text, such as 'token:3', or a function"):
        resolve(reading, target)


@pytest.mark.parametrize(
    ("target", "meant"),
    [
        ("tokens:1", "token:"),
        ("Word:effusion", "word:"),
        ("Answer", "answer"),
        (" p_yes", "p_yes"),
        ("phrse:x", "phrase:"),
    ],
)
def test_what_is_nearly_a_kind_of_target_is_not_taken_for_words_of_the_answer(
    reading: Any, target: str, meant: str
) -> None:
    with pytest.raises(InputError, match=f"Did you mean '{meant}'"):
        resolve(reading, target)
    assert resolve(reading, f"phrase:{target}").target.kind == "phrase"


@pytest.mark.parametrize("target", ["contrast agent", "finding: effusion", "contrasts"])
def test_other_words_are_a_phrase(reading: Any, target: str) -> None:
    assert resolve(reading, target).target.kind == "phrase"


@pytest.mark.parametrize("target", ["token:" + 5000 * "9", "word:effusion#" + 5000 * "9"])
def test_a_number_that_is_longer_than_python_reads_is_refused(reading: Any, target: str) -> None:
    with pytest.raises(InputError, match=r"has no token|there is no occurrence"):
        resolve(reading, target)


def test_a_flipped_target_has_the_opposite_score(reading: Any) -> None:
    aim = resolve(reading)
    with torch.no_grad():
        here, there = (score_tokens(reading, a, reading.image_tokens) for a in (aim, flipped(aim)))
    torch.testing.assert_close(here, -there)
