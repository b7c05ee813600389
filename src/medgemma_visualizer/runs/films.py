"""Pictures on their way to the model: read ahead by threads, encoded together by the vision tower.

Knows files, pictures and memory; does not know what is asked about them. Where the memory does not hold so many at
once, halves are tried.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from PIL.Image import Image

from medgemma_visualizer.data.photo import grayscale, picture
from medgemma_visualizer.data.sources import is_demo_film
from medgemma_visualizer.grid import coverage
from medgemma_visualizer.models import graphs
from medgemma_visualizer.models.adapter import Model
from medgemma_visualizer.models.devices import is_out_of_memory
from medgemma_visualizer.models.forward import image_tokens, prepared
from medgemma_visualizer.records import Case
from medgemma_visualizer.runs.work import cores
from medgemma_visualizer.scores.body import body_mask

T = TypeVar("T")
R = TypeVar("R")

OUT_OF_MEMORY = "the device's memory does not hold this case; use --batch 1, a larger device, or another method"
#: Threads that read pictures at most: no more pictures are under way where sixteen are asked together.
MOST_READERS = 32


def readers(model: Model, sharers: int = 1) -> int:
    """Threads that read pictures while the model computes: one where it computes on the same cores.

    Beside a GPU all cores of this process but the one that asks, or its share of them.

    Args:
        sharers: Processes that work on these cores, this one included.
    """
    return 1 if model.device.type == "cpu" else max(1, min(MOST_READERS, cores() // sharers - 1))


@dataclass(frozen=True)
class Film:
    """A picture as it was read ahead.

    Attributes:
        image: RGB.
        pixel_values: (1, 3, height, width), as the model's processor makes them; not on the device yet, as the thread
            that reads ahead must not disturb what the device is doing.
        body: Coverage of each cell of the model's grid, (rows, cols).
        digest: First sixteen hex digits of the SHA-256 of its pixels.
        foreign: Whether the embedded model is asked about a film that is none of its own.
    """

    image: Image
    pixel_values: Any
    body: np.ndarray
    digest: str
    foreign: bool


def ahead(pool: Executor, function: Callable[[T], Any], items: Sequence[T], number: int) -> Iterator[Future[Any]]:
    """Futures in the order of the items, with some more of them under way."""
    under_way: deque[Future[Any]] = deque()
    for item in items:
        under_way.append(pool.submit(function, item))
        if len(under_way) > number:
            yield under_way.popleft()
    yield from under_way


def film_of(model: Model, case: Case) -> Film:
    """Reads a case's picture.

    Raises:
        VisualizerError: It is not there, or is none.
    """
    image = picture(case)
    values = prepared(model.processor, [image]).to(model.dtype)
    return Film(
        image=image,
        pixel_values=values.pin_memory() if model.device.type == "cuda" else values,
        body=coverage(body_mask(grayscale(image)), *model.grid),
        digest=film_digest(image),
        foreign=model.is_demo and not is_demo_film(image),
    )


def film_digest(image: Image) -> str:
    """First sixteen hex digits of the SHA-256 of a picture's pixels, as in `analyze`."""
    return hashlib.sha256(np.asarray(image).tobytes()).hexdigest()[:16]


@dataclass(frozen=True)
class Encoded:
    """What the vision tower made of pictures, perhaps not computed to its end yet.

    Attributes:
        films: Their pixel values on the device.
        tokens: A tensor (1, N, D) each, or why there is none.
        done: A CUDA event after which the tokens are there; None where they are.
    """

    films: tuple[Film, ...]
    tokens: tuple[Any, ...]
    done: Any = None

    def wait(self) -> None:
        """Lets the work that is sent to the device from now on find the tokens."""
        import torch

        if self.done is not None:
            for tensor in (*self.tokens, *(film.pixel_values for film in self.films)):
                if not isinstance(tensor, str):
                    here = torch.cuda.current_stream(tensor.device)
                    here.wait_event(self.done)
                    tensor.record_stream(here)


def encoded(model: Model, films: Sequence[Film], stream: Any = None) -> Encoded:
    """Sends pictures through the vision tower in as few passes as memory allows.

    Args:
        stream: A CUDA stream of its own, on which a GPU works while others ask it; None for the usual one.
    """
    import torch

    with nullcontext() if stream is None else torch.cuda.stream(stream):
        there = tuple(_on_device(film, model) for film in films)
        tokens = encode(model, lambda some: image_tokens(model, some), [film.pixel_values for film in there])
        return Encoded(there, tuple(tokens), None if stream is None else stream.record_event())


def _on_device(film: Film, model: Model) -> Film:
    return replace(film, pixel_values=film.pixel_values.to(model.device, model.dtype, non_blocking=True))


def encode(model: Model, encoder: Callable[[Any], Any], inputs: Sequence[Any]) -> list[Any]:
    """Encodes pictures (1, 3, height, width) in as few passes as memory allows: (1, N, D) each, or a reason."""
    import torch

    def together(some: Sequence[Any]) -> list[Any]:
        with torch.no_grad():
            return list(encoder(torch.cat(list(some))).split(1))

    return [OUT_OF_MEMORY if tokens is None else tokens for tokens in in_halves(model, together, inputs)]


def in_halves(model: Model, work: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T]) -> list[R | None]:
    """What `work` makes of all items at once; where the memory does not hold that, of halves, down to single items.

    None stands for a single item that does not fit.
    """
    if not items:
        return []
    try:
        return list(work(items))
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    graphs.make_room(model)
    if len(items) == 1:
        return [None]
    half = (len(items) + 1) // 2
    return [*in_halves(model, work, items[:half]), *in_halves(model, work, items[half:])]
