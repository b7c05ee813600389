"""`run`: answers, maps, scores and checks of a whole set, which goes on where it was ended."""

from __future__ import annotations

import functools
import logging
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from medgemma_visualizer.cli import options as o
from medgemma_visualizer.settings import DEFAULT_IMPUTERS, MODEL_CONFIG

if TYPE_CHECKING:
    import torch

    from medgemma_visualizer.models.adapter import Model
    from medgemma_visualizer.runs.local import Outcome
    from medgemma_visualizer.runs.plan import RunPlan
    from medgemma_visualizer.runs.start import Engine

logger = logging.getLogger(__name__)

#: Pictures that a cluster's workers ask together where nobody chose. On a CPU nothing is won by more.
_BATCH = {"cpu": 1, "gpu": 8}


def run(
    cases: Annotated[str, typer.Argument(help="'demo', a folder of cases, a question file, or a data set's root.")] = (
        "demo"
    ),
    out: Annotated[Path, typer.Option(help="Folder of the run; one that was begun is gone on with.")] = Path("run"),
    model: o.ModelName = "demo",
    method: o.MethodName = None,
    methods: Annotated[str | None, typer.Option(help="Several, names with commas; wordings get the first.")] = None,
    checks: Annotated[str, typer.Option(help="What else is asked of every map: 'faithfulness', or nothing.")] = "",
    prompts: Annotated[int, typer.Option(min=0, help="Other wordings in which each question is asked.")] = 0,
    target: o.Target = None,
    number: Annotated[int | None, typer.Option("--cases", min=1, help="How many, drawn by lot. None: all.")] = None,
    imputers: Annotated[str, typer.Option(help="For checks: what stands in for removed cells.")] = ",".join(
        DEFAULT_IMPUTERS
    ),
    space: o.Space = "pixels",
    steps: Annotated[int, typer.Option(min=2, help="For checks: steps of each curve.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Of everything drawn by lot.")] = 0,
    max_new_tokens: o.MaxNewTokens = MODEL_CONFIG["max_new_tokens"],
    text_first: o.TextFirst = False,
    rendering: o.Rendering = None,
    engine: Annotated[str, typer.Option(help="local: this machine. ray: a cluster.")] = "local",
    workers: Annotated[
        int,
        typer.Option(
            min=1,
            help="Processes, on all free GPUs in turn unless --device names one. With the same --batch their number"
            " changes no result beyond last digits.",
        ),
    ] = 1,
    shard: Annotated[str | None, typer.Option(help="Of a job array: i/n, such as 3/8. None: all.")] = None,
    shard_size: Annotated[int | None, typer.Option(min=1, help="Cases that one file holds. None: by the set.")] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            min=1, help="Pictures asked together. None: 1, on a GPU up to 16 as fit; with --gpus-per-worker always 8."
        ),
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="For ray: of a cluster, or 'auto'. None: one on this machine.")
    ] = None,
    cpus_per_worker: Annotated[float | None, typer.Option(min=0.01, help="For ray. None: 1.")] = None,
    gpus_per_worker: Annotated[
        float | None, typer.Option(min=0, help="For ray: 1 gives each model a GPU. None: 0.")
    ] = None,
    question: Annotated[str | None, typer.Option("--question", "-q", help="For films that come without one.")] = None,
    images: Annotated[Path | None, typer.Option(help="The folder of a question file's films.")] = None,
    regions: Annotated[Path | None, typer.Option(help="Regions for the films: boxes, ellipses, masks.")] = None,
    mlflow: o.Mlflow = None,
    device: o.Device = "auto",
    dtype: o.Dtype = "auto",
    min_memory: o.MinMemory = None,
    max_memory: Annotated[
        float | None,
        typer.Option(help="GiB of its GPU that each process may take, weights included; all of it where not given."),
    ] = None,
    quantize: o.Quantize = None,
    as_json: o.AsJson = False,
) -> None:
    """Ask every case of a set: answers, maps, scores, and what --checks and --prompts name.

    Writes Parquet parts, manifest.json and, once all is done, report.html. Ended in any way, the same command goes on;
    failed cases are asked again. See `status`, `merge` and `report`.
    """
    from medgemma_visualizer.cli import output

    folder = output.check_folder(out)
    load = {"device": device, "dtype": dtype, "min_free_gb": min_memory}
    load |= {"max_memory": max_memory, "quantize": quantize}
    cluster = {"--address": address, "--cpus-per-worker": cpus_per_worker, "--gpus-per-worker": gpus_per_worker}
    here: dict[str, Any] = {"--engine": engine if engine != "local" else None, **cluster, "--shard": shard}
    here |= {"--workers": workers if workers > 1 else None, "--device": device if device != "auto" else None}
    here |= {"--min-memory": min_memory, "--max-memory": max_memory}
    told: dict[str, Any] = {"--methods": ",".join(_names(method, methods)) or None, "--checks": checks or None}
    told |= {"--prompts": prompts or None, "--target": target, "--cases": number, "--imputers": imputers}
    told |= {"--space": space, "--steps": steps, "--seed": seed, "--max-new-tokens": max_new_tokens}
    told |= {"--text-first": text_first or None, "--rendering": rendering}
    told |= {"--shard-size": shard_size, "--batch": batch}
    told |= {"--question": question, "--images": images, "--regions": regions, "--quantize": quantize}
    with output.status(f"Loading {model}", quiet=as_json, bars=model != "demo"):
        from medgemma_visualizer.runs import start
        from medgemma_visualizer.runs.plan import RunPlan, share_of

        start.refuse_unknown_engine(engine)
        _refuse_misplaced(engine, device, cluster)
        share_of((), shard)
        batch = batch or _batch_before(folder)
        plan = RunPlan(
            methods=tuple(_names(method, methods)),
            checks=tuple(_split(checks)),
            prompts=prompts,
            target=target,
            imputers=tuple(_split(imputers)),
            space=space,
            steps=steps,
            seed=seed,
            max_new_tokens=max_new_tokens,
            image_first=not text_first,
            batch=batch or _BATCH["cpu"],
            rendering=rendering,
        )
        made = _on_ray if engine == "ray" else _local
        doer, plan = made(model, plan, batch, workers, load, cluster)
    stamp = _stamp(folder, cases, images, regions, question, number, seed, shard_size)
    done = _done_before(folder, stamp, doer)
    if done is None:
        with output.status("Opening the cases", quiet=as_json):
            found, about = _cases(cases, (question, images, regions), number, seed)
        about |= {"command": _command(cases, doer, told), "stamp": stamp}
        about |= {"whole_command": _whole_command(cases, model, folder, doer, told | here)}
        with output.progress("Running", quiet=as_json):
            done = start.run(doer, found, folder, plan, shard_size=shard_size, shard=shard, **about)
    _tell(done, folder, mlflow, as_json=as_json)


