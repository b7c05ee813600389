"""Time and memory to open a question file as long as MIMIC-CXR: `python benchmarks/data.py [--rows N] [--root]`.

Makes a root of MIMIC-CXR-JPG with one film a row (empty files: films are looked for, not opened) and a question file
of Medical-CXR-VQA's columns, and measures `load_cases` in a process of its own: seconds by the wall clock and of the
processor (they differ where others keep it busy), and the peak of its resident memory, Python and libraries included.
With --root the root is asked for its labels instead. Targets for 377,110 rows: 20 s, 1 GB. Making the files takes
minutes and is not measured.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROWS = 377_110
_MEASURED = """
import json, resource, sys, time
from medgemma_visualizer.data.sources import load_cases
started, worked = time.perf_counter(), time.process_time()
found = load_cases(sys.argv[1], images=sys.argv[2] or None)
seconds, worked = time.perf_counter() - started, time.process_time() - worked
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
told = {"cases": len(found), "left_out": len(found.left_out), "peak_MiB": round(peak)}
print(json.dumps(told | {"seconds": round(seconds, 1), "processor_seconds": round(worked, 1)}))
"""


def key_of(number: int) -> str:
    """A dicom_id's shape."""
    return "-".join(f"{(number * 2_654_435_761 + part * 40_503) % 2**32:08x}" for part in range(5))


def write_root(folder: Path, rows: int) -> tuple[Path, Path]:
    """A root of that many films, three a study and nine a patient, and a question about each; returns both."""
    root, questions = folder / "mimic-cxr-jpg", folder / "medical-cxr-vqa-questions.csv"
    root.mkdir()
    with (
        (root / "mimic-cxr-2.0.0-metadata.csv").open("w") as metadata,
        (root / "mimic-cxr-2.0.0-split.csv").open("w") as split,
        (root / "mimic-cxr-2.0.0-chexpert.csv").open("w") as labels,
        questions.open("w") as asked,
    ):
        metadata.write("dicom_id,subject_id,study_id,ViewPosition,Rows,Columns,StudyDate,StudyTime\n")
        split.write("dicom_id,study_id,subject_id,split\n")
        labels.write("subject_id,study_id,Pleural Effusion,Pneumonia\n")
        asked.write("question_type,question,answer,subject_id,study_id,dicom_id,split\n")
        for number in range(rows):
            key, patient, study = key_of(number), 10_000_000 + number // 9, 50_000_000 + number // 3
            view, part = ("PA", "AP", "LATERAL")[number % 3], "train" if number % 50 else "test"
            metadata.write(f"{key},{patient},{study},{view},3056,2544,21800506,213014.53\n")
            split.write(f"{key},{study},{patient},{part}\n")
            if number % 3 == 0:
                labels.write(f"{patient},{study},{number % 2}.0,\n")
            asked.write(f"presence,is there pleural effusion?,yes,{patient},{study},{key},{part}\n")
            film = root / f"files/p{str(patient)[:2]}/p{patient}/s{study}/{key}.jpg"
            film.parent.mkdir(parents=True, exist_ok=True)
            film.touch()
    return root, questions


def main() -> None:
    """As called from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--root", action="store_true", help="Ask the root for its labels.")
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root, questions = write_root(Path(folder), words.rows)
        sources = [str(root), ""] if words.root else [str(questions), str(root)]
        done = subprocess.run([sys.executable, "-c", _MEASURED, *sources], capture_output=True, text=True, check=True)
    print(json.dumps({"rows": words.rows, **json.loads(done.stdout)}))


if __name__ == "__main__":
    main()
