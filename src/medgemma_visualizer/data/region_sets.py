"""Regions that come with data sets: what each calls its columns, and which of its entries mark something.

Knows files of regions; draws nothing (`regions`) and reads nothing of films. Columns are stated as the sets'
documentation and the code of others that reads them state them. Where several readers marked a film, a region counts if
more than half of them marked it, and is then all that any of them marked: one reader's opinion is no truth.

Sources: MS-CXR (Boecking et al. 2022, "Making the most of text semantics …"); CheXlocalize (Saporta et al. 2022,
"Benchmarking saliency methods for chest X-ray interpretation"); REFLACX (Bigolin Lanfredi et al. 2022); Chest ImaGenome
(Wu et al. 2021); VinDr-CXR (Nguyen et al. 2022).
"""

from __future__ import annotations

import math
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from medgemma_visualizer.data.findings import FINDINGS
from medgemma_visualizer.data.photo import grayscale, open_image
from medgemma_visualizer.data.presence import region_name
from medgemma_visualizer.data.regions import Box, MaskFile, Outline, RunLengths, Shape, Size, decode_counts
from medgemma_visualizer.data.tables import (
    LeftOut,
    Row,
    Table,
    UnusableRow,
    columns_of,
    first_filled,
    headings_for,
    is_json,
    open_table,
    plain,
    read_json,
)
from medgemma_visualizer.errors import InputError
from medgemma_visualizer.registry import Registry

#: REFLACX: readers say from 1 to 5 how certain they are; its users keep ellipses above this.
LEAST_CERTAIN = 2
NO_FINDING = "no finding"
_MINORITY = "marked by half of the film's readers or fewer"
_SHORT = 30  # characters: more than any mask needs that has nothing inside
_MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")
_LOOKED_AT = 3  # pictures, to know a folder of masks from one of films


class Mark(NamedTuple):
    """One entry: what a reader marked on a film, or, without a shape, that the reader looked at it.

    Attributes:
        film: As the set names it.
        name: As the set names it; "" where nothing was marked.
        shape: What was marked.
        size: (height, width) of the film that it was drawn on, where the set says.
        long_side: Roughly, where only that follows.
        reader: Who; "" in sets of one opinion.
        line: In the file.
    """

    film: str
    name: str = ""
    shape: Shape | None = None
    size: Size | None = None
    long_side: float | None = None
    reader: str = ""
    line: int = 0


@dataclass(frozen=True)
class RegionSet:
    """The regions of a source.

    Attributes:
        name: The set's: a name of `REGION_SETS`.
        source: The file or folder.
        films: Film as the set names it -> name here -> outline.
        written: Name here -> as the set writes it.
        left_out: Entries that mark nothing.
        asks: Whether its names are findings, so that one may ask whether they are there; else parts of the body.
    """

    name: str
    source: Path
    films: Mapping[str, Mapping[str, Outline]]
    written: Mapping[str, str]
    left_out: tuple[LeftOut, ...] = ()
    asks: bool = True

    @property
    def entries(self) -> int:
        """Marks that became part of a region."""
        return sum(len(outline.shapes) for outlines in self.films.values() for outline in outlines.values())

    @property
    def reasons(self) -> dict[str, int]:
        """Reason -> how many entries were left out for it, the commonest first."""
        return dict(Counter(one.reason for one in self.left_out).most_common())


@dataclass(frozen=True)
class Columns:
    """A table of regions.

    Attributes:
        name: Of the set.
        marks: Headings by which it is known: all of them are there.
        meanings: Meaning -> headings: film, name, and x0, y0, x1, y1 or x, y, width, height; or mask.
        required: Groups of meanings of which one must be there.
        asks: See `RegionSet`.
        refine: What else a row says of its mark.
    """

    name: str
    marks: tuple[str, ...]
    meanings: Mapping[str, tuple[str, ...]]
    required: tuple[tuple[str, ...], ...]
    asks: bool = True
    refine: Callable[[Mark, Row], Mark] = lambda mark, row: mark