def _refuse_misplaced(engine: str, device: str, cluster: Mapping[str, Any]) -> None:
    """Refuses what nobody would look at.

    Raises:
        InputError: An option of a cluster without one, or several devices.
    """
    from medgemma_visualizer.errors import InputError

    for name, value in cluster.items():
        if engine != "ray" and value is not None:
            raise InputError(f"{name} is for --engine ray. Add that, or leave {name} out.")
    if device == "all" or "," in device:
        raise InputError(
            f"--device {device} is for the page; a run is told one device. `--workers N` spreads it over all GPUs that "
            "are free, or `--engine ray --gpus-per-worker 1`; CUDA_VISIBLE_DEVICES=0,1 chooses among them."
        )


def _batch_before(folder: Path) -> int | None:
    """Pictures that the run in a folder asks together, so that it goes on alike however much memory is free by now."""
    from medgemma_visualizer.runs.folder import MANIFEST, load_manifest

    return int(load_manifest(folder).asked["asked"]["batch"]) if (folder / MANIFEST).exists() else None


def _names(method: str | None, methods: str | None) -> list[str]:
    """Those of both options, each once."""
    return list(dict.fromkeys([*([method] if method else []), *_split(methods or "")]))


def _split(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _local(
    name: str, plan: RunPlan, batch: int | None, workers: int, load: Mapping[str, Any], cluster: Mapping[str, Any]
) -> tuple[Engine, RunPlan]:
    """This machine. Workers load a model each, for which this process gives up its own."""
    from dataclasses import replace

    from medgemma_visualizer import verbs
    from medgemma_visualizer.models.batches import batch_for
    from medgemma_visualizer.models.devices import cleanup_memory
    from medgemma_visualizer.runs import start
    from medgemma_visualizer.runs.plan import checked_plan

    if plan.methods:
        checked_plan(plan)
    loaded = verbs.load_model(name, **load)
    chosen = plan.methods or (verbs.recommended_method(loaded),)
    places = _places(name, loaded, load, workers) if workers > 1 else []
    if batch is None:
        cards = [place.index for place in places if place.type == "cuda"]
        crews = {card: len(range(n, workers, len(cards))) for n, card in enumerate(cards)}  # they take them in turn
        _refuse_full(loaded, crews)
        shares = [batch_for(loaded, crew, [card], load["max_memory"]) for card, crew in crews.items()]
        batch = min(shares) if shares else batch_for(loaded)
    plan = checked_plan(replace(plan, methods=chosen, batch=batch))
    given = dict(load) | {"dtype": str(loaded.dtype).removeprefix("torch.")}
    loads = [functools.partial(verbs.load_model, name, **(given | {"device": str(place)})) for place in places]
    engine = start.local(loaded, plan, workers, loads)
    if loads:
        del loaded
        cleanup_memory()
    return engine, plan


def _places(name: str, loaded: Model, load: Mapping[str, Any], workers: int) -> list[torch.device]:
    """Where workers go in turn: where this model is and, unless a device was named, the freest of the other GPUs.

    As much free memory is demanded of each as was of the first; one that has less is told where it is missed.
    """
    import torch

    from medgemma_visualizer.models.devices import gpus
    from medgemma_visualizer.models.loading import enough_free

    if load["device"] != "auto" or loaded.device.type != "cuda":
        return [loaded.device]
    wanted = enough_free(name, **{word: value for word, value in load.items() if word != "device"})
    others = sorted((gpu for gpu in gpus() if gpu.index != loaded.device.index), key=lambda gpu: -gpu.free_gb)
    for gpu in others[: workers - 1]:
        if gpu.free_gb < wanted:
            logger.warning(
                "GPU %d (%s) has %.1f GiB free, %.1f are asked for; no worker takes it. --min-memory N does.",
                gpu.index,
                gpu.name,
                gpu.free_gb,
                wanted,
            )
    free = [torch.device("cuda", gpu.index) for gpu in others if gpu.free_gb >= wanted]
    return [loaded.device, *free][:workers]


def _refuse_full(loaded: Model, crews: Mapping[int, int]) -> None:
    """Refuses more workers than a card has room for their weights, before a run is begun in batches of one for it.

    Args:
        loaded: What each loads; this process gives up its own before.
        crews: Number of a card -> how many load it there.

    Raises:
        InputError: A card is too full.
    """
    import torch

    from medgemma_visualizer.errors import InputError
    from medgemma_visualizer.models.devices import gpus

    weights = loaded.weight_bytes / 2**30
    for gpu in gpus() if crews else ():
        crew, room = crews.get(gpu.index, 0), gpu.free_gb + torch.cuda.memory_reserved(gpu.index) / 2**30
        if crew * weights > room:
            raise InputError(
                f"{crew} workers on GPU {gpu.index} ({gpu.name}) need {crew * weights:.1f} GiB for their weights; "
                f"{room:.1f} are free, which hold {int(room / weights)} at most. Use fewer --workers, or choose other "
                "cards with CUDA_VISIBLE_DEVICES."
            )


def _on_ray(
    name: str, plan: RunPlan, batch: int | None, workers: int, load: Mapping[str, Any], cluster: Mapping[str, Any]
) -> tuple[Engine, RunPlan]:
    """A cluster; the model is loaded by its workers only."""
    from dataclasses import replace

    from medgemma_visualizer import verbs
    from medgemma_visualizer.errors import InputError
    from medgemma_visualizer.runs import start
    from medgemma_visualizer.runs.cluster import Cluster
    from medgemma_visualizer.runs.plan import checked_plan

    if not plan.methods:
        raise InputError("On a cluster nobody knows which method is best for the model. Name one with --method.")
    cpus, gpus = cluster["--cpus-per-worker"] or 1, cluster["--gpus-per-worker"] or 0
    plan = checked_plan(replace(plan, batch=batch or _BATCH["gpu" if gpus else "cpu"]))
    bound = workers if workers > 1 else None
    if gpus and load["device"] == "auto":
        load = {**load, "device": "cuda"}  # a worker with a GPU that is taken must say so, not go on without it
    loads = functools.partial(verbs.load_model, name, **load)
    made = Cluster(loads, cluster["--address"], cpus, gpus, bound)
    return start.on_ray(made, plan), plan


def _cases(source: str, told: tuple[Any, Any, Any], number: int | None, seed: int) -> tuple[Any, dict[str, Any]]:
    """The cases, and what is known of their source."""
    from medgemma_visualizer import verbs
    from medgemma_visualizer.runs.build import sample

    found = verbs.load_cases(source, *told)
    left_out = {**found.reasons, **{f"region: {why}": count for why, count in found.regions_left_out.items()}}
    about = {"source": found.source, "left_out": left_out, "notes": found.notes}
    return (found.cases if number is None else sample(found, number, seed)), about


def _stamp(out: Path, cases: str, images: Path | None, regions: Path | None, *told: object) -> str:
    """Of all that the cases are made of, their films too; "" where that cannot be told quickly."""
    from medgemma_visualizer.data.sources import DEMO, demo_folder
    from medgemma_visualizer.runs.folder import stamp_of

    source = demo_folder() if cases == DEMO else Path(cases)
    films = images or (source.parent if source.is_file() else source)
    places = dict.fromkeys((source, films, *([] if regions is None else [regions])))
    stamps = [stamp_of(place, without=out) for place in places]
    return stamp_of(cases, *map(str, told), *stamps) if all(stamps) else ""


def _done_before(folder: Path, stamp: str, engine: Engine) -> Outcome | None:
    """The outcome of a run that is finished and is asked for again; its cases need not be opened."""
    from medgemma_visualizer.runs.folder import FINISHED, is_finished
    from medgemma_visualizer.runs.local import Outcome

    if not (folder / FINISHED).exists():
        return None
    state = is_finished(folder, stamp, engine.asked)
    return None if state is None else Outcome(state, 0, 0, False, 0.0)


def _command(cases: str, engine: Engine, told: Mapping[str, Any]) -> str:
    """What does the run again; files and folders by their last name only, as folders of runs travel."""
    words = {"--model": engine.asked["model"]["name"], **told}
    return _joined(Path(cases).resolve().name, engine, words, lambda place: place.resolve().name)


def _whole_command(cases: str, model: str, out: Path, engine: Engine, told: Mapping[str, Any]) -> str:
    """The same with every place in full, and who does it on which devices."""
    words = {"--model": _place(model), **told, "--out": out}
    return _joined(_place(cases), engine, words, lambda place: str(place.resolve()))


def _place(name: str) -> str:
    """The whole path, where a name is one."""
    return str(Path(name).resolve()) if name != "demo" and Path(name).exists() else name


def _joined(cases: str, engine: Engine, told: Mapping[str, Any], placed: Callable[[Path], str]) -> str:
    facts, asked = engine.asked["model"], engine.asked["asked"]
    known = {**told, "--dtype": facts["dtype"]}
    # "cuda" would put all workers on one GPU; where there is none, only numbers of a CPU can be meant
    known |= {"--device": told.get("--device") or (None if facts["device"] == "cuda" else facts["device"])}
    known |= {"--methods": ",".join(asked["methods"]), "--batch": asked["batch"]}
    words = [
        placed(word) if isinstance(word, Path) else str(word)
        for name, value in known.items()
        if value is not None
        for word in ((name,) if value is True else (name, value))
    ]
    return shlex.join(["medgemma-visualizer", "run", cases, *words])


def _tell(outcome: Outcome, folder: Path, mlflow: str | None, *, as_json: bool) -> None:
    """Writes the page where all is done, prints, and sets the exit code."""
    from medgemma_visualizer.cli import output
    from medgemma_visualizer.cli.status import as_document, lines
    from medgemma_visualizer.errors import VisualizerError
    from medgemma_visualizer.reports.tracking import log_run
    from medgemma_visualizer.runs.folder import beats_of

    state = outcome.state
    done = state.complete and not outcome.stopped
    page = [_page(folder, anew=outcome.asked > 0)] if done else []
    logged = log_run(folder, mlflow) if done and mlflow is not None else None
    if as_json:
        this_time = {"asked": outcome.asked, "failed": outcome.failed, "stopped": outcome.stopped}
        output.print_json(as_document(folder, state, beats_of(folder)) | {"this_time": this_time, "mlflow": logged})
    else:
        rate = f", {outcome.asked / outcome.seconds:.2f} a second" if outcome.asked and outcome.seconds else ""
        output.show(
            output.line("This time", f"{outcome.asked} cases asked, {outcome.failed} failed{rate}"),
            *lines(folder, state, ()),
            *(output.line("Written", str(path)) for path in (folder, *page)),
            *([] if logged is None else [output.line("MLflow", f"run {logged}")]),
            Text("Research use only, not for clinical use.", style="dim"),
        )
    if outcome.stopped:
        raise KeyboardInterrupt  # told and given its exit code where all commands end
    if state.complete and state.failed == state.asked:
        raise VisualizerError(f"All {state.failed} cases failed; `status {folder}` says why. Mend it and run again.")


def _page(folder: Path, *, anew: bool) -> Path:
    """The page of a run that is done; one that is there stands where nothing was asked since."""
    from medgemma_visualizer.reports.run import write_run_page

    path = folder / "report.html"
    return write_run_page(folder, path) if anew or not path.exists() else path
