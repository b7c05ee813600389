"""What a person may type and hand in: a question, a target, a picture.

Knows lengths and characters; does not know tokens, chat templates, or whether a question makes sense.
"""

from __future__ import annotations

import unicodedata

import numpy as np
from PIL import Image

from medgemma_visualizer.data.photo import is_tensor
from medgemma_visualizer.errors import InputError
from medgemma_visualizer.settings import INPUT_LIMITS

# Blanks, line ends, and characters that only join or direct others: text of these alone says nothing.
_INVISIBLE = {"Zs", "Zl", "Zp", "Cc", "Cf"}
_LAYOUT = "\n\r\t"


def check_question(text: object) -> str:
    """The question without blanks around it. Any script, quotes, line ends and emoji are fine.

    Raises:
        InputError: No text, nothing visible, longer than INPUT_LIMITS["prompt_characters"], or control characters.
    """
    question = _typed_text(text, "question")
    limit = INPUT_LIMITS["prompt_characters"]
    if len(question) > limit:
        raise InputError(f"The question has {len(question):,} characters, over the limit of {limit:,}; shorten it.")
    return question


def check_target(text: object) -> str:
    """The words whose evidence is wanted, without blanks around them.

    Raises:
        InputError: No text, nothing visible, more than INPUT_LIMITS["target_words"] words, or control characters.
    """
    target = _typed_text(text, "target")
    words, limit = len(target.split()), INPUT_LIMITS["target_words"]
    if words > limit:
        raise InputError(f"The target {_shortened(target)} has {words} words, over the limit of {limit}; name fewer.")
    if len(target) > INPUT_LIMITS["prompt_characters"]:
        raise InputError(f"The target {_shortened(target)} has {len(target):,} characters; name a word or a phrase.")
    return target


def validate_inputs(image: object, prompt: object, target_word: object = None) -> bool:
    """Checks what a form hands in, and names everything that is wrong at once.

    A blank target counts as none. Paths are not taken: open them first.

    Returns:
        True.

    Raises:
        InputError: "Input validation failed: …; …" with every complaint of the specification, section 12.3.
    """
    complaints = [*_about_image(image), *_about_prompt(prompt), *_about_target(target_word)]
    if complaints:
        raise InputError(f"Input validation failed: {'; '.join(complaints)}")
    return True


def _typed_text(text: object, what: str) -> str:
    if not isinstance(text, str):
        raise InputError(f"The {what} is a {type(text).__name__}; give text.")
    if _is_blank(text):
        raise InputError(f"The {what} is empty; type one.")
    if unreadable := _unreadable(text):
        raise InputError(f"The {what} holds the control character U+{ord(unreadable):04X}; remove it.")
    return text.strip()


def _is_blank(text: str) -> bool:
    return all(unicodedata.category(character) in _INVISIBLE for character in text)


def _unreadable(text: str) -> str | None:
    """The first control character or half of a surrogate pair; neither can be tokenised as something seen."""
    odd = (c for c in text if unicodedata.category(c) in ("Cc", "Cs") and c not in _LAYOUT)
    return next(odd, None)


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}…")


def _about_image(image: object) -> list[str]:
    if image is None:
        return ["Image is required"]
    known = isinstance(image, Image.Image | np.ndarray) or is_tensor(image)
    return [] if known else ["Invalid image format"]


def _about_prompt(prompt: object) -> list[str]:
    if not isinstance(prompt, str) or _is_blank(prompt) or _unreadable(prompt):
        return ["Valid prompt string required"]
    limit = INPUT_LIMITS["prompt_characters"]
    return [f"Prompt too long (max {limit} chars)"] if len(prompt.strip()) > limit else []


def _about_target(target_word: object) -> list[str]:
    if target_word is None:
        return []
    if not isinstance(target_word, str):
        return ["Target word must be string"]
    limit = INPUT_LIMITS["target_words"]
    return [f"Target phrase too long (max {limit} words)"] if len(target_word.split()) > limit else []