#: Patterns by which files of regions are found in a folder; where several match, the first is read.
REGION_FILES = (
    "MS_CXR_Local_Alignment_v*.csv",
    "MS_CXR_Local_Alignment_v*.json",
    "gold_bbox_coordinate_annotations_1000images.csv",
    "gt_segmentations_*.json",
    "annotations_train.csv",
    "annotations_test.csv",
)

#: Tables of regions, the most particular first; JSON files and folders are known by what they hold (`read_regions`).
REGION_SETS: Registry[Columns] = Registry("region set")

_CORNERS = (("film",), ("name",), ("x0",), ("y0",), ("x1",), ("y1",))


def _long_side(mark: Mark, row: Row) -> Mark:
    """Chest ImaGenome also gives each box as it is on the film shrunk to 224 pixels on its long side."""
    box, scales = mark.shape, []
    if isinstance(box, Box):
        for name, side in (("width", box.x1 - box.x0), ("height", box.y1 - box.y0)):
            small = _number(row.get(name, ""))
            if small is not None and small >= 20:  # rounded to whole pixels: smaller ones tell too little
                scales.append(side / small)
    return mark._replace(long_side=224 * max(scales)) if scales else mark


REGION_SETS.add(
    "Chest ImaGenome",
    Columns(
        name="Chest ImaGenome",
        marks=("image_id", "bbox_name", "original_x1", "original_y1"),
        # x1 to y2 are measured on films of 224 x 224 pixels; these on the film itself.
        meanings={
            "film": ("image_id",),
            "name": ("bbox_name",),
            "x0": ("original_x1",),
            "y0": ("original_y1",),
            "x1": ("original_x2",),
            "y1": ("original_y2",),
        },
        required=_CORNERS,
        asks=False,
        refine=_long_side,
    ),
)
REGION_SETS.add(
    "MS-CXR",
    Columns(
        name="MS-CXR",
        marks=("dicom_id", "category_name", "x", "y", "w", "h"),
        meanings={
            "film": ("dicom_id",),
            "name": ("category_name",),
            **{"x": ("x",), "y": ("y",), "width": ("w",), "height": ("h",)},
            "image_height": ("image_height",),
            "image_width": ("image_width",),
        },
        required=(("film",), ("name",), ("image_height",), ("image_width",)),
    ),
)
REGION_SETS.add(
    "VinDr-CXR",
    Columns(
        name="VinDr-CXR",
        marks=("image_id", "class_name", "x_min", "y_min", "x_max", "y_max"),
        meanings={
            "film": ("image_id",),
            "name": ("class_name",),
            **{"x0": ("x_min",), "y0": ("y_min",), "x1": ("x_max",), "y1": ("y_max",)},
            "reader": ("rad_id",),
            "image_height": ("image_height",),
            "image_width": ("image_width",),
        },
        required=_CORNERS,
    ),
)
REGION_SETS.add(
    "boxes",
    Columns(
        name="boxes",
        marks=(),
        meanings={
            "film": ("image", "ImagePath", "image_path", "dicom_id", "image_id", "file_name", "film"),
            "name": ("finding", "name", "category_name", "class_name", "label"),
            # "x1" heads the left edge beside "x2", and the right one beside "x0"
            "x0": ("x0", "x_min", "xmin", "x1"),
            "y0": ("y0", "y_min", "ymin", "y1"),
            "x1": ("x_max", "xmax", "x2", "x1"),
            "y1": ("y_max", "ymax", "y2", "y1"),
            **{"x": ("x",), "y": ("y",), "width": ("w", "width"), "height": ("h", "height")},
            "reader": ("reader", "rad_id", "annotator"),
            "image_height": ("image_height",),
            "image_width": ("image_width",),
            "mask": ("mask",),
        },
        required=(("film",), ("name",), ("x0", "x", "mask"), ("y0", "y", "mask")),
    ),
)


