"""From the words of a command to a case and a model. Refuses what cannot be used before any weights are loaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgemma_visualizer.settings import INPUT_LIMITS

if TYPE_CHECKING:
    from medgemma_visualizer.models.adapter import Model
    from medgemma_visualizer.records import Case


@contextmanager
def opening_up_to(pixels: int) -> Iterator[None]:
    """Lets pictures up to this size be opened inside the block, wherever the package opens them."""
    before = INPUT_LIMITS["image_pixels"]
    INPUT_LIMITS["image_pixels"] = pixels
    try:
        yield
    finally:
        INPUT_LIMITS["image_pixels"] = before


def loaded(name: str, method: str | None, *, quiet: bool, **how: Any) -> Model:
    """The model, once it is clear that there is such a method.

    Args:
        name: "demo", a hub id, or a folder.
        method: A name of `METHODS`, "auto", or None for the recommended one.
        quiet: Says nothing meanwhile.
        **how: As in `load_model`.
    """
    from medgemma_visualizer.cli import output

    with output.status(f"Loading {name}", quiet=quiet, bars=name != "demo"):
        from medgemma_visualizer import verbs
        from medgemma_visualizer.heatmaps import METHODS

        if method not in (None, "auto"):
            METHODS[method]
        return verbs.load_model(name, **how)


def case_of(
    image: Path | None,
    question: str | None,
    target: str | None,
    number: str | None,
    rendering: str | None = None,
    allow_lateral: bool = False,
) -> Case:
    """The case that was asked for, its picture read, before any model is loaded.

    Args:
        image: A file; None for an embedded film.
        question: What to ask; None where an embedded case brings its own.
        target: Refused here where it can be nothing.
        number: Number or id of an embedded case.
        rendering: Of a DICOM file; the default one where None.
        allow_lateral: Takes a DICOM file of a lateral view.
    """
    from medgemma_visualizer.data.inputs import check_question, check_target
    from medgemma_visualizer.data.photo import check_picture_path, is_dicom, open_image
    from medgemma_visualizer.errors import InputError
    from medgemma_visualizer.records import Case

    if target is not None:
        check_target(target)
    dicom = image is not None and is_dicom(check_picture_path(str(image)))
    if rendering is not None and not dicom:
        raise InputError(
            f"--rendering {rendering!r} is for DICOM files, and no such file is asked about; leave it out."
        )
    if image is None:
        found = _embedded(number)
        if question is None:
            return found
        return found.asking(check_question(question))
    if number is not None:
        raise InputError("Give an image or --case, not both.")
    seen = _dicom_film(image, rendering, allow_lateral) if dicom else {"image": open_image(image)}
    if question is None:
        raise InputError(f'What is to be asked of {str(image)!r}? Add --question "Is there a pleural effusion?".')
    return Case(id="image", question=check_question(question), **seen)


def _dicom_film(image: Path, rendering: str | None, allow_lateral: bool) -> dict[str, Any]:
    """What a case takes from a DICOM file."""
    from medgemma_visualizer.data.dicom import read_dicom

    film = read_dicom(image, rendering, allow_lateral=allow_lateral)
    told = {"view": film.view, "rendering": film.rendering, "notice": " ".join(film.notices)}
    return {"image": film.picture, **told}


def _embedded(number: str | None) -> Case:
    """An embedded case by its number or id; the first where None."""
    from medgemma_visualizer.data.sources import demo_cases
    from medgemma_visualizer.errors import InputError

    cases = demo_cases()
    if number is None or not number.strip():
        return cases[0]
    if number.isdecimal() and len(number) < 6:
        if int(number) >= len(cases):
            raise InputError(f"There is no embedded case {number}. There are {len(cases)}: 0 to {len(cases) - 1}.")
        return cases[int(number)]
    by_id = {case.id: case for case in cases}
    if number not in by_id:
        choice = f"a number from 0 to {len(cases) - 1}, or an id such as {cases[0].id!r}"
        raise InputError(f"There is no embedded case {number!r}. Give {choice}.")
    return by_id[number]
