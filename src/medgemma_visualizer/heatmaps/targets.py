"""What a map explains: which rows of the sequence are read, what is forced after the prompt, and how it is scored.

Knows offsets and rows (the token at position p is predicted by row p − 1); knows nothing about methods.
"""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.models.answer import yes_no
from medgemma_visualizer.models.forward import logits_at
from medgemma_visualizer.models.prompt import Prompt
from medgemma_visualizer.models.reading import Reading
from medgemma_visualizer.records import Target

#: Kinds that can be asked for by their bare name.
KINDS = ("contrast", "p_yes", "answer")

#: A user's own score: logits (B, rows, V) at the target's rows -> (B,), larger where the target is better supported.
ScoreFunction = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Aim:
    """A target, resolved for one reading.

    Attributes:
        target: What to call it, and the rows read.
        forced: Ids that follow the prompt while it is scored.
        score: Logits (B, rows, V) -> (B,), larger where the target is better supported.
    """

    target: Target
    forced: tuple[int, ...]
    score: ScoreFunction

    @property
    def rows(self) -> tuple[int, ...]:
        return self.target.rows


def score_tokens(reading: Reading, aim: Aim, image_tokens: torch.Tensor) -> torch.Tensor:
    """The target's score for image tokens (B, N, D): (B,), differentiable in them."""
    return aim.score(logits_at(reading.model, reading.ids(aim.forced), image_tokens, aim.rows))


def resolve(reading: Reading, target: str | ScoreFunction | None = None) -> Aim:
    """Turns what a user asked for into rows, forced ids and a score.

    Args:
        target: None for the default ("contrast" where the model answered yes or no, else "answer"); "contrast",
            "p_yes" or "answer"; "token:3" for the fourth generated token; "word:effusion" for words of the question;
            a function of logits; any other text is a phrase, which need not have been generated. Words of the question
            and of the answer are read in their first occurrence, "effusion#2" in the second, "effusion#all" in all.

    Raises:
        InputError: The target names nothing that is there; the message lists what is.
    """
    if target is None:
        target = "contrast" if reading.answer.label in ("yes", "no") and reading.model.yes_ids else "answer"
    if callable(target):
        return _callable(reading, target)
    if not isinstance(target, str):
        raise InputError(
            f"The target is {reprlib.repr(target)}; give text, such as 'token:3', or a function of logits."
        )
    if target in KINDS:
        return {"contrast": _contrast, "p_yes": _p_yes, "answer": _answer}[target](reading)
    kind, colon, rest = target.partition(":")
    if colon and kind in _PREFIXES:
        return _PREFIXES[kind](reading, rest)
    _refuse_slip(target, kind, colon)
    return _phrase(reading, target)


def _refuse_slip(target: str, kind: str, colon: str) -> None:
    """Refuses what is nearly a kind of target, such as "tokens:3" or "Answer": explained as words it would mislead."""
    known = [f"{name}:" for name in _PREFIXES] if colon else KINDS
    near = difflib.get_close_matches(f"{kind}{colon}".strip().casefold(), known, 1, cutoff=0.75 if colon else 1)
    if near:
        raise InputError(
            f"The target {target!r} is no kind of target. Did you mean {near[0]!r}? For these very words write "
            f"{'phrase:' + target!r}."
        )


def _callable(reading: Reading, function: ScoreFunction) -> Aim:
    """A user's function at the first answer position, refused here and not in the middle of a method."""
    name = getattr(function, "__name__", "function")
    score = _one_each(function, name)
    logits = reading.generated.first_logits
    pair = torch.stack([logits, logits.roll(1)])[:, None]  # (2, 1, V)
    together, alone = score(pair)[0].detach(), score(pair[:1])[0].detach()
    if not bool(torch.isfinite(alone)):
        raise InputError(f"The target {name!r} is not finite ({float(alone)}) for the answer that was given.")
    if not torch.allclose(together.double(), alone.double(), rtol=1e-4, atol=1e-6):
        raise InputError(
            f"The target {name!r} mixes images: with another image beside it one scores {float(together):g}, alone "
            f"{float(alone):g}. Score every image (axis 0) from its own logits."
        )
    return Aim(Target("callable", name, (_first_row(reading),)), (), score)


def _one_each(function: ScoreFunction, name: str) -> ScoreFunction:
    """The user's function, refused where it gives no real number for each image: a sum would pass unnoticed."""

    def score(logits: torch.Tensor) -> torch.Tensor:
        try:
            scores = function(logits)
        except (TypeError, ValueError, IndexError, RuntimeError) as error:
            raise InputError(
                f"The target {name!r} fails on logits (batch, rows, vocabulary) of {tuple(logits.shape)}: {error}."
            ) from error
        if not isinstance(scores, torch.Tensor) or scores.shape != logits.shape[:1] or scores.is_complex():
            raise InputError(
                f"The target {name!r} must give one number for each of {len(logits)} images; it gave "
                f"{getattr(scores, 'shape', type(scores).__name__)}. Return a tensor of shape (batch,)."
            )
        return scores

    return score


