"""`run`, `status`, `merge` and `report` as a person or a program calls them."""

from __future__ import annotations

import importlib
import json
import shlex
import shutil
import signal
import time
import types
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageOps

from medgemma_visualizer.data import grayscale, picture
from medgemma_visualizer.runs import start
from medgemma_visualizer.runs.folder import Beat, load_manifest, say
from medgemma_visualizer.runs.local import Pulse
from medgemma_visualizer.runs.plan import asked_of
from tests.cli.conftest import Call
from tests.mimic_tree import tool
from tests.radiographs import radiograph, saved
from tests.runs.run_helpers import parts_of, rows_of

QUICK = ("--method", "cross_attention", "--cases", "4", "--shard-size", "2", "--max-new-tokens", "4")


@pytest.fixture
def done(call: Call, answering: None) -> Path:
    """A finished run."""
    assert call("run", *QUICK, "--out", "run").code == 0
    return Path("run")


def test_a_run_writes_parts_plan_and_page_and_says_what_it_did(call: Call, answering: None) -> None:
    found = call("run", *QUICK, "--out", "run")
    assert found.code == 0, found.err
    assert {path.name for path in Path("run").iterdir()} >= {"manifest.json", "parts", "seconds", "report.html"}
    assert "4 cases asked, 0 failed" in found.out
    assert "4 of 4 done" in found.out
    command = json.loads(Path("run/manifest.json").read_text())["command"]
    assert command.startswith("medgemma-visualizer run demo --model demo --methods cross_attention")
    assert "--cases 4" in command
    assert "--shard-size 2" in command


def test_the_whole_command_stands_beside_and_does_the_same_run(call: Call, answering: None, cases: Any) -> None:
    films = Path("secret place")
    films.mkdir()
    (films / "one.png").write_bytes(Path(cases[0].image).read_bytes())
    words = ("run", "secret place", "-q", "Is there a pleural effusion?", "--method", "cross_attention", "--out", "out")
    assert call(*words).code == 0
    (whole,) = Path("out/commands.txt").read_text().splitlines()
    assert str(films.resolve()) in whole
    assert f"--out {Path('out').resolve()}" in whole
    told = json.loads(call("status", "out", "--json").out)
    assert told["whole_commands"] == [whole]
    assert str(films.resolve().parent) not in told["command"]
    assert whole in " ".join(call("status", "out").out.split())
    page = Path("out/report.html").read_text()
    assert "commands.txt" in page
    assert str(films.resolve().parent) not in page
    assert str(films.resolve().parent) not in Path("out/manifest.json").read_text()
    program, *again = shlex.split(whole)
    assert program == "medgemma-visualizer"
    assert "0 cases asked" in call(*again).out
    again[again.index("--out") + 1] = "other"
    assert call(*again).code == 0
    assert parts_of(Path("other")) == parts_of(Path("out"))


