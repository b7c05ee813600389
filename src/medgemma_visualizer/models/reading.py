"""One model that has read one picture and one question: what all methods, checks and figures start from.

Vision runs once, the answer is generated once, and both are kept here for everyone who asks next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from PIL import Image

from medgemma_visualizer.models.adapter import Model
from medgemma_visualizer.models.answer import extract_answer, token_texts, yes_no
from medgemma_visualizer.models.forward import Generated, generate, go_on, image_tokens, pixels
from medgemma_visualizer.models.graphs import engine_of
from medgemma_visualizer.models.prefix import Prefix, prefix_of
from medgemma_visualizer.models.prompt import Prompt, render
from medgemma_visualizer.records import Answer, Token
from medgemma_visualizer.settings import MODEL_CONFIG


@dataclass(frozen=True)
class Reading:
    """A picture and a question, prepared for a model; what is expensive is computed on first use and kept.

    Attributes:
        model: Who reads.
        image: RGB picture of any size.
        prompt: The rendered question.
        options: Answers to choose from, for the label.
        max_new_tokens: Bound on the answer's length.
    """

    model: Model
    image: Image.Image
    prompt: Prompt
    options: tuple[str, ...] = ()
    max_new_tokens: int = MODEL_CONFIG["max_new_tokens"]

    @cached_property
    def pixel_values(self) -> torch.Tensor:
        """(1, 3, height, width) in the model's dtype."""
        return pixels(self.model, [self.image])

    @cached_property
    def image_tokens(self) -> torch.Tensor:
        """(1, N, D) after the projector, without gradient."""
        with torch.no_grad():
            return image_tokens(self.model, self.pixel_values)

    @cached_property
    def prefix(self) -> Prefix:
        """What the decoder keeps of the picture, for other questions about it; see `asking`."""
        with torch.no_grad():
            return prefix_of(self.model, self.prompt, self.image_tokens)

    @cached_property
    def generated(self) -> Generated:
        known = vars(self).get("prefix")
        if known is None or not known.begins(self.prompt):
            return generate(self.model, self.prompt, self.image_tokens, self.max_new_tokens)
        states, cache = known.continued(self.model, self.prompt)
        return go_on(self.model, states, cache, self.max_new_tokens)

    def asking(self, question: str, options: Sequence[str] = ()) -> Reading:
        """The same picture with another question: neither vision nor, with the image first, the decoder reads it again.

        Raises:
            InputError: The question is longer than the model can read.
        """
        prompt = render(self.model, question, image_first=self.prompt.image_first)
        other = replace(self, prompt=prompt, options=tuple(options))
        reads_on = (
            prompt.image_first and engine_of(self.model) is None
        )  # a captured pass over all is quicker than a rest
        shared = ("pixel_values", "image_tokens", *(["prefix"] if reads_on else []))
        vars(other).update({name: getattr(self, name) for name in shared})  # where cached_property keeps its results
        return other

    def ids(self, forced: Sequence[int] = ()) -> torch.Tensor:
        """The prompt's ids with a continuation: (S + len(forced),)."""
        return torch.tensor((*self.prompt.ids, *forced), device=self.model.device)

    @cached_property
    def answer(self) -> Answer:
        """What the model says, greedily, with the probability of yes."""
        out = self.generated
        first = len(self.prompt.ids)
        texts = token_texts(self.model, out.ids)
        tokens = tuple(
            Token(text, i, first + n, logprob)
            for n, (text, i, logprob) in enumerate(zip(texts, out.ids, out.logprobs, strict=True))
        )
        text = "".join(texts).strip()
        p_yes, mass, contrast = self._yes_no()
        return Answer(
            text=text,
            label=extract_answer(text, self.options),
            p_yes=p_yes,
            p_yes_no_mass=mass,
            contrast=contrast,
            tokens=tokens,
            stopped=out.stopped,
            prompt=self.prompt.readable,
        )

    def _yes_no(self) -> tuple[float, float, float] | tuple[None, None, None]:
        if not (self.model.yes_ids and self.model.no_ids):
            return None, None, None
        p_yes, mass, contrast = yes_no(self.model, self.generated.first_logits)
        return float(p_yes), float(mass), float(contrast)


def read(
    model: Model,
    image: Image.Image,
    question: str,
    *,
    options: Sequence[str] = (),
    image_first: bool = True,
    max_new_tokens: int = MODEL_CONFIG["max_new_tokens"],
) -> Reading:
    """Prepares a picture and a question for a model.

    Raises:
        InputError: The question is longer than the model can read.
    """
    prompt = render(model, question, image_first=image_first)
    return Reading(model, image, prompt, tuple(options), max_new_tokens)
