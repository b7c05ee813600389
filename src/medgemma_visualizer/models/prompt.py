"""From a question to the exact token ids that the model reads, with the place of every character.

Knows chat templates, control tokens and offsets; knows nothing about pixels or answers.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.models.adapter import Model

#: Stands for the question while the chat template is rendered; from Unicode's private use area.
_PLACEHOLDER = "\ue000question\ue001"

#: The specification's answer instruction (errata, section 3).
ANSWER_INSTRUCTION = "Question: {question}\nAnswer with only 'yes' or 'no'. Do not provide any explanation."


@dataclass(frozen=True)
class Prompt:
    """The rendered chat, tokenised.

    Attributes:
        text: The whole chat text, image block written out.
        ids: Token ids, one for each position.
        offsets: (start, end) in `text` of each token.
        question: (start, end) in `text` of the user's own words.
        image_positions: Positions of the image tokens, ascending, rows × cols of them.
        image_first: Whether the image precedes the question; otherwise the question cannot depend on it.
    """

    text: str
    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]
    question: tuple[int, int]
    image_positions: tuple[int, ...]
    image_first: bool

    @property
    def question_positions(self) -> tuple[int, ...]:
        """Positions of the tokens that carry at least one character of the question."""
        return self.positions_of(*self.question)

    def positions_of(self, start: int, end: int) -> tuple[int, ...]:
        """Positions of the tokens that overlap characters start … end of `text`."""
        return tuple(p for p, (a, b) in enumerate(self.offsets) if a < end and b > start)

    @property
    def readable(self) -> str:
        """The chat with the image block shortened to one mark."""
        tokens = [self.text[a:b] for a, b in (self.offsets[p] for p in self.image_positions)]
        return self.text.replace("".join(tokens), f"[{len(tokens)} image tokens]") if tokens else self.text


def process_prompt(question: str) -> str:
    """The specification's yes/no form of a question (section 3.2)."""
    return ANSWER_INSTRUCTION.format(question=question)


def render(model: Model, question: str, *, image_first: bool = True) -> Prompt:
    """Renders the chat template around a question and an image, and tokenises it.

    What a user types can never become a control token: between the template's own control tokens, text is tokenised
    with every control token switched off, so that "<start_of_image>" in a question is sixteen letters.

    Args:
        question: The user's words; surrounding white space is dropped, as the template does.
        image_first: Image before text. With text first nothing in the question can depend on the image.

    Raises:
        InputError: The prompt is longer than the model can read.
    """
    question = question.strip()
    before, after = _frame(model, image_first)
    text = before + question + after
    span = (len(before), len(before) + len(question))
    ids, offsets = _tokenise(model, text, span)
    _refuse_control_ids(model, ids, offsets, span)
    limit = model.family.max_positions(model.hf.config)
    if len(ids) > limit:
        raise InputError(
            f"The question is too long: {len(ids)} tokens with the image, the model reads {limit}. Shorten it."
        )
    token = model.image_token_id
    image = tuple(p for p, i in enumerate(ids) if i == token)
    rows, cols = model.grid
    if len(image) != rows * cols:
        raise InputError(
            f"The prompt of {model.name!r} holds {len(image)} image tokens, its grid has {rows} × {cols}. "
            "Check that processor and weights belong together."
        )
    return Prompt(text, tuple(ids), tuple(offsets), span, image, image_first)


def _frame(model: Model, image_first: bool) -> tuple[str, str]:
    """The chat text before and after the question, with the image block written out."""
    parts = [{"type": "image"}, {"type": "text", "text": _PLACEHOLDER}]
    chat = [{"role": "user", "content": parts if image_first else parts[::-1]}]
    text = model.processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    mark, block = model.family.image_mark(model.processor), model.family.image_block(model.processor)
    before, _, after = text.partition(_PLACEHOLDER)
    return before.replace(mark, block), after.replace(mark, block)


def _cuts(model: Model, text: str, user: tuple[int, int]) -> list[int]:
    """Places in the user's words where a bracketed added token is taken apart, after its first character.

    Tokenizers hold added tokens that they do not call special (Gemma's "<unused94>" opens MedGemma's hidden reasoning),
    and these are not switched off with the others.
    """
    if not set("<[") & set(text[slice(*user)]):
        return []
    names = [str(t) for t in model.tokenizer.added_tokens_decoder.values() if str(t)[:1] in "<[" and len(str(t)) > 2]
    pattern = re.compile("|".join(re.escape(name) for name in sorted(names, key=len, reverse=True)) or r"(?!)")
    return [user[0] + match.start() + 1 for match in pattern.finditer(text[slice(*user)])]


def _refuse_control_ids(model: Model, ids: list[int], offsets: list[tuple[int, int]], user: tuple[int, int]) -> None:
    """The last line of defence: a tokenizer that marks its control tokens in an unusual way must not forge a turn."""
    forbidden = {model.image_token_id, *model.stop_ids}
    for i, (a, b) in zip(ids, offsets, strict=True):
        if i in forbidden and a < user[1] and b > user[0]:
            raise InputError(f"The question contains a control token of {model.name!r}. Remove it and ask again.")


def _tokenise(model: Model, text: str, user: tuple[int, int]) -> tuple[list[int], list[tuple[int, int]]]:
    """Ids and character offsets; control tokens are recognised outside the user's characters only."""
    control, pattern = model.control_tokens
    ids: list[int] = []
    offsets: list[tuple[int, int]] = []

    typed = _cuts(model, text, user)

    def plain(start: int, end: int) -> None:
        if start == end:  # between two image tokens
            return
        inside = [cut for cut in typed if start < cut < end]
        for a, b in itertools.pairwise((start, *inside, end)):
            letters(a, b)

    def letters(start: int, end: int) -> None:
        piece = model.tokenizer(
            text[start:end], add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
        )
        ids.extend(piece["input_ids"])
        offsets.extend((start + a, start + b) for a, b in piece["offset_mapping"])

    done = 0
    for match in pattern.finditer(text):
        if match.start() < user[1] and match.end() > user[0]:
            continue
        plain(done, match.start())
        ids.append(control[match.group()])
        offsets.append(match.span())
        done = match.end()
    plain(done, len(text))
    return ids, offsets
