"""Writes embedded films in the layouts of MIMIC-CXR and of the sets around it: `mimic_tree.py OUT [--films N]`.

Knows folders, file names and columns; nothing in them is of a person. Films are simulated, identifiers only have the
right shape, dates lie in the years 2100 to 2199 as MIMIC's do. What a layout wants and the films lack is made up and
said here: the lateral film of the first study is a squeezed frontal one, the lungs of Chest ImaGenome are the halves of
the body's box. Every set also holds rows that cannot be used, one for each reason that the set is known for.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from medgemma_visualizer.data.sources import demo_folder

LABELS = (
    *("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum", "Fracture"),
    *("Lung Lesion", "Lung Opacity", "No Finding", "Pleural Effusion", "Pleural Other", "Pneumonia", "Pneumothorax"),
    "Support Devices",
)
ASKED = {"pleural_effusion": "Pleural Effusion", "pneumonia": "Pneumonia", "pneumothorax": "Pneumothorax"}
ASKED |= {"cardiomegaly": "Cardiomegaly"}
SPLITS = ("test", "validate", "train")
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Film:
    """An embedded film under identifiers of MIMIC's shape.

    Attributes:
        key: dicom_id.
        patient: subject_id, from 1.
        study: study_id, from 5.
        path: The embedded picture.
        findings: Of `ASKED`, those that it shows.
        masks: Region -> its picture.
        split: Of the patient.
        view: As the tables say.
    """

    key: str
    patient: str
    study: str
    path: Path
    findings: tuple[str, ...]
    masks: Mapping[str, Path]
    split: str
    view: str = "PA"

    @property
    def place(self) -> str:
        """Where it lies in a root, without suffix."""
        return f"files/p{self.patient[:2]}/p{self.patient}/s{self.study}/{self.key}"

    @property
    def pixels(self) -> npt.NDArray[np.uint8]:
        """Gray levels (rows, columns)."""
        image = Image.open(self.path).convert("L")
        return np.asarray(image.resize((image.width // 2, image.height)) if self.view == "LATERAL" else image)

    def mask(self, name: str) -> npt.NDArray[np.bool_]:
        """A region, bool (rows, columns)."""
        return np.asarray(Image.open(self.masks[name]).convert("L")) > 0

    def box(self, name: str) -> Box:
        """x0, y0, x1, y1 around a region, edges continuous."""
        down, across = (np.flatnonzero(self.mask(name).any(axis=axis)) for axis in (1, 0))
        return int(across[0]), int(down[0]), int(across[-1]) + 1, int(down[-1]) + 1


def write_tree(out: Path, number: int = 12) -> list[Film]:
    """Writes every layout below a folder, each under the name of its set; returns the frontal films."""
    films = _films(number)
    for write in _WRITERS:
        write(out, films)
    return films


def _films(number: int) -> list[Film]:
    """The first embedded films, and patients in turn for test, validation and training."""
    folder = demo_folder()
    index = json.loads((folder / "cases.json").read_text("utf-8"))["films"]
    with (folder / "questions.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["ImagePath"]: row for row in csv.DictReader(file)}
    chosen = list(rows.items())[:number]
    patients = list(dict.fromkeys(row["subject_id"] for _, row in chosen))
    return [
        Film(
            key=row["dicom_id"],
            patient=f"1{row['subject_id'][1:]}",
            study=f"5{row['study_id'][1:]}",
            path=folder / image,
            findings=tuple(name for name in index[image]["findings"] if name in ASKED),
            masks={name: folder / mask for name, mask in index[image]["masks"].items()},
            split=SPLITS[patients.index(row["subject_id"]) % len(SPLITS)],
        )
        for image, row in chosen
    ]


# --- the two roots ---------------------------------------------------------------------------------------------------


def _roots(out: Path, films: Sequence[Film]) -> None:
    first = films[0]
    side = Film(
        *(f"{first.key[:-8]}{int(first.key[-8:], 16) ^ 1:08x}", first.patient, first.study, first.path),
        *((), {}, first.split, "LATERAL"),
    )
    everything = [*films, side]
    for film in everything:
        jpg = out / "mimic-cxr-jpg" / f"{film.place}.jpg"
        jpg.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(film.pixels).save(jpg, quality=95)
        dicom = out / "mimic-cxr" / f"{film.place}.dcm"
        dicom.parent.mkdir(parents=True, exist_ok=True)
        _dicom(film).save_as(dicom, enforce_file_format=True)
    _tables(out, everything)


def _dicom(film: Film) -> FileDataset:
    """A DX file of eight bits, without anybody's name."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[film.key])
    pixels = film.pixels
    facts: dict[str, Any] = {
        "SOPClassUID": meta.MediaStorageSOPClassUID,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "StudyInstanceUID": generate_uid(entropy_srcs=[film.study]),
        "SeriesInstanceUID": generate_uid(entropy_srcs=[film.study, "series"]),
        "PatientID": film.patient,
        "Modality": "DX",
        "PresentationIntentType": "FOR PRESENTATION",
        "ViewPosition": film.view,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        **{"Rows": pixels.shape[0], "Columns": pixels.shape[1], "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7},
        "PixelRepresentation": 0,
        "PixelData": pixels.tobytes(),
    }
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    for name, value in facts.items():
        setattr(dataset, name, value)
    dataset["PixelData"].VR = "OB"
    return dataset


def _tables(out: Path, films: Sequence[Film]) -> None:
    jpg, dicom = out / "mimic-cxr-jpg", out / "mimic-cxr"
    studies = list({film.study: film for film in films if film.view != "LATERAL"}.values())
    _table(
        jpg / "mimic-cxr-2.0.0-metadata.csv.gz",
        (
            *("dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription", "ViewPosition"),
            *("Rows", "Columns", "StudyDate", "StudyTime", "ProcedureCodeSequence_CodeMeaning"),
            *("ViewCodeSequence_CodeMeaning", "PatientOrientationCodeSequence_CodeMeaning"),
        ),
        [
            (
                *(film.key, film.patient, film.study, "CHEST", film.view, *film.pixels.shape),
                *(f"21{number % 90 + 10}0615", "101500.250", "CHEST", "postero-anterior", "Erect"),
            )
            for number, film in enumerate(films)
        ],
    )
    _table(
        jpg / "mimic-cxr-2.0.0-split.csv.gz",
        ("dicom_id", "study_id", "subject_id", "split"),
        [(film.key, film.study, film.patient, film.split) for film in films],
    )
    labelled = [(film.patient, film.study, *_labels(film, first=film is studies[0])) for film in studies[:-1]]
    for name in ("chexpert", "negbio"):  # the last study is one of those without a row
        _table(jpg / f"mimic-cxr-2.0.0-{name}.csv.gz", ("subject_id", "study_id", *LABELS), labelled)
    _table(
        dicom / "cxr-record-list.csv.gz",
        ("subject_id", "study_id", "dicom_id", "path"),
        [(film.patient, film.study, film.key, f"{film.place}.dcm") for film in films],
    )
    _table(
        dicom / "cxr-study-list.csv.gz",
        ("subject_id", "study_id", "path"),
        [(film.patient, film.study, f"{film.place.rpartition('/')[0]}.txt") for film in studies],
    )


def _labels(film: Film, first: bool) -> list[str]:
    """1.0, 0.0, -1.0 or nothing of each label; the first study is not sure about atelectasis."""
    there = {ASKED[name] for name in film.findings}
    labels = {label: "1.0" if label in there else "0.0" for label in ASKED.values()}
    labels |= {"No Finding": "" if there else "1.0"} | ({"Atelectasis": "-1.0"} if first else {})
    return [labels.get(label, "") for label in LABELS]


# --- question sets ---------------------------------------------------------------------------------------------------


def _asked(films: Sequence[Film]) -> Iterator[tuple[Film, str, str]]:
    """Every film, finding and right answer."""
    for film in films:
        for name in ASKED:
            yield film, name, "yes" if name in film.findings else "no"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _questions(out: Path, films: Sequence[Film]) -> None:
    """The specification's columns."""
    rows = [
        (film.study, f"Is there {_words(name)}?", "['yes', 'no', '', '']", truth, f"['{film.place}.jpg']", film.patient)
        for film, name, truth in _asked(films)
    ]
    headings = ("study_id", "question", "options", "correct_answer", "image_path", "PatientID")
    _table(out / "questions" / "questions.csv", headings, rows)


def _medical_cxr_vqa(out: Path, films: Sequence[Film]) -> None:
    rows = [
        ("presence", f"is there {_words(name)}?", truth, film.patient, film.study, film.key, film.split)
        for film, name, truth in _asked(films)
    ]
    first = films[0]
    rows.append(("view", "which view is this image taken?", "pa view", first.patient, first.study, first.key, "test"))
    headings = ("question_type", "question", "answer", "subject_id", "study_id", "dicom_id", "split")
    _table(out / "medical-cxr-vqa" / "medical-cxr-vqa-questions.csv", headings, rows)


def _medical_diff_vqa(out: Path, films: Sequence[Film]) -> None:
    """Questions name studies; mimic_all.csv says which film each has."""
    folder = out / "medical-diff-vqa"
    rows = [
        (film.study, film.patient, film.study, "presence", f"is there {_words(name)}?", truth, film.split)
        for film, name, truth in _asked(films)
    ]
    first = films[0]
    rows.append((first.study, first.patient, films[-1].study, "difference", "what has changed?", "nothing", "test"))
    headings = ("study_id", "subject_id", "ref_id", "question_type", "question", "answer", "split")
    _table(folder / "mimic_pair_questions.csv", headings, rows)
    pairs = [(film.patient, film.study, film.key) for film in films]
    _table(folder / "mimic_all.csv", ("subject_id", "study_id", "dicom_id"), pairs)


def _mimic_ext(out: Path, films: Sequence[Film]) -> None:
    entries = [
        _ext_entry(film, f"Is there {_words(name)}?", [truth], "verify", [_words(name)])
        for film, name, truth in _asked(films)
    ]
    several = [_words(name) for name in ASKED]
    entries.append(_ext_entry(films[0], "Which findings are there?", several, "query", []))
    entries.append(_ext_entry(films[0], "Which devices are there?", [], "query", []))
    for split, name in (("train", "train"), ("valid", "validate"), ("test", "test")):
        chosen = [{"split": split, "idx": n, **entry} for n, (own, entry) in enumerate(entries) if own == name]
        _json(out / "mimic-ext-mimic-cxr-vqa" / f"{split}.json", chosen)


def _ext_entry(
    film: Film, question: str, answer: list[str], kind: str, objects: list[str]
) -> tuple[str, dict[str, Any]]:
    arguments: dict[str, dict[str, str]] = {part: {} for part in ("attribute", "category", "viewpos", "gender")}
    arguments["object"] = {str(number): name for number, name in enumerate(objects)}
    return film.split, {
        "image_id": film.key,
        "question": question,
        "content_type": "presence",
        "semantic_type": kind,
        "template": "Is there ${object}?",
        "template_program": "program_1",
        "template_arguments": arguments,
        "answer": answer,
        "subject_id": film.patient,
        "study_id": film.study,
        "image_path": f"{film.place.removeprefix('files/')}.jpg",
    }


def _vqa_rad(out: Path, films: Sequence[Film]) -> None:
    folder = out / "vqa-rad"
    entries = []
    for number, (film, name, truth) in enumerate(_asked(films)):
        organ = "HEAD" if number == 1 else "CHEST"
        entries.append(
            {
                "qid": number,
                "phrase_type": "test_freeform" if film.split == "test" else "freeform",
                "qid_linked_id": f"linked-{number}",
                "image_case_url": f"https://example.org/case/{film.patient}",
                "image_name": f"synthetic{films.index(film)}.jpg",
                "image_organ": organ,
                "evaluation": "evaluated",
                "question": f"Is there {_words(name)}?",
                "question_rephrase": "NULL",
                "question_relation": "NULL",
                "question_frame": "NULL",
                "question_type": "PRES",
                "answer": truth.capitalize(),
                "answer_type": "CLOSED",
            }
        )
    _json(folder / "VQA_RAD Dataset Public.json", entries)
    for number, film in enumerate(films):
        _copy(film.path, folder / "VQA_RAD Image Folder" / f"synthetic{number}.jpg")


def _slake(out: Path, films: Sequence[Film]) -> None:
    folder = out / "slake"
    entries: list[tuple[str, dict[str, Any]]] = []
    for number, (film, name, truth) in enumerate(_asked(films)):
        place = films.index(film)
        odd = {1: {"q_lang": "zh"}, 2: {"modality": "CT"}, 3: {"location": "Abdomen"}}.get(number, {})
        entry = {
            "qid": number,
            "img_id": place,
            "img_name": f"xmlab{place}/source.jpg",
            "question": f"Is there {_words(name)} in this image?",
            "answer": truth.capitalize(),
            "q_lang": "en",
            "location": "Lung",
            "modality": "X-Ray",
            "answer_type": "CLOSED",
            "base_type": "vqa",
            "content_type": "Abnormality",
            "triple": ["vhead", "_", "_"],
        }
        entries.append((film.split, entry | odd))
    for split in SPLITS:
        _json(folder / f"{split}.json", [entry for own, entry in entries if own == split])
    for number, film in enumerate(films):
        _copy(film.path, folder / "imgs" / f"xmlab{number}" / "source.jpg")


# --- regions ---------------------------------------------------------------------------------------------------------


def _marked(films: Sequence[Film]) -> Iterator[tuple[Film, str]]:
    """Every film and finding that has a mask."""
    yield from ((film, name) for film in films for name in film.findings if name in film.masks)


def _ms_cxr(out: Path, films: Sequence[Film]) -> None:
    """Its own split is not MIMIC's: everything here is called "test"."""
    folder = out / "ms-cxr"
    rows, annotations = [], []
    for film, name in _marked(films):
        x0, y0, x1, y1 = film.box(name)
        height, width = film.pixels.shape
        text, box = f"{_words(name)} is seen", (x0, y0, x1 - x0, y1 - y0)
        rows.append((film.key, ASKED[name], text, f"{film.place}.jpg", *box, width, height, "test"))
        category = list(ASKED).index(name)
        annotations.append({"image_id": film.key, "category_id": category, "bbox": box, "label_text": text})
    first = films[0]
    rows.append((first.key, "Edema", "no area", f"{first.place}.jpg", 5, 5, 0, 9, 512, 512, "test"))
    headings = ("dicom_id", "category_name", "label_text", "path", "x", "y", "w", "h", "image_width", "image_height")
    _table(folder / "MS_CXR_Local_Alignment_v1.1.0.csv", (*headings, "split"), rows)
    images = [
        {"id": film.key, "file_name": f"{film.key}.jpg", "height": film.pixels.shape[0], "width": film.pixels.shape[1]}
        for film in films
    ]
    categories = [{"id": number, "name": label} for number, label in enumerate(ASKED.values())]
    content = {"images": images, "annotations": annotations, "categories": categories}
    _json(folder / "MS_CXR_Local_Alignment_v1.1.0.json", content)


def _chexlocalize(out: Path, films: Sequence[Film]) -> None:
    folder = out / "chexlocalize"
    content: dict[str, dict[str, Any]] = {}
    for number, film in enumerate(films):
        name = f"patient{64000 + number}_study1_view1_frontal"
        height, width = film.pixels.shape
        for finding, label in ASKED.items():
            there = finding in film.findings and finding in film.masks
            mask = film.mask(finding) if there else np.zeros((height, width), bool)
            content.setdefault(name, {})[label] = {"size": [height, width], "counts": pack(mask)}
        _copy(film.path, folder / "CheXpert" / "val" / f"{name.replace('_', '/', 2)}.jpg")
    _json(folder / "gt_segmentations_val.json", content)


def pack(mask: npt.NDArray[np.bool_]) -> str:
    """A mask (rows, columns) as COCO's text of run lengths."""
    flat = mask.ravel(order="F").astype(np.int8)
    edges = np.flatnonzero(np.diff(flat, prepend=0))
    runs = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return "".join(_packed(run - runs[n - 2] if n > 2 else run) for n, run in enumerate(runs))


def _packed(value: int) -> str:
    """A number in groups of five bits, the lowest first."""
    text = ""
    while True:
        group, value = value & 31, value >> 5
        last = value == (-1 if group & 16 else 0)
        text += chr(48 + (group if last else group | 32))
        if last:
            return text


def _reflacx(out: Path, films: Sequence[Film]) -> None:
    """Two readers agree in phase 1; in phase 3 there is one, who is unsure once."""
    folder = out / "reflacx"
    metadata: dict[str, list[tuple[Any, ...]]] = {"1": [], "3": []}
    for number, film in enumerate(films):
        height, width = film.pixels.shape
        phase, readers = ("1", 2) if number % 2 == 0 else ("3", 1)
        for reader in range(readers):
            reading = f"P{phase}{reader}R{number:06d}"
            image = f"physionet.org/files/mimic-cxr/2.0.0/{film.place}.dcm"
            metadata[phase].append((reading, film.split, False, image, film.patient, width, height))
            rows = [(*film.box(name), 4, name == "pleural_effusion", name == "pneumonia") for name in film.findings]
            rows.append((10, 10, 60, 60, 1, True, False))
            place = folder / "main_data" / reading / "anomaly_location_ellipses.csv"
            _table(place, ("xmin", "ymin", "xmax", "ymax", "certainty", "Pleural effusion", "Pneumonia"), rows)
    headings = ("id", "split", "eye_tracking_data_discarded", "image", "subject_id", "image_size_x", "image_size_y")
    for phase, rows in metadata.items():
        _table(folder / f"metadata_phase_{phase}.csv", headings, rows)


def _chest_imagenome(out: Path, films: Sequence[Film]) -> None:
    rows = []
    for number, film in enumerate(films):
        height, width = film.pixels.shape
        x0, y0, x1, y1 = film.box("body")
        middle, scale = (x0 + x1) // 2, 224 / max(height, width)
        for name, box in (("right lung", (x0, y0, middle, y1)), ("left lung", (middle, y0, x1, y1))):
            small = [round(edge * scale) for edge in box]
            sides, original = (small[2] - small[0], small[3] - small[1]), (box[2] - box[0], box[3] - box[1])
            rows.append((f"{film.key}.dcm", *small, *sides, name, number, *box, *original, "annotator1", small, box))
    headings = ("image_id", "x1", "y1", "x2", "y2", "width", "height", "bbox_name", "annot_id")
    original = tuple(f"original_{name}" for name in ("x1", "y1", "x2", "y2", "width", "height"))
    more = ("annotator", "coord224", "coord_original")
    _table(
        out / "chest-imagenome" / "gold_bbox_coordinate_annotations_1000images.csv",
        (*headings, *original, *more),
        rows,
    )


def _vindr(out: Path, films: Sequence[Film]) -> None:
    """Three readers a film; two of them mark what is there, the third sees nothing, and once more than is there."""
    folder = out / "vindr-cxr"
    rows: list[tuple[Any, ...]] = []
    for film in films:
        key = film.key.replace("-", "")[:32]
        for name in film.findings:
            label = ASKED[name].capitalize()
            rows += [(key, label, 0, f"R{reader}", *film.box(name)) for reader in (1, 2)]
        blank = ("", "", "", "")
        rows += [(key, "No finding", 14, f"R{r}", *blank) for r in ((3,) if film.findings else (1, 2, 3))]
        dicom = folder / "train" / f"{key}.dicom"
        dicom.parent.mkdir(parents=True, exist_ok=True)
        _dicom(film).save_as(dicom, enforce_file_format=True)
    key = films[0].key.replace("-", "")[:32]
    rows.append((key, "Nodule/Mass", 8, "R1", 30, 30, 60, 60))
    headings = ("image_id", "class_name", "class_id", "rad_id", "x_min", "y_min", "x_max", "y_max")
    _table(folder / "annotations_train.csv", headings, rows)


def _plain(out: Path, films: Sequence[Film]) -> None:
    """Boxes in a table of one's own, and masks in a folder a film."""
    boxes = [(f"{film.key}.jpg", name, *film.box(name)) for film, name in _marked(films)]
    _table(out / "boxes" / "boxes.csv", ("image", "finding", "x0", "y0", "x1", "y1"), boxes)
    for film, name in _marked(films):
        _copy(film.masks[name], out / "masks" / film.key / f"{name}.png")


_WRITERS = (
    *(_roots, _questions, _medical_cxr_vqa, _medical_diff_vqa, _mimic_ext, _vqa_rad, _slake),
    *(_ms_cxr, _chexlocalize, _reflacx, _chest_imagenome, _vindr, _plain),
)


# --- files -----------------------------------------------------------------------------------------------------------


def _table(path: Path, headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO(newline="")
    csv.writer(text).writerows([headings, *rows])
    content = text.getvalue().encode()
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def _json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _copy(source: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, to)


def main() -> None:
    """As called from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--films", type=int, default=12)
    words = parser.parse_args()
    films = write_tree(words.out, words.films)
    print(f"{len(films)} films in {len(list(words.out.iterdir()))} layouts under {words.out}")


if __name__ == "__main__":
    main()