def read_regions(path: Path | str) -> RegionSet:
    """Reads regions: a table (see `REGION_SETS`), CheXlocalize's or COCO's JSON, REFLACX's folder, a folder of masks.

    Raises:
        InputError: The source is none of these, cannot be read, lacks a column (the message names those found), or
            marks nothing.
    """
    path = Path(path)
    if path.is_dir():
        found = _gathered("REFLACX", path, _reflacx(path)) if reflacx_tables(path) else _masks(path)
    elif is_json(path):
        found = _from_json(path)
    else:
        found = _from_table(open_table(path))
    if not found.films:
        told = "; ".join(f"{reason}: {count}" for reason, count in found.reasons.items()) or "no entries"
        raise InputError(f"{str(path)!r} marks no region ({told}); name another file.")
    return found


def is_region_table(table: Table) -> bool:
    """Whether a file's headings are those of a table of regions."""
    if headings_for(("question", "question_variant", "query", "correct_answer"), table.headings):
        return False
    columns = columns_for(table)
    return bool(columns.marks) or _is_plain(table, columns)


def columns_for(table: Table) -> Columns:
    """The region set that a table is of, by its headings."""
    there = {plain(heading) for heading in table.headings}
    for columns in REGION_SETS.values():
        if {plain(name) for name in columns.marks} <= there:
            return columns
    raise AssertionError("the last one takes everything")


def _is_plain(table: Table, columns: Columns) -> bool:
    there = {meaning for meaning, names in columns.meanings.items() if headings_for(names, table.headings)}
    return {"film", "name"} <= there and (
        "mask" in there or {"x0", "y0", "x1", "y1"} <= there or {"x", "y", "width", "height"} <= there
    )


def holds_masks(folder: Path) -> bool:
    """Whether the pictures below a folder are masks named as `read_regions` reads them, as far as its first ones tell.

    Masks are black and white only; at least one of the first few has both.
    """
    first = list(islice(_mask_files(folder), _LOOKED_AT))
    levels = [_levels(path) for path in first if isinstance(_mask_mark(path, folder, 0), Mark)]
    return len(levels) == len(first) and all(one <= {0, 255} for one in levels) and {0, 255} in levels


def _levels(path: Path) -> frozenset[int]:
    """The gray levels of a picture; none that a mask has where it cannot be read."""
    try:
        return frozenset(np.unique(grayscale(open_image(path))).tolist())
    except InputError:  # told by whoever reads it for what it is
        return frozenset({-1})


def is_region_json(content: Any) -> bool:
    """Whether JSON holds regions: COCO's lists, or CheXlocalize's films with run lengths."""
    return isinstance(content, dict) and (_is_coco(content) or _is_chexlocalize(content))


# --- gathering -------------------------------------------------------------------------------------------------------


def _gathered(name: str, source: Path, entries: Iterable[Mark | LeftOut], asks: bool = True) -> RegionSet:
    """Marks by film and region, once it is known how many readers looked at each film."""
    marks: dict[str, dict[str, list[Mark]]] = defaultdict(lambda: defaultdict(list))
    readers: dict[str, set[str]] = defaultdict(set)
    left_out: list[LeftOut] = []
    names: dict[str, str] = {}
    for entry in entries:
        if isinstance(entry, LeftOut):
            left_out.append(entry)
            continue
        readers[entry.film].add(entry.reader)
        if entry.shape is not None:
            key = region_name(entry.name)
            names.setdefault(key, entry.name)
            marks[entry.film][key].append(entry)
    films: dict[str, dict[str, Outline]] = {}
    for film, regions in marks.items():
        for key, several in regions.items():
            if 2 * len({mark.reader for mark in several}) <= len(readers[film]) and len(readers[film]) > 1:
                left_out += [LeftOut(mark.line, _MINORITY) for mark in several]
            else:
                films.setdefault(film, {})[key] = _outline(film, several, source)
    return RegionSet(name, source, films, names, tuple(left_out), asks)