def _first_row(reading: Reading) -> int:
    return len(reading.prompt.ids) - 1


def _contrast(reading: Reading) -> Aim:
    """logsumexp(yes) − logsumexp(no) at the first answer position, signed towards the answer given."""
    _needs_yes_no(reading)
    answered_no = reading.answer.label == "no" or (reading.answer.label != "yes" and (reading.answer.contrast or 0) < 0)
    sign = -1.0 if answered_no else 1.0
    text = "no against yes" if answered_no else "yes against no"

    def score(logits: torch.Tensor) -> torch.Tensor:
        return sign * yes_no(reading.model, logits[:, 0])[2]

    return Aim(Target("contrast", text, (_first_row(reading),)), (), score)


def _p_yes(reading: Reading) -> Aim:
    """P(yes) / (P(yes) + P(no)) at the first answer position."""
    _needs_yes_no(reading)

    def score(logits: torch.Tensor) -> torch.Tensor:
        return yes_no(reading.model, logits[:, 0])[0]

    return Aim(Target("p_yes", "yes", (_first_row(reading),)), (), score)


def _needs_yes_no(reading: Reading) -> None:
    if not (reading.model.yes_ids and reading.model.no_ids):
        raise InputError(
            f"{reading.model.name!r} has no single token for yes and no. Use target 'answer' or a phrase instead."
        )


def _answer(reading: Reading) -> Aim:
    """Mean log-probability of the generated answer, teacher-forced."""
    ids = reading.generated.ids
    if not ids:
        raise InputError("The model answered nothing. Ask another question, or give a phrase as the target.")
    return _forced(reading, "answer", reading.answer.text, ids, range(len(ids)))


def _token(reading: Reading, index: str) -> Aim:
    """Log-probability of one generated token, counted from 0."""
    tokens = reading.answer.tokens
    if not index.isdecimal() or _number(index) >= len(tokens):
        have = ", ".join(f"{n}: {token.text!r}" for n, token in enumerate(tokens))
        raise InputError(f"The answer has no token {index!r}. Its tokens are {have or 'none'}.")
    n = _number(index)
    return _forced(reading, "token", tokens[n].text.strip() or tokens[n].text, reading.generated.ids[: n + 1], [n])


def _phrase(reading: Reading, text: str) -> Aim:
    """Mean log-probability of a phrase: in its place where the answer has it as whole words, else as the answer."""
    said = [token.text for token in reading.answer.tokens]
    words, which = _numbered(text)
    found = _whole_words(words, "".join(said))
    if found:
        spans = [_overlapping(said, *span) for span in found]
        inside = _occurrence(words, spans, which, "the answer")
        return _forced(reading, "phrase", text, reading.generated.ids[: inside[-1] + 1], inside)
    if words != text:
        raise InputError(
            f"{words!r} is not in the answer {''.join(said).strip()!r}, so it has no occurrence {which}. "
            f"Leave #{which} out to ask for {words!r} as if it had been the answer."
        )
    ids = reading.model.tokenizer(text.strip(), add_special_tokens=False, split_special_tokens=True)["input_ids"]
    if not ids:
        raise InputError(f"The target {text!r} has no characters that the model can read. Give a word or a phrase.")
    limit = reading.model.family.max_positions(reading.model.hf.config)
    if len(reading.prompt.ids) + len(ids) > limit:
        raise InputError(f"The target of {len(ids)} tokens is too long: with the prompt the model reads {limit}.")
    return _forced(reading, "phrase", text, tuple(ids), range(len(ids)))


def phrase_was_said(reading: Reading, target: Target) -> bool:
    """Whether a phrase stands in the answer as whole words; else it was forced in the answer's place."""
    said = "".join(token.text for token in reading.answer.tokens)
    return bool(_whole_words(_numbered(target.text)[0], said))


def _whole_words(phrase: str, text: str) -> list[tuple[int, int]]:
    """(start, end) of every occurrence of a phrase that begins and ends with no letter or digit beside it, any case."""
    pattern = rf"(?<!\w){re.escape(phrase.strip())}(?!\w)"
    return [m.span() for m in re.finditer(pattern, text, re.IGNORECASE)] if phrase.strip() else []


def _overlapping(texts: list[str], start: int, end: int) -> list[int]:
    """Indices of the pieces that overlap characters start … end of their concatenation."""
    found, at = [], 0
    for n, text in enumerate(texts):
        if at < end and at + len(text) > start:
            found.append(n)
        at += len(text)
    return found


