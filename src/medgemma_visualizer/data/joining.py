"""Films, questions and regions brought together: by the names that data sets give to films.

Knows how names and paths answer to each other; reads no table, draws nothing and opens no film.
"""

from __future__ import annotations

import re
from collections import ChainMap, Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from medgemma_visualizer.data.films import NOT_FOUND, Film, Films, FolderFilms
from medgemma_visualizer.data.inputs import check_question
from medgemma_visualizer.data.mimic import MimicRoot, is_mimic_root
from medgemma_visualizer.data.photo import rendering_by_name
from medgemma_visualizer.data.presence import asked_finding, presence_question
from medgemma_visualizer.data.questions import QUESTION_FILE_SUFFIXES, QuestionSet, case_id, told_of
from medgemma_visualizer.data.region_sets import (
    REGION_FILES,
    RegionSet,
    holds_masks,
    is_region_json,
    is_region_table,
    read_regions,
    reflacx_tables,
)
from medgemma_visualizer.data.regions import DrawnRegions, Outline
from medgemma_visualizer.data.tables import LeftOut, UnusableRow, is_json, open_table, read_json
from medgemma_visualizer.errors import InputError
from medgemma_visualizer.records import Case

#: Folders beside regions in which CheXlocalize and VinDr-CXR keep their films.
_WITHIN = ("CheXpert/val", "CheXpert/test", "train", "test")
#: CheXlocalize's name of a film, which lies at patient64622/study1/view1_frontal.jpg.
_CHEXPERT = re.compile(r"(patient\d+)_(study\d+)_(view.+)")


class RegionsAloneError(InputError):
    """Regions of which no case can be made without more. They come along, so that it can be said what they are."""

    def __init__(self, message: str, regions: RegionSet) -> None:
        super().__init__(message)
        self.regions = regions


def is_region_source(path: Path) -> bool:
    """Whether a file holds regions and no questions."""
    return is_region_json(read_json(path)) if is_json(path) else is_region_table(open_table(path))


def region_file(folder: Path) -> Path | None:
    """The source of a set's regions that a folder is or holds; None where there is none."""
    if reflacx_tables(folder):
        return folder
    return next((path for pattern in REGION_FILES for path in sorted(folder.glob(pattern))), None)


def named_regions(path: Path) -> RegionSet:
    """The regions that somebody names by a file, or by the folder that holds it or is of masks.

    Raises:
        InputError: As `region_sets.read_regions`, or several files of which one has to be chosen.
    """
    found = region_file(path) or plain_regions(path) if path.is_dir() else None
    return read_regions(found or path)


def plain_regions(folder: Path) -> Path | None:
    """The one table of boxes or masks in a folder, or the folder itself where it is of masks; None where neither.

    Raises:
        InputError: Several tables, of which one has to be chosen.
    """
    tables = [path for path in sorted(folder.iterdir()) if path.name.lower().endswith(QUESTION_FILE_SUFFIXES)]
    tables = [path for path in tables if _is_plain_table(path)]
    if len(tables) > 1:
        names = ", ".join(path.name for path in tables)
        raise InputError(f"{str(folder)!r} holds several files of regions ({names}); name the one that is meant.")
    if tables:
        return tables[0]
    return folder if holds_masks(folder) else None


def _is_plain_table(path: Path) -> bool:
    try:
        return is_region_table(open_table(path))
    except InputError:  # told where the file is named
        return False


def joined(sets: Sequence[QuestionSet], source: str) -> QuestionSet:
    """Several files of one set as one; a case that an earlier file has too is left out of the later."""
    if len(sets) == 1:
        return sets[0]
    cases: dict[str, Case] = {}
    left_out = [one for found in sets for one in found.left_out]
    for number, case in enumerate((case for found in sets for case in found), start=1):
        if case.id in cases:
            left_out.append(LeftOut(number, "repeats the image and question of another file"))
        else:
            cases[case.id] = case
    return replace(
        sets[0],
        cases=tuple(cases.values()),
        left_out=tuple(left_out),
        source=source,
        recognised=" and ".join(dict.fromkeys(found.recognised for found in sets)),
        missing_images=sum(found.missing_images for found in sets),
        notes=tuple(note for found in sets for note in found.notes),
    )


def ask_regions(regions: RegionSet, folder: Path, question: str | None = None) -> QuestionSet:
    """Cases of the films that a source of regions marks: one for each finding marked, or the question of each film.

    Every finding that is asked for is on its film: the answers say how often a model misses it, and nothing of false
    alarms.

    Args:
        regions: With the films' names.
        folder: Where the films lie; maybe a root of MIMIC-CXR.
        question: What to ask instead.

    Raises:
        RegionsAloneError: No film is there, or the regions are parts of the body, for which nobody asks, without a
            question.
    """
    if not regions.asks and question is None:
        raise RegionsAloneError(
            f"{str(regions.source)!r} marks parts of the body, not findings; say what to ask, or read it as the "
            "regions of other cases (--regions).",
            regions,
        )
    asked = None if question is None else check_question(question)
    films, root = _films_of(regions, folder)
    cases: list[Case] = []
    left_out: list[LeftOut] = list(regions.left_out)
    for number, (name, outlines) in enumerate(regions.films.items(), start=1):
        for finding in list(outlines) if asked is None else [""]:
            try:
                film = films.film(_as_path(name), "")
                drawn = DrawnRegions(film.path, _sized(outlines, film.path, root))
                cases.append(_film_case(film, name, drawn, asked, finding, regions))
            except UnusableRow as reason:
                left_out.append(LeftOut(number, str(reason)))
    missing = len({one.line for one in left_out[len(regions.left_out) :] if one.reason == NOT_FOUND})
    found = QuestionSet(tuple(cases), tuple(left_out), None, regions.source.stem, regions.name, missing, regions.name)
    if not cases:
        raise RegionsAloneError(
            f"{str(folder)!r} has no film of {str(regions.source)!r} ({told_of(found)}); name the films' folder "
            "(--images), or read it as the regions of other cases (--regions).",
            regions,
        )
    return found