def _outline(film: str, marks: Sequence[Mark], source: Path) -> Outline:
    sizes = {mark.size for mark in marks}
    if len(sizes) > 1:
        raise InputError(f"{str(source)!r} gives one film several sizes ({sorted(map(str, sizes))}); correct it.")
    sides = [mark.long_side for mark in marks if mark.long_side is not None]
    shapes = tuple(mark.shape for mark in marks if mark.shape is not None)
    return Outline(shapes, marks[0].size, sides[0] if sides else None)


# --- tables ----------------------------------------------------------------------------------------------------------


def _from_table(table: Table) -> RegionSet:
    layout = columns_for(table)
    columns = columns_of(table, layout.meanings, layout.required)
    return _gathered(layout.name, table.path, _table_marks(table, layout, columns), layout.asks)


def _table_marks(table: Table, layout: Columns, columns: Mapping[str, Sequence[str]]) -> Iterator[Mark | LeftOut]:
    for line, row in table.rows():
        cells = {meaning: first_filled(row, headings) for meaning, headings in columns.items()}
        film = cells["film"].replace("\\", "/").removesuffix(".dcm")
        looked = Mark(film, reader=cells.get("reader", ""), line=line)
        try:
            yield _table_mark(looked, cells, layout, row, table.path.parent)
        except UnusableRow as reason:
            if film:  # its reader looked at it, whatever was marked
                yield looked
            yield LeftOut(line, str(reason))


def _table_mark(looked: Mark, cells: Mapping[str, str], layout: Columns, row: Row, folder: Path) -> Mark:
    mark = looked._replace(name=cells["name"], size=_film_size(cells))
    _refuse_nameless(mark)
    if mark.name.lower() == NO_FINDING:
        raise UnusableRow("the film shows nothing of what was looked for ('No finding')")
    return layout.refine(mark._replace(shape=_shape(cells, mark.size, folder)), row)


def _refuse_nameless(mark: Mark) -> None:
    if not mark.film:
        raise UnusableRow("no film named")
    if not region_name(mark.name):
        raise UnusableRow("the region has no name")


def _film_size(cells: Mapping[str, str]) -> Size | None:
    height, width = _number(cells.get("image_height", "")), _number(cells.get("image_width", ""))
    if height is None or width is None:
        return None
    if height < 1 or width < 1:
        raise UnusableRow("the film has no size")
    return round(height), round(width)


def _shape(cells: Mapping[str, str], size: Size | None, folder: Path) -> Shape:
    if cells.get("mask"):
        path = folder / cells["mask"]
        if not path.is_file():
            raise UnusableRow("mask file not found")
        return MaskFile(path)
    corners = _corners(cells)
    return _checked_box(corners, size)


def _corners(cells: Mapping[str, str]) -> tuple[float, float, float, float]:
    if cells.get("x0"):
        x0, y0, x1, y1 = (_number(cells.get(name, "")) for name in ("x0", "y0", "x1", "y1"))
        if x0 is not None and y0 is not None and x1 is not None and y1 is not None:
            return x0, y0, x1, y1
        raise UnusableRow("a coordinate is missing or no number")
    x, y, width, height = (_number(cells.get(name, "")) for name in ("x", "y", "width", "height"))
    if x is None or y is None or width is None or height is None:
        raise UnusableRow("a coordinate is missing or no number")
    return x, y, x + width, y + height


def _checked_box(corners: tuple[float, float, float, float], size: Size | None, round_: bool = False) -> Box:
    x0, y0, x1, y1 = corners
    if not (x0 < x1 and y0 < y1):
        raise UnusableRow("the box has no area")
    if x1 <= 0 or y1 <= 0 or (size is not None and (x0 >= size[1] or y0 >= size[0])):
        raise UnusableRow("the box lies outside the film")
    return Box(x0, y0, x1, y1, round_)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


# --- JSON ------------------------------------------------------------------------------------------------------------


