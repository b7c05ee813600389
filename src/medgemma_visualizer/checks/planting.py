"""Known evidence on any film: marks that we draw, with questions that they answer, and equal changes elsewhere.

Knows films, marks, questions about them and decoys; how a mark looks is `data.marks`'s business. Does not know models,
answers or maps.

A decoy is a square of as many pixels as the mark changed, elsewhere on the film. Each is changed by an amount that some
pixel of the mark was changed by; the amounts lie in random order, and random grains, coarse enough to survive the
model's shrinking, are darkened instead of brightened. So it is as large as the mark and, as far as black and white
allow, as strong, and neither a shape nor, on the whole, brighter.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from medgemma_visualizer.data.marks import KINDS, Grey, Mask, plant
from medgemma_visualizer.data.photo import grayscale, picture
from medgemma_visualizer.errors import InputError, VisualizerError, unknown_name
from medgemma_visualizer.grid import downsample
from medgemma_visualizer.models.prompt import ANSWER_INSTRUCTION, process_prompt
from medgemma_visualizer.progress import track
from medgemma_visualizer.records import Case

#: Films are shrunk to this many pixels along the longer side: hundreds of items are held at once.
LONGEST = 1024
#: Least distance of mark and decoy, as a share of the film's shorter side: one cell of a grid of 16 × 16.
APART = 1 / 16
#: Side of a decoy's grains, as a share of the film's shorter side: 1.75 pixels where a model reads 224.
GRAIN = 1 / 128
_TRIES = 60


@dataclass(frozen=True)
class Asked:
    """What is asked about a mark.

    Attributes:
        question: Answered by the mark's presence.
        options: The answers to choose from.
        truth: The answer where the mark is.
        rivals: Marks that answer the same question; a film that carries one is not used.
    """

    question: str
    options: tuple[str, ...]
    truth: str
    rivals: tuple[str, ...]

    @property
    def instructed(self) -> str:
        """The question with the instruction that holds a model to its options (errata, section 3)."""
        if self.options == _YES_NO:
            return process_prompt(self.question)
        *first, last = map(repr, self.options)
        named = f"{', '.join(first)} or {last}"
        return ANSWER_INSTRUCTION.replace("'yes' or 'no'", named).format(question=self.question)


_YES_NO = ("yes", "no")
_MARKERS = ("L", "R")
_MARKER, _LETTERS = "Which side marker is on the film?", (*_MARKERS, "none")

#: Kind of mark -> what is asked about it.
QUESTIONS: Mapping[str, Asked] = {
    "L": Asked(_MARKER, _LETTERS, "L", _MARKERS),
    "R": Asked(_MARKER, _LETTERS, "R", _MARKERS),
    "arrow": Asked("Is there an arrow on the film?", _YES_NO, "yes", ("arrow",)),
    "pacemaker": Asked("Is there a pacemaker?", _YES_NO, "yes", ("pacemaker",)),
}


@dataclass(frozen=True)
class Patch:
    """A square of grey levels (side, side) uint8, and its top left pixel."""

    top: int
    left: int
    pixels: Grey = field(repr=False)

    def on(self, film: Grey) -> Grey:
        """A copy of a film (H, W) with the patch on it."""
        changed, side = film.copy(), len(self.pixels)
        changed[self.top : self.top + side, self.left : self.left + side] = self.pixels
        return changed


@dataclass(frozen=True)
class Planted:
    """A film with a mark, and what it takes to tell whether the mark is the cause of an answer.

    Attributes:
        case: The marked film and the question; `finding` is the mark's kind, `region` the pixels that it changed.
        film: Name of the film, the same for all items on it.
        bare: (H, W) uint8, the film without the mark.
        decoy: An equal change elsewhere.
        surely_bare: True where the film is known to carry no mark of the kind; otherwise only the model can tell.
    """

    case: Case
    film: str
    bare: Grey = field(repr=False)
    decoy: Patch = field(repr=False)
    surely_bare: bool

    @property
    def marked(self) -> Grey:
        """(H, W) uint8, the film with the mark."""
        return grayscale(picture(self.case))


def planted_items(
    films: Sequence[Case], kinds: Sequence[str], n: int, seed: int = 0, *, instructed: bool = True
) -> tuple[Planted, ...]:
    """Films with one mark each, at random places and of random sizes, kinds in turn; no film twice before all once.

    Films with a region of the mark's name are not used for it. A kind's items are the same whichever other kinds are
    asked for, and those of a smaller n are the first of a larger one's.

    Args:
        films: Cases, of which the film, its regions' names and its patient matter; several of one film count once.
        kinds: Of `data.marks.KINDS`.
        n: How many items.
        seed: Not negative; the same seed gives the same bytes.
        instructed: Whether the question carries the instruction that holds a model to its options.

    Raises:
        InputError: No films, no such kind, n or seed out of range, a film that cannot be read or is too small, or
            every film carries such a mark already.
    """
    kinds = tuple(dict.fromkeys(kinds))
    _check(films, kinds, n, seed)
    sources = _films(films)
    free = {kind: _free_of(kind, sources, seed) for kind in kinds}
    bare: dict[str, Grey] = {}
    items = []
    for number in track(range(n), total=n, what="films to plant"):
        turn, kind = number // len(kinds), kinds[number % len(kinds)]
        source = free[kind][turn % len(free[kind])]
        if source.case.id not in bare:
            bare[source.case.id] = _grey(source.case)
        items.append(_planted(source, bare[source.case.id], kind, turn, seed, instructed))
    return tuple(items)


@dataclass(frozen=True)
class _Film:
    """The first case of a film, and the names of all regions known on it."""

    case: Case
    regions: frozenset[str]


def _check(films: Sequence[Case], kinds: Sequence[str], n: int, seed: int) -> None:
    for kind in kinds:
        if kind not in KINDS:
            raise unknown_name("mark", kind, KINDS)
    if not films or not kinds:
        raise InputError(f"{len(films)} films and {len(kinds)} kinds of marks were given; give one or more of each.")
    if n < 1 or seed < 0:
        raise InputError(f"{n} planted items with the seed {seed} cannot be made; give 1 or more, and a seed from 0.")


def _films(cases: Iterable[Case]) -> list[_Film]:
    """One for each film, in order of appearance."""
    found: dict[str, _Film] = {}
    for case in cases:
        key, names = _key(case.image), frozenset(case.regions)
        known = found.get(key)
        found[key] = _Film(case, names) if known is None else replace(known, regions=known.regions | names)
    return list(found.values())


def _key(image: Image.Image | Path | str) -> str:
    if not isinstance(image, Image.Image):
        return str(image)
    return hashlib.sha256(repr((image.mode, image.size)).encode() + image.tobytes()).hexdigest()


def _free_of(kind: str, films: Sequence[_Film], seed: int) -> list[_Film]:
    """Films that carry no mark that answers the kind's question, as far as their regions tell, in random order."""
    rivals = QUESTIONS[kind].rivals
    free = [film for film in films if not film.regions & set(rivals)]
    if not free:
        raise InputError(
            f"All {len(films)} films carry a mark ({' or '.join(rivals)}) already; give others, or leave {kind!r} out."
        )
    order = np.random.default_rng((seed, KINDS.index(kind))).permutation(len(free))
    return [free[index] for index in order]


