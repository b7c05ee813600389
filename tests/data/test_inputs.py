"""What may be typed, and what a form says about the rest."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from medgemma_visualizer.data.inputs import check_question, check_target, validate_inputs
from medgemma_visualizer.errors import InputError
from medgemma_visualizer.settings import INPUT_LIMITS

IMAGE = Image.new("L", (4, 4))


@pytest.mark.parametrize(
    "text",
    [
        "Is there an effusion?",
        "¿Hay derrame pleural?",
        "هل يوجد انصباب؟",
        "胸腔积液はありますか",
        'She said "no", didn\'t she?',
        "Line one\nline two\r\n\tline three",
        "🫁?",
        "👩‍⚕️ sees?",
        "<start_of_image> is plain text",
        "?" * 1000,
    ],
)
def test_any_script_is_a_question(text: str) -> None:
    assert check_question(text) == text


def test_blanks_around_a_question_go() -> None:
    assert check_question("  why? \n") == "why?"
    assert check_question("?" * 1000 + "\n") == "?" * 1000
    assert check_target(" left lung ") == "left lung"


@pytest.mark.parametrize("text", ["", " ", "\n\t ", "\u200b", "\u3000\u00a0", "\ufeff"])
def test_nothing_visible_is_nothing_typed(text: str) -> None:
    with pytest.raises(InputError, match="The question is empty; type one"):
        check_question(text)
    with pytest.raises(InputError, match="The target is empty; type one"):
        check_target(text)


def test_long_questions() -> None:
    with pytest.raises(InputError, match=r"1,001 characters, over the limit of 1,000; shorten it"):
        check_question("?" * 1001)


def test_long_targets() -> None:
    assert check_target("fluid around the left lung") == "fluid around the left lung"
    with pytest.raises(InputError, match=r"'a b c d e f' has 6 words, over the limit of 5; name fewer"):
        check_target("a b c d e f")
    with pytest.raises(InputError, match=r"1,001 characters"):
        check_target("a" * 1001)


@pytest.mark.parametrize(("text", "code"), [("a\0b", "U+0000"), ("a\x1b[31m", "U+001B"), ("a\ud800", "U+D800")])
def test_control_characters(text: str, code: str) -> None:
    for check in (check_question, check_target):
        with pytest.raises(InputError, match="control character") as caught:
            check(text)
        assert code in str(caught.value)


@pytest.mark.parametrize("thing", [None, 3, b"text", ["text"]])
def test_no_text(thing: object) -> None:
    with pytest.raises(InputError, match=f"is a {type(thing).__name__}; give text"):
        check_question(thing)


@given(st.text(max_size=1200))
def test_a_question_that_passes_is_whole(text: str) -> None:
    try:
        question = check_question(text)
    except InputError:
        return
    assert question == text.strip()
    assert question
    assert len(question) <= INPUT_LIMITS["prompt_characters"]
    assert question.encode()
    assert check_question(question) == question


@pytest.mark.parametrize("image", [IMAGE, np.zeros((2, 2), np.uint8)])
@pytest.mark.parametrize("target", [None, "", "fluid", "a b c d e"])
def test_good_input_validates(image: object, target: str | None) -> None:
    assert validate_inputs(image, "Is there fluid?", target) is True


def test_a_tensor_is_an_image() -> None:
    torch = pytest.importorskip("torch")
    assert validate_inputs(torch.zeros(3, 2, 2), "Is there fluid?")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, "Why?"), "Image is required"),
        (("film.png", "Why?"), "Invalid image format"),
        ((IMAGE, ""), "Valid prompt string required"),
        ((IMAGE, "  "), "Valid prompt string required"),
        ((IMAGE, None), "Valid prompt string required"),
        ((IMAGE, 5), "Valid prompt string required"),
        ((IMAGE, "a\0"), "Valid prompt string required"),
        ((IMAGE, "?" * 1001), "Prompt too long (max 1000 chars)"),
        ((IMAGE, "Why?", 5), "Target word must be string"),
        ((IMAGE, "Why?", "a b c d e f"), "Target phrase too long (max 5 words)"),
        (
            (None, "", 5),
            "Image is required; Valid prompt string required; Target word must be string",
        ),
    ],
)
def test_complaints_are_told_together(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match="Input validation failed") as caught:
        validate_inputs(*arguments)
    assert str(caught.value) == f"Input validation failed: {message}"
    assert isinstance(caught.value, InputError)