def _from_json(path: Path) -> RegionSet:
    content = read_json(path)
    if not is_region_json(content):
        raise InputError(
            f"{str(path)!r} holds neither CheXlocalize's films with run lengths nor COCO's images, annotations and "
            "categories; name another file."
        )
    if _is_coco(content):
        return _gathered("COCO regions", path, _coco(content))
    return _gathered("CheXlocalize", path, _chexlocalize(content))


def _is_chexlocalize(content: Mapping[str, Any]) -> bool:
    first = next(iter(content.values()), None)
    packed = next(iter(first.values()), None) if isinstance(first, dict) else None
    return isinstance(packed, dict) and {"size", "counts"} <= packed.keys()


def _chexlocalize(content: Mapping[str, Any]) -> Iterator[Mark | LeftOut]:
    """{film: {finding: {"size": [height, width], "counts": run lengths}}}; a finding that is not there is all zero."""
    for number, (film, findings) in enumerate(content.items(), start=1):
        for name, packed in findings.items():
            try:
                shape = _run_lengths(packed)
                yield Mark(film, name, shape, (shape.height, shape.width), line=number)
            except UnusableRow as reason:
                yield LeftOut(number, str(reason))


def _run_lengths(packed: Any) -> RunLengths:
    try:
        (height, width), counts = packed["size"], packed["counts"]
        lengths = RunLengths(int(height), int(width), counts if isinstance(counts, str) else tuple(counts))
    except (KeyError, TypeError, ValueError) as error:
        raise UnusableRow("no size and run lengths") from error
    if _is_empty(lengths):
        raise UnusableRow("the mask is empty: the finding is not on the film")
    return lengths


def _is_empty(lengths: RunLengths) -> bool:
    """Nothing inside: the text of that is short, so that long ones need not be decoded."""
    if isinstance(lengths.counts, str) and len(lengths.counts) > _SHORT:
        return False
    try:
        runs = decode_counts(lengths.counts) if isinstance(lengths.counts, str) else lengths.counts
    except InputError as error:
        raise UnusableRow("damaged run lengths") from error
    return sum(runs[1::2]) == 0


def _is_coco(content: Mapping[str, Any]) -> bool:
    return all(isinstance(content.get(name), list) for name in ("images", "annotations", "categories"))


def _coco(content: Mapping[str, Any]) -> Iterator[Mark | LeftOut]:
    """MS-CXR's other form, and what annotation programs export: "bbox" is x, y, width, height."""
    images = {image.get("id"): image for image in content["images"]}
    names = {category.get("id"): str(category.get("name", "")) for category in content["categories"]}
    for number, entry in enumerate(content["annotations"], start=1):
        try:
            image = images.get(entry.get("image_id"))
            if image is None:
                raise UnusableRow("no film named")
            cells = {"image_height": str(image.get("height", "")), "image_width": str(image.get("width", ""))}
            film, size = str(image.get("file_name", "")), _film_size(cells)
            mark = Mark(film, names.get(entry.get("category_id"), ""), size=size, line=number)
            _refuse_nameless(mark)
            yield mark._replace(shape=_coco_shape(entry, size))
        except UnusableRow as reason:
            yield LeftOut(number, str(reason))


def _coco_shape(entry: Mapping[str, Any], size: Size | None) -> Shape:
    if isinstance(entry.get("segmentation"), dict):
        return _run_lengths(entry["segmentation"])
    values = entry.get("bbox")
    cells = dict(zip(("x", "y", "width", "height"), map(str, values or ()), strict=False))
    return _checked_box(_corners(cells), size)


# --- REFLACX ---------------------------------------------------------------------------------------------------------

_REFLACX: Mapping[str, tuple[str, ...]] = {
    "reading": ("id",),
    "film": ("dicom_id", "image"),
    "height": ("image_size_y",),
    "width": ("image_size_x",),
}
_ELLIPSE: Mapping[str, tuple[str, ...]] = {
    **{"x0": ("xmin",), "y0": ("ymin",), "x1": ("xmax",), "y1": ("ymax",), "certainty": ("certainty",)}
}


