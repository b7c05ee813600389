"""What the model said: the text, the label in it, and the probability behind it.

Knows words and spellings; knows nothing about where the model looked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch

from medgemma_visualizer.models.adapter import Model

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_UNDECIDED = re.compile(
    r"\b(?:can(?:no|'|’)t|cannot|unable|not (?:sure|certain|possible|clear)|uncertain|unclear|indeterminate|"
    r"inconclusive|equivocal)\b"
)
#: Names both answers and gives neither.
_BOTH = re.compile(r"\byes\s*(?:/|or)\s*no\b|\bno\s*(?:/|or)\s*yes\b")
_ABSENCE = re.compile(
    r"(?:there (?:is|are|was|were)|there's|i (?:can )?see|(?:it|this|the \w+) (?:shows?|demonstrates?)) no\b(?! doubt)"
)


def extract_answer(text: str, options: Sequence[str] = ()) -> str:
    """The label in a generated text, by whole words.

    A leading yes or no decides. Otherwise a text that declares itself undecided is "uncertain"; a yes or no that stands
    alone between punctuation decides; a clause that begins with "there is no" and the like is a no. Whatever else the
    text says of presence is "uncertain": a wrong label is worse than none. Letters inside other words never count
    ("Normal", "Nodule", "cannot"), nor do "yes/no" and "no doubt".

    Args:
        text: What the model wrote.
        options: Answers to choose from. Where they are not just yes and no, the label is the one option that the
            text names as whole words, in the option's own spelling.

    Returns:
        "yes", "no", an option, or "uncertain".
    """
    lowered = text.casefold()
    choices = [option for option in options if option.strip()]
    if choices and not {option.casefold() for option in choices} <= {"yes", "no"}:
        return _named_option(lowered, choices)
    if _BOTH.search(lowered):
        return "uncertain"
    words = _WORD.findall(lowered)
    if words and words[0] in ("yes", "no"):
        return str(words[0])
    if _UNDECIDED.search(lowered):
        return "uncertain"
    clauses = [clause.strip() for clause in re.split(r"[^\w\s'’-]|_", lowered)]
    found = {clause for clause in clauses if clause in ("yes", "no")}
    if not found and any(_ABSENCE.match(clause) for clause in clauses):
        found = {"no"}
    return str(found.pop()) if len(found) == 1 else "uncertain"


def _named_option(lowered: str, options: Sequence[str]) -> str:
    named = [o for o in options if re.search(rf"(?<!\w){re.escape(o.casefold().strip())}(?!\w)", lowered)]
    return named[0] if len(named) == 1 else "uncertain"


def yes_no(model: Model, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """p_yes, mass and contrast from logits (…, V) at the row before the first answer token.

    p_yes = ΣP(yes spellings) / (ΣP(yes spellings) + ΣP(no spellings)) in [0, 1], chance 0.5; mass is the denominator;
    contrast = logsumexp(logits of yes spellings) − logsumexp(logits of no spellings), in nats.

    Returns:
        Three float32 tensors (…), differentiable in the logits.

    Raises:
        ValueError: The vocabulary has no single token for yes or for no.
    """
    if not model.yes_ids or not model.no_ids:
        raise ValueError(f"The vocabulary of {model.name!r} has no single token for 'yes' or 'no'.")
    yes = logits[..., list(model.yes_ids)].logsumexp(-1)
    no = logits[..., list(model.no_ids)].logsumexp(-1)
    total = logits.logsumexp(-1)
    return torch.sigmoid(yes - no), ((yes - total).exp() + (no - total).exp()), yes - no


def token_texts(model: Model, ids: Sequence[int]) -> list[str]:
    """The characters that each token adds to the decoded text; joined they are the text.

    A character whose bytes are spread over several tokens belongs to the last of them.
    """
    texts, done = [], ""
    for end in range(1, len(ids) + 1):
        text = model.tokenizer.decode(list(ids[:end]), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        complete = text if end == len(ids) else text.rstrip("\ufffd")
        texts.append(complete[len(done) :])
        done = complete
    return texts