def films_found(regions: RegionSet, folder: Path) -> int:
    """How many of the films that a source of regions marks are there."""
    films, _ = _films_of(regions, folder)
    number = 0
    for name in regions.films:
        with suppress(UnusableRow):
            films.film(_as_path(name), "")
            number += 1
    return number


def with_regions(found: QuestionSet, regions: RegionSet, folder: Path) -> QuestionSet:
    """The same cases with regions; what they had already stays, under other names or after these.

    A question that asks for a finding by name also gets that name as its `finding`.

    Args:
        found: Cases.
        regions: Of films that may be among theirs.
        folder: Where the films lie; a root of MIMIC-CXR also knows their archived sizes.
    """
    root = MimicRoot.open(folder) if is_mimic_root(folder) else None
    marked = {image: name for image in _images(found) if (name := _name_among(image, regions.films)) is not None}
    claims = Counter(marked.values())
    outlines = {image: _sized(regions.films[name], image, root) for image, name in marked.items() if claims[name] == 1}
    return replace(
        found,
        cases=tuple(_with_outlines(case, outlines.get(_path(case), {})) for case in found),
        regions_from=" and ".join(filter(None, (found.regions_from, regions.name))),
        regions_left_out={**regions.reasons, **_unused(regions, claims)},
    )


def _unused(regions: RegionSet, claims: Mapping[str, int]) -> dict[str, int]:
    """Why whole films' regions were not used -> how many regions."""
    unused: Counter[str] = Counter()
    for name, outlines in regions.films.items():
        if claims.get(name, 0) == 0:
            unused["of a film that no case shows"] += len(outlines)
        elif claims[name] > 1:
            unused["of a name that several films have"] += len(outlines)
    return dict(unused)


def _with_outlines(case: Case, outlines: Mapping[str, Outline]) -> Case:
    regions = case.regions
    if outlines:
        drawn = DrawnRegions(_path(case), outlines)
        regions = ChainMap(drawn, regions) if regions else drawn  # type: ignore[arg-type]  # never written to
    return replace(case, regions=regions, finding=case.finding or asked_finding(case.question))


def _images(found: Iterable[Case]) -> Iterator[Path]:
    yield from dict.fromkeys(_path(case) for case in found)


def _path(case: Case) -> Path:
    """The film's file: all cases here were read from one."""
    return Path(str(case.image))


def _name_among(path: Path, films: Mapping[str, Any]) -> str | None:
    """The name by which a film is among these: the longest end of its path, with its suffix or without."""
    bare = path.with_suffix("").parts
    for first in range(len(bare)):
        ends = ("/".join(path.parts[first:]), "/".join(bare[first:]), "_".join(bare[first:]))
        if (name := next((end for end in ends if end in films), None)) is not None:
            return name
    return None


def _films_of(regions: RegionSet, folder: Path) -> tuple[Films, MimicRoot | None]:
    if is_mimic_root(folder):
        root = MimicRoot.open(folder)
        return root, root
    return FolderFilms((_as_path(name) for name in regions.films), folder, _WITHIN), None


def _as_path(name: str) -> str:
    found = _CHEXPERT.fullmatch(name)
    return "/".join(found.groups()) if found else name


def _patient(name: str) -> str | None:
    found = _CHEXPERT.fullmatch(name)
    return found[1] if found else None


def _sized(outlines: Mapping[str, Outline], film: Path, root: MimicRoot | None) -> Mapping[str, Outline]:
    """With the archived size of a film that a root knows, where the set of the regions does not say it."""
    record = None if root is None else root.records.get(film.stem)
    if record is None or record.size is None:
        return outlines
    return {
        name: one if one.size is not None else replace(one, size=record.size, long_side=None)
        for name, one in outlines.items()
    }


def _film_case(film: Film, name: str, drawn: DrawnRegions, asked: str | None, finding: str, regions: RegionSet) -> Case:
    question = presence_question(regions.written[finding]) if asked is None else asked
    if question is None:
        raise UnusableRow(f"no one question asks for {finding!r}")
    return Case(
        id=case_id(name.rsplit("/", 1)[-1], film.key or name, question),
        image=film.path,
        question=question,
        options=("yes", "no") if finding else (),
        truth="yes" if finding else None,
        finding=finding or asked_finding(question),
        regions=drawn,
        patient_id=film.patient or _patient(name),
        view=film.view,
        source=regions.source.stem,
        rendering=rendering_by_name(film.path),
        split=film.split,
    )