def _grey(case: Case) -> Grey:
    """The film (H, W) uint8, shrunk where it is larger than an item may be."""
    film = grayscale(picture(case))
    scale = LONGEST / max(film.shape)
    if scale >= 1:
        return film
    rows, cols = (max(round(side * scale), 1) for side in film.shape)
    return np.rint(downsample(film, rows, cols)).astype(np.uint8)


def _planted(source: _Film, bare: Grey, kind: str, turn: int, seed: int, instructed: bool) -> Planted:
    film, asked = source.case, QUESTIONS[kind]
    rng = np.random.default_rng((seed, KINDS.index(kind), turn))
    marked, _ = plant(bare, kind, rng)
    case = Case(
        id=f"{film.id}-planted-{kind}-{seed}-{turn}",
        image=Image.fromarray(marked),
        question=asked.instructed if instructed else asked.question,
        options=asked.options,
        truth=asked.truth,
        finding=kind,
        regions={kind: marked != bare},
        patient_id=film.id if film.patient_id is None else film.patient_id,  # items of one film belong together
        view=film.view,
        source=film.source,
        simulated=film.simulated,
    )
    return Planted(case, film.id, bare, _decoy(bare, marked, rng), film.simulated)


# --- the decoy -------------------------------------------------------------------------------------------------------


def _decoy(bare: Grey, marked: Grey, rng: np.random.Generator) -> Patch:
    """The square clear of the mark, of many tried, where the change comes nearest to the mark's in energy."""
    changes = marked.astype(np.int64) - bare
    changed = changes != 0
    grain, apart = (max(round(share * min(bare.shape)), 1) for share in (GRAIN, APART))
    amounts = _scrambled(np.abs(changes[changed]), grain, rng)
    places = _clear_places(changed, len(amounts), apart)
    tried = places[rng.integers(len(places), size=_TRIES)].tolist()
    patches = [_patch(bare, amounts, top, left) for top, left in tried]
    energies = np.array([_energy(patch, bare) for patch in patches])
    return patches[int(np.abs(energies - (changes**2).sum()).argmin())]


def _scrambled(amounts: np.ndarray, grain: int, rng: np.random.Generator) -> np.ndarray:
    """Changes, int64 (side, side): the amounts (P,) in random order, half of the grains darkened; zeros fill up."""
    side = max(math.ceil(math.sqrt(amounts.size)), 1)
    shuffled = np.zeros(side * side, np.int64)
    shuffled[: amounts.size] = rng.permutation(amounts)
    grains = math.ceil(side / grain)
    signs = rng.permutation(np.resize((1, -1), grains * grains)).reshape(grains, grains)
    at = np.arange(side) // grain
    return np.asarray(shuffled.reshape(side, side) * signs[np.ix_(at, at)])


def _clear_places(changed: Mask, side: int, apart: int) -> np.ndarray:
    """Top left pixels (P, 2) of all squares inside the film that keep `apart` pixels from what was changed.

    Raises:
        VisualizerError: There is none.
    """
    reach = side + 2 * apart
    padded = np.pad(changed, ((apart + 1, apart), (apart + 1, apart))).astype(np.int64)
    sums = padded.cumsum(0).cumsum(1)
    touched = sums[reach:, reach:] - sums[:-reach, reach:] - sums[reach:, :-reach] + sums[:-reach, :-reach]
    places = np.argwhere(touched == 0)
    if not len(places):
        raise VisualizerError(
            f"A mark leaves no room for an equal patch on a film of {changed.shape}; use a larger one."
        )
    return places


def _patch(bare: Grey, amounts: np.ndarray, top: int, left: int) -> Patch:
    pixels = _under(bare, top, left, len(amounts)) + amounts
    return Patch(top, left, np.clip(pixels, 0, 255).astype(np.uint8))


def _energy(patch: Patch, bare: Grey) -> int:
    """Sum of squared changes of grey."""
    before = _under(bare, patch.top, patch.left, len(patch.pixels))
    return int(((patch.pixels.astype(np.int64) - before) ** 2).sum())


def _under(film: Grey, top: int, left: int, side: int) -> Grey:
    return film[top : top + side, left : left + side]