def test_a_finished_run_is_not_asked_again_and_its_cases_are_not_even_opened(
    done: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medgemma_visualizer import verbs

    monkeypatch.setattr(verbs, "load_cases", lambda *_, **__: pytest.fail("The cases were opened."))
    found = call("run", *QUICK, "--out", "run", "--json")
    assert found.code == 0, found.err
    document = json.loads(found.out)
    assert document["this_time"] == {"asked": 0, "failed": 0, "stopped": False}
    assert (document["cases"], document["done"], document["complete"]) == (4, 4, True)


def test_a_finished_run_over_a_root_notices_a_film_that_became_another(call: Call, answering: None) -> None:
    tool().write_tree(Path("tree"), 4)
    words = ("run", "tree/mimic-cxr-jpg", *QUICK, "--out", "tree/mimic-cxr-jpg/run")
    assert call(*words).code == 0
    assert "0 cases asked" in call(*words).out
    for film in Path("tree/mimic-cxr-jpg/files").rglob("*.jpg"):
        film.touch()
    assert "0 cases asked" in call(*words).out
    for film in Path("tree/mimic-cxr-jpg/files").rglob("*.jpg"):
        ImageOps.invert(Image.open(film).convert("L")).save(film)
    found = call(*words)
    assert (found.code, found.out) == (2, "")
    assert "other pixels now" in found.err
    assert "files/p1" not in found.err


def test_another_run_in_the_same_folder_is_refused_with_the_difference(done: Path, call: Call) -> None:
    found = call("run", *QUICK, "--out", "run", "--seed", "1")
    assert found.code == 2
    assert "asked.seed: 0 → 1" in found.err
    assert "It was begun by: medgemma-visualizer run demo" in " ".join(found.err.split())


def test_a_run_goes_on_with_the_batch_that_it_began_with_whatever_would_fit_by_now(
    call: Call, answering: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medgemma_visualizer.models import batches

    for fits, asked in ((2, "4 cases asked"), (8, "0 cases asked")):
        monkeypatch.setattr(batches, "batch_for", lambda *_, fits=fits: fits)
        found = call("run", *QUICK, "--out", "run")
        assert found.code == 0, found.err
        assert asked in found.out
    assert "asked.batch: 2 → 4" in call("run", *QUICK, "--out", "run", "--batch", "4").err


def test_other_cases_in_the_same_folder_are_told_in_words(done: Path, call: Call, cases: Any) -> None:
    found = call("run", *("5" if word == "4" and k == 3 else word for k, word in enumerate(QUICK)), "--out", "run")
    assert found.code == 2
    assert "The cases differ in their questions, truths, regions, renderings or the names of films" in " ".join(
        found.err.split()
    )


def test_a_run_that_is_stopped_says_so_and_goes_on_with_the_same_command(
    call: Call, answering: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = Pulse.cases

    def stop_after(pulse: Pulse, asked: int, failed: int) -> None:
        count(pulse, asked, failed)
        signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Pulse, "cases", stop_after)
        found = call("run", *QUICK, "--out", "run")
    assert found.code == 130
    assert "Stopped." in found.err
    assert not Path("run/report.html").exists()
    later = call("run", *QUICK, "--out", "run")
    assert later.code == 0
    assert "4 of 4 done" in later.out


def test_jobs_of_an_array_are_merged_once_all_are_there(done: Path, call: Call) -> None:
    assert call("run", *QUICK, "--out", "one", "--shard", "1/2").code == 0
    assert not Path("one/report.html").exists()
    early = call("merge", "one", "--out", "both")
    assert early.code == 2
    assert "1 of 2 shards lack cases: 1" in early.err
    assert call("run", *QUICK, "--out", "two", "--shard", "2/2").code == 0
    found = call("merge", "one", "two", "--out", "both")
    assert found.code == 0, found.err
    assert parts_of(Path("both")) == parts_of(done)
    assert Path("both/report.html").exists()


def test_status_tells_how_far_others_are_and_changes_nothing(
    done: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()  # which it stays, however long the calls take
    of_status = importlib.import_module("medgemma_visualizer.cli.status")  # the package's `status` is the command
    monkeypatch.setattr(of_status, "time", types.SimpleNamespace(time=lambda: now))
    before = {path: path.stat().st_mtime_ns for path in done.rglob("*")}
    assert "nobody; all is done" in call("status", "run").out
    assert before == {path: path.stat().st_mtime_ns for path in done.rglob("*")}
    say(done, Beat("node", 1, now - 100, now, total=200, done=50, failed=0, kept=40))
    say(done, Beat("gone", 2, now - 9000, now - 8000, total=200, done=5))
    document = json.loads(call("status", "run", "--json").out)
    assert (document["processes"], document["cases_a_second"], document["in_hand"]) == (1, 0.5, 10)
    assert document["seconds_left"] == 300
    out = call("status", "run").out
    assert "1 process, 0.50 cases a second, 10 in hand, 5 min left" in out
    assert "nothing heard" not in out
    say(done, Beat("node", 1, now - 200, now - 100, total=200, done=50, failed=0, kept=40))
    assert "nothing heard for 100 s" in " ".join(call("status", "run").out.split())


def test_cases_that_failed_are_counted_with_their_reason(call: Call, answering: None, cases: Any) -> None:
    films = Path("films")
    films.mkdir()
    (films / "good.jpg").write_bytes(Path(cases[0].image).read_bytes())
    (films / "bad.jpg").write_bytes(Path(cases[0].image).read_bytes()[:2000])
    words = ("run", "films", "-q", "Is there a pleural effusion?", "--method", "cross_attention", "--out", "run")
    found = call(*words)
    assert found.code == 0, found.err
    assert "1 of 2 done, 1 failed" in found.out
    assert "damaged" in found.out
    assert "bad.jpg" not in call("status", "run").out
    (films / "good.jpg").write_bytes(b"broken")
    all_failed = call(*words[:-1], "other")
    assert all_failed.code == 1
    assert "All 2 cases failed" in all_failed.err


def test_the_page_is_written_again_at_any_level_with_a_table(done: Path, call: Call) -> None:
    (done / "report.html").unlink()
    found = call("report", "run", "--csv", "numbers.csv")
    assert found.code == 0, found.err
    assert (done / "report.html").exists()
    assert Path("numbers.csv").read_text().startswith('"what"')
    full = call("report", "run", "--level", "full", "--cases", "demo", "--out", "full.html", "--json")
    assert json.loads(full.out) == {"level": "full", "written": {"full.html": "full.html"}, "mlflow": None}
    assert "Film with the map of case" in Path("full.html").read_text()
    again = call("report", "run", "--against", "run", "--out", "again.html")
    assert again.code == 0
    assert "4 cases were answered by both runs" in Path("again.html").read_text()


def test_the_rendering_of_dicom_files_is_part_of_the_run_its_rows_command_and_page(
    call: Call, answering: None, cases: Any
) -> None:
    films = Path("films")
    films.mkdir()
    pixels = grayscale(picture(cases[0]))
    for name in ("IM0001", "two.dcm"):  # a name need not say what a file is
        saved(radiograph(pixels, bits=8, WindowCenter=128, WindowWidth=256), films / name)
    (films / "three.png").write_bytes(Path(cases[0].image).read_bytes())
    asked = (
        "run",
        "films",
        "-q",
        "Is there a pleural effusion?",
        "--method",
        "cross_attention",
        "--max-new-tokens",
        "4",
    )
    for name in ("dicom-voi", "mimic-jpg"):
        found = call(*asked, "--rendering", name, "--out", name)
        assert found.code == 0, found.err
    one, other = ({row["case_id"]: row for row in rows_of(Path(name))} for name in ("dicom-voi", "mimic-jpg"))
    assert sorted(row["rendering"] for row in other.values()) == ["", "mimic-jpg", "mimic-jpg"]
    assert sorted(row["rendering"] for row in one.values()) == ["", "dicom-voi", "dicom-voi"]
    changed = {key for key in one if one[key]["image_sha256"] != other[key]["image_sha256"]}
    assert changed == {key for key in one if one[key]["rendering"]}
    assert "--rendering mimic-jpg" in json.loads(Path("mimic-jpg/manifest.json").read_text())["command"]
    assert "--rendering mimic-jpg" in Path("mimic-jpg/commands.txt").read_text()
    assert "as mimic-jpg" in Path("mimic-jpg/report.html").read_text()
    shown = ("report", "mimic-jpg", "--level", "full", "--cases", "films", "-q", asked[3])
    assert call(*shown, "--out", "full.html").code == 0
    refused = call(*asked, "--rendering", "mimic-jpg", "--out", "dicom-voi")
    assert refused.code == 2
    assert 'asked.rendering: "dicom-voi" → "mimic-jpg"' in refused.err


def test_a_rendering_is_refused_where_no_film_is_a_dicom_file(call: Call, answering: None) -> None:
    found = call("run", *QUICK, "--rendering", "mimic-jpg", "--out", "run")
    assert found.code == 2
    assert "none of these films is one" in found.err
    assert not Path("run/manifest.json").exists()


def test_a_run_without_a_part_is_named_where_two_are_compared(done: Path, call: Call) -> None:
    shutil.copytree(done, "other")
    shutil.rmtree("other/parts")
    found = call("report", "run", "--against", "other")
    assert found.code == 2
    assert "'other' holds no part yet" in " ".join(found.err.split())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("run", "--method", "crossattention"), "cross_attention"),
        (("run", "--methods", "auto"), "Name one"),
        (("run", "--method", "relevance", "--checks", "all"), "faithfulness"),
        (("run", "--method", "relevance", "--shard", "5/4"), "such as 3/8"),
        (("run", "--engine", "spark"), "engine"),
        (("run", "--method", "relevance", "--rendering", "jpg"), "mimic-jpg"),
        (("run", "--method", "relevance", "--rendering", "dicom-voi:0"), "from 1"),
        (("run", "--engine", "ray"), "--method"),
        (("status", "nowhere"), "no folder of a run"),
        (("report", "nowhere"), "no folder of a run"),
        (("merge", "nowhere", "--out", "x"), "no folder of a run"),
        (("report", "nowhere", "--level", "some"), "aggregate"),
    ],
)
def test_what_cannot_be_used_is_refused_before_a_model_is_loaded(
    words: tuple[str, ...], told: str, call: Call, unloadable: None
) -> None:
    found = call(*words)
    assert found.code == 2
    assert told in found.err
    assert found.out == ""


