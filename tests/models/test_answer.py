"""The label in a text is decided by whole words."""

import pytest

from medgemma_visualizer.models.answer import extract_answer


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("yes", "yes"),
        ("No.", "no"),
        ("**Yes**, there is.", "yes"),
        ("No effusion is present.", "no"),
        ("Based on the image, yes.", "yes"),
        ("There is no evidence of pneumonia", "no"),
        ("There is no doubt: yes.", "yes"),
        ("YES", "yes"),
        ("Yes, no.", "yes"),
    ],
)
def test_whole_words_decide(text: str, label: str) -> None:
    assert extract_answer(text) == label


@pytest.mark.parametrize(
    "text",
    [
        "Normal heart size",
        "Nodule present",
        "Diagnosis: pneumonia",
        "I cannot determine",
        "There is no way to be sure, it is unclear",
        "There is no doubt that pneumonia is present.",
        "The heart is enlarged, with no effusion.",
        "yes/no",
        "Not yes",
        "",
        "1234",
        "eyes and nose",
    ],
)
def test_letters_inside_words_never_count(text: str) -> None:
    assert extract_answer(text) == "uncertain"


def test_an_option_is_named_by_whole_words_only() -> None:
    options = ("L", "R", "none")
    assert extract_answer("L", options) == "L"
    assert extract_answer("The marker is r.", options) == "R"
    assert extract_answer("Left", options) == "uncertain"
    assert extract_answer("L or R", options) == "uncertain"


def test_empty_options_do_not_hide_a_yes_no_question() -> None:
    assert extract_answer("yes", ("yes", "no", "", "")) == "yes"