def _forced(reading: Reading, kind: str, text: str, forced: tuple[int, ...], chosen: Sequence[int]) -> Aim:
    """Mean log-probability of `chosen` tokens of a continuation, each read at the row before it."""
    first = _first_row(reading)
    wanted = [forced[n] for n in chosen]
    rows = tuple(first + n for n in chosen)
    return Aim(Target(kind, text, rows), forced[: max(chosen)], _mean_logprob(wanted))


def _mean_logprob(wanted: list[int]) -> ScoreFunction:
    def score(logits: torch.Tensor) -> torch.Tensor:
        picked = logits.log_softmax(-1)[:, range(len(wanted)), wanted]  # (B, R)
        return picked.mean(-1)

    return score


def _prompt_word(reading: Reading, word: str) -> Aim:
    """Mean log-probability of words of the question, given the image and the words before them."""
    if not reading.prompt.image_first:
        raise InputError(
            "With the text before the image, the question's words cannot depend on the image (a decoder reads forwards)"
            ". Put the image first, or choose another target."
        )
    name, which = _numbered(word)
    spans = find_target_tokens_with_offsets(reading, name)
    positions = _occurrence(name, spans, which, "the question")
    wanted = [reading.prompt.ids[p] for p in positions]
    return Aim(Target("prompt_word", word, tuple(p - 1 for p in positions)), (), _mean_logprob(wanted))


def question_token(reading: Reading, position: int) -> Aim:
    """Log-probability of one token of the question, given the image and the words before it.

    Raises:
        InputError: No token of the question stands there, or the text precedes the image.
    """
    if not reading.prompt.image_first:
        raise InputError("With the text before the image, the question's words cannot depend on the image.")
    if position not in reading.prompt.question_positions:
        raise InputError(f"No token of the question stands at position {position}.")
    start, end = reading.prompt.offsets[position]
    text = reading.prompt.text[start:end]
    target = Target("prompt_word", text.strip() or text, (position - 1,))
    return Aim(target, (), _mean_logprob([reading.prompt.ids[position]]))


def _numbered(text: str) -> tuple[str, str]:
    """ "effusion#2" -> ("effusion", "2"); "effusion#all" -> ("effusion", "all"); without a mark the first is meant."""
    found = re.fullmatch(r"(.*\S)#(\d+|all)", text, re.DOTALL)
    return (found[1], found[2]) if found else (text, "1")


def _occurrence(name: str, spans: Sequence[Sequence[int]], which: str, where: str) -> list[int]:
    """The tokens of one occurrence of some words, counted from 1, or of all.

    Raises:
        InputError: There are fewer.
    """
    if which == "all":
        return sorted({token for span in spans for token in span})
    if not 1 <= _number(which) <= len(spans):
        raise InputError(
            f"{name!r} occurs {len(spans)} times in {where}, counted from 1; there is no occurrence {which}."
        )
    return list(spans[_number(which) - 1])


def _number(digits: str) -> int:
    """Decimal digits as a number; as many as Python refuses to convert are more than there can be of anything."""
    return int(digits) if len(digits) < 100 else 10**99


def find_target_tokens_with_offsets(reading: Reading, phrase: str) -> list[tuple[int, ...]]:
    """Positions of the tokens of every occurrence of a phrase in the question; see `occurrences`.

    Raises:
        InputError: The question does not contain it; the message lists the words that it contains.
    """
    return occurrences(reading.prompt, phrase)


def occurrences(prompt: Prompt, phrase: str) -> list[tuple[int, ...]]:
    """Positions of the tokens of every occurrence of a phrase in a prompt's question, whole words, any case.

    The phrase is found in the characters of the rendered chat and mapped to tokens by the tokenizer's own offsets, so
    leading spaces, punctuation, words in several pieces and phrases over several tokens are all right.

    Raises:
        InputError: The question does not contain it; the message lists the words that it contains.
    """
    start, end = prompt.question
    question = prompt.text[start:end]
    spans = _whole_words(phrase, question)
    if not spans:
        words = ", ".join(dict.fromkeys(re.findall(r"\w+", question)))
        raise InputError(f"{phrase!r} is not in the question. Its words are: {words}.")
    return [prompt.positions_of(start + a, start + b) for a, b in spans]


#: Written before a colon, these say what the rest of a target is.
_PREFIXES = {"token": _token, "word": _prompt_word, "phrase": _phrase}


def flipped(aim: Aim) -> Aim:
    """The same rows scored the other way round: for random-target checks."""
    return replace(aim, target=replace(aim.target, text=f"not {aim.target.text}"), score=lambda z: -aim.score(z))