# -- several processes, several cards ----------------------------------------------------------------------------------


@pytest.fixture
def together(demo: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Workers that are this process: what is asked of how many, and how each would load its model."""
    from medgemma_visualizer.runs import local

    found: list[tuple[Any, ...]] = []

    def alone(job: Any, todo: Any, pulse: Any, stop: Any, workers: int, loads: Any) -> None:
        found.append((job, workers, loads))
        local._alone(job, todo, demo, pulse, stop)

    monkeypatch.setattr(local, "_together", alone)
    return found


def on_cards(monkeypatch: pytest.MonkeyPatch, model: Any, *free: float) -> list[tuple[Any, ...]]:
    """A model of 8 GiB, to be loaded on the second of these GPUs; what is asked of `batch_for` is kept."""
    from medgemma_visualizer import verbs
    from medgemma_visualizer.models import batches, devices

    cards = [devices.Gpu(index, "a card", gib, 80) for index, gib in enumerate(free)]
    there = types.SimpleNamespace(device=torch.device("cuda", 1), dtype=torch.bfloat16, weight_bytes=2**33)
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(devices, "gpus", lambda: cards)
    monkeypatch.setattr(verbs, "load_model", lambda *_, **__: there)
    monkeypatch.setattr(batches, "batch_for", lambda loaded, *told: asked.append(told) or 8 // told[0])
    monkeypatch.setattr(start, "asked_of", lambda loaded, plan: asked_of(model, plan))
    return asked


def test_the_process_that_waits_for_workers_has_given_up_its_model(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    from medgemma_visualizer import verbs
    from medgemma_visualizer.runs import local

    load, kept, there = verbs.load_model, [], []

    def remembered(*told: Any, **how: Any) -> Any:
        loaded = load(*told, **how)
        kept.append(weakref.ref(loaded.hf))
        return loaded

    monkeypatch.setattr(verbs, "load_model", remembered)
    monkeypatch.setattr(local, "_together", lambda *_: there.extend(ref() is not None for ref in kept))
    assert call("run", *QUICK, "--out", "run", "--workers", "2", "--device", "cpu").code == 0
    assert there == [False]


@pytest.mark.parametrize(
    ("words", "places", "shares"),
    [
        (("--workers", "3"), ["cuda:1", "cuda:2", "cuda:0"], [(1, [1]), (1, [2]), (1, [0])]),
        (("--workers", "2"), ["cuda:1", "cuda:2"], [(1, [1]), (1, [2])]),
        (("--workers", "8"), ["cuda:1", "cuda:2", "cuda:0"], [(3, [1]), (3, [2]), (2, [0])]),
        (("--workers", "3", "--min-memory", "40"), ["cuda:1", "cuda:2"], [(2, [1]), (1, [2])]),
        (("--workers", "2", "--device", "cuda"), ["cuda:1"], [(2, [1])]),
        (("--workers", "2", "--max-memory", "24"), ["cuda:1", "cuda:2"], [(1, [1]), (1, [2])]),
    ],
)
def test_workers_go_to_the_cards_that_are_free_and_the_batch_is_that_of_the_smallest_share(
    words: tuple[str, ...],
    places: list[str],
    shares: list[tuple[Any, ...]],
    call: Call,
    demo: Any,
    together: list[tuple[Any, ...]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked = on_cards(monkeypatch, demo, 30, 70, 60, 0.5)  # the last is full
    found = call("run", *QUICK, "--out", "run", *words)
    assert found.code == 0, found.err
    ((_, _, loads),) = together
    assert [load.keywords["device"] for load in loads] == places
    assert asked == [(*share, 24.0 if "24" in words else None) for share in shares]
    if "8" in words:
        assert "GPU 3 (a card) has 0.5 GiB free, 1.0 are asked for; no worker takes it" in caplog.text


def test_workers_whose_weights_alone_fill_a_card_are_refused_before_a_run_is_begun(
    call: Call, demo: Any, together: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = on_cards(monkeypatch, demo, 15, 20)
    held = {1: 2**33}  # by this process, which gives it up
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda index: held.get(index, 0))
    assert call("run", *QUICK, "--out", "run", "--workers", "3").code == 0  # two on the first, one on the other
    assert [crew for crew, _, _ in asked] == [2, 1]
    assert load_manifest(Path("run")).asked["asked"]["batch"] == 4  # that of the smaller share
    found = call("run", *QUICK, "--out", "new", "--workers", "4")
    assert (found.code, found.out) == (2, "")
    assert "2 workers on GPU 0 (a card) need 16.0 GiB for their weights; 15.0 are free" in found.err
    assert "hold 1 at most. Use fewer --workers" in found.err
    assert not Path("new/manifest.json").exists()
    assert len(together) == 1
    assert "0 cases asked" in call("run", *QUICK, "--out", "run", "--workers", "4").out  # its batch is known


@pytest.mark.parametrize(("words", "places"), [((), ["cuda:1"]), (("--quantize", "8bit"), ["cuda:1", "cuda:0"])])
def test_no_more_memory_is_demanded_of_the_other_cards_than_of_the_first(
    words: tuple[str, ...],
    places: list[str],
    call: Call,
    demo: Any,
    together: list[tuple[Any, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on_cards(monkeypatch, demo, 10, 70)
    told = ("--model", "google/medgemma-4b-it", "--workers", "2", *words)
    assert call("run", *QUICK, "--out", "run", *told).code == 0
    ((_, _, loads),) = together
    assert [load.keywords["device"] for load in loads] == places


def test_the_whole_command_says_who_did_the_run_on_which_devices(
    call: Call, answering: None, together: list[tuple[Any, ...]]
) -> None:
    words = ("--workers", "2", "--shard", "1/1", "--device", "cpu", "--min-memory", "3", "--max-memory", "20")
    assert call("run", *QUICK, "--out", "run", *words).code == 0
    (whole,) = Path("run/commands.txt").read_text().splitlines()
    for name, value in zip(words[::2], words[1::2], strict=True):
        assert f"{name} {value}" in whole.replace("3.0", "3").replace("20.0", "20")
    assert "--workers" not in json.loads(Path("run/manifest.json").read_text())["command"]
    Path("run/finished.json").unlink()
    assert "0 cases asked" in call(*shlex.split(whole)[1:]).out
    assert Path("run/commands.txt").read_text().splitlines() == [whole, whole]


def test_the_whole_command_of_a_cluster_names_it(
    call: Call, demo: Any, answering: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    monkeypatch.setattr(start, "on_ray", lambda cluster, plan: made.append(cluster) or start.local(demo, plan))
    words = ("--engine", "ray", "--address", "auto", "--gpus-per-worker", "0.5", "--cpus-per-worker", "2.0")
    assert call("run", *QUICK, "--out", "run", *words).code == 0
    (whole,) = Path("run/commands.txt").read_text().splitlines()
    assert " ".join(words[:4]) in whole
    assert "--cpus-per-worker 2.0 --gpus-per-worker 0.5" in whole
    assert "--batch 8" in whole
    assert call("run", *QUICK, "--out", "plain", "--engine", "ray").code == 0
    assert [(one.address, one.cpus, one.gpus) for one in made] == [("auto", 2.0, 0.5), (None, 1, 0)]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--gpus-per-worker", "1"), "--gpus-per-worker is for --engine ray"),
        (("--cpus-per-worker", "4"), "--cpus-per-worker is for --engine ray"),
        (("--address", "auto"), "--address is for --engine ray"),
        (("--device", "all"), "`--workers N` spreads it over all GPUs"),
        (("--device", "cuda:0,cuda:1"), "CUDA_VISIBLE_DEVICES=0,1 chooses among them"),
    ],
)
def test_what_nobody_would_look_at_is_refused_with_what_does_it(
    words: tuple[str, ...], told: str, call: Call, unloadable: None
) -> None:
    found = call("run", "--method", "relevance", *words)
    assert (found.code, found.out) == (2, "")
    assert told in " ".join(found.err.split())