def reflacx_tables(folder: Path) -> list[Path]:
    """The tables of readings by which a folder is known to be REFLACX's; none where it is not."""
    return [path for end in ("", ".gz") for path in sorted(folder.glob(f"metadata_phase_[123].csv{end}"))]


def _reflacx(folder: Path) -> Iterator[Mark | LeftOut]:
    """Readings of the metadata tables, with main_data/<id>/anomaly_location_ellipses.csv of each."""
    data = folder / "main_data" if (folder / "main_data").is_dir() else folder
    for path in reflacx_tables(folder):
        table = open_table(path)
        columns = columns_of(table, _REFLACX, (("reading",), ("film",), ("height",), ("width",)))
        for line, row in table.rows():
            cells = {meaning: first_filled(row, headings) for meaning, headings in columns.items()}
            ellipses = data / cells["reading"] / "anomaly_location_ellipses.csv"
            try:
                reading = _looked(cells, line)
                if not ellipses.is_file():
                    raise UnusableRow("the reading's anomaly_location_ellipses.csv is missing")
            except UnusableRow as reason:
                yield LeftOut(line, str(reason))
                continue
            yield reading
            yield from _reading(ellipses, reading)


def _looked(cells: Mapping[str, str], line: int) -> Mark:
    film = cells["film"].rsplit("/", 1)[-1].removesuffix(".dcm")
    if not film or not cells["reading"]:
        raise UnusableRow("no film named")
    size = _film_size({"image_height": cells["height"], "image_width": cells["width"]})
    return Mark(film, size=size, reader=cells["reading"], line=line)


def _reading(path: Path, reading: Mark) -> Iterator[Mark | LeftOut]:
    """The ellipses of one reading; every label that holds of an ellipse is marked by it."""
    table = open_table(path)
    columns = columns_of(table, _ELLIPSE, tuple((name,) for name in _ELLIPSE))
    taken = {heading for headings in columns.values() for heading in headings}
    labels = [heading for heading in table.headings if heading and heading not in taken]
    for line, row in table.rows():
        cells = {meaning: first_filled(row, headings) for meaning, headings in columns.items()}
        try:
            shape = _ellipse(cells, reading.size)
            names = [label for label in labels if first_filled(row, (label,)).lower() in ("true", "1", "1.0")]
            if not names:
                raise UnusableRow("no label holds of the ellipse")
            yield from (reading._replace(name=name, shape=shape, line=line) for name in names)
        except UnusableRow as reason:
            yield LeftOut(line, str(reason))


def _ellipse(cells: Mapping[str, str], size: Size | None) -> Box:
    certainty = _number(cells["certainty"])
    if certainty is None:
        raise UnusableRow("no certainty given")
    if certainty <= LEAST_CERTAIN:
        raise UnusableRow(f"a certainty of {LEAST_CERTAIN} or less")
    return _checked_box(_corners(cells), size, round_=True)


# --- folders of masks ------------------------------------------------------------------------------------------------


def _masks(folder: Path) -> RegionSet:
    """Masks named <film>/<region>.png or <film>_<region>.png; the region is a finding's name, or the last word."""
    files = enumerate(_mask_files(folder), start=1)
    return _gathered("masks", folder, (_mask_mark(path, folder, number) for number, path in files))


def _mask_files(folder: Path) -> Iterator[Path]:
    """Pictures that may be masks, folder by folder, each sorted."""
    for place, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(place, name) for name in sorted(names) if name.lower().endswith(_MASK_SUFFIXES))


def _mask_mark(path: Path, folder: Path, number: int) -> Mark | LeftOut:
    if path.parent != folder:
        return Mark(path.parent.name, path.stem, MaskFile(path), line=number)
    names = [name for name in FINDINGS if path.stem.lower().endswith(f"_{name}")]
    name = max(names, key=len) if names else path.stem.rpartition("_")[2]
    film = path.stem[: -len(name) - 1]
    if not film:
        return LeftOut(number, "the mask's name is not of the form <film>_<region>")
    return Mark(film, name, MaskFile(path), line=number)
