"""The work on one shard: pictures read ahead, each encoded once for all of its questions, rows out.

Knows pictures, questions and rows; does not know who asks for a shard or how many work on others. What goes wrong with
a case becomes its row; only what would go wrong with every case (a full disk) ends the work.
"""

from __future__ import annotations

import hashlib
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL.Image import Image

from medgemma_visualizer.checks.compare import read_once
from medgemma_visualizer.checks.curves import curve_metrics
from medgemma_visualizer.checks.prompts import Variation, variations
from medgemma_visualizer.checks.randomisation import signed_map
from medgemma_visualizer.data.photo import grayscale, picture
from medgemma_visualizer.data.sources import is_demo_film
from medgemma_visualizer.errors import InputError, UnavailableError, VisualizerError
from medgemma_visualizer.grid import coverage, ranked_cells
from medgemma_visualizer.heatmaps.explain import explain_or_say_why
from medgemma_visualizer.heatmaps.targets import Aim, resolve
from medgemma_visualizer.models.adapter import Model
from medgemma_visualizer.models.devices import cleanup_memory, trim_memory
from medgemma_visualizer.models.forward import image_tokens, prepared
from medgemma_visualizer.models.reading import Reading, read
from medgemma_visualizer.progress import listening
from medgemma_visualizer.records import Case, Heatmap
from medgemma_visualizer.runs import measure
from medgemma_visualizer.runs.judging import judged, kind_of
from medgemma_visualizer.runs.plan import RunPlan
from medgemma_visualizer.runs.results import AGREEMENT, CHANCE, FAITHFULNESS, VALUE, Row, score_columns
from medgemma_visualizer.runs.work import one_thread
from medgemma_visualizer.scores.agreement import agreement_scores
from medgemma_visualizer.scores.body import body_mask
from medgemma_visualizer.scores.localisation import localisation_scores
from medgemma_visualizer.scores.quality import quality_scores

T = TypeVar("T")
Group = Sequence[Case]  # cases of one picture

#: Pictures between two times that memory is given back; it takes a few milliseconds.
TRIM_EVERY = 32
OUT_OF_MEMORY = "the device's memory does not hold this case; use --batch 1, a larger device, or another method"


@dataclass(frozen=True)
class Answered:
    """One picture with all of its questions.

    Attributes:
        cases: Asked.
        rows: Theirs, in their order.
        seconds: Case -> what it took; the picture's own part is shared out evenly.
    """

    cases: tuple[Case, ...]
    rows: tuple[Row, ...]
    seconds: Mapping[str, float]

    @property
    def failed(self) -> int:
        """How many of the cases failed."""
        return len({row["case_id"] for row in self.rows if row["failed"]})


@dataclass(frozen=True)
class _Film:
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


def ask_all(
    model: Model, groups: Sequence[Group], plan: RunPlan, stop: Callable[[], bool] = lambda: False
) -> Iterator[Answered]:
    """Asks every case of some pictures; results come picture by picture, in order.

    While the model computes, a thread reads the next pictures. The same cases give the same rows to the last bit,
    whatever was asked before, except that a batch of other pictures may change last digits.

    Args:
        model: Asked, on one thread of this process.
        groups: Cases of one picture each.
        plan: What is asked.
        stop: Asked between pictures; where it says True the work ends after the picture in hand.
    """
    with one_thread(), ThreadPoolExecutor(1) as reader:
        films = _ahead(reader, lambda group: _film(model, group[0]), groups, 2 * plan.batch)
        for start in range(0, len(groups), plan.batch):
            if stop():
                reader.shutdown(cancel_futures=True)
                return
            with listening(lambda done, total, what: None):  # steps inside a case are nobody's progress
                answered = list(_batch(model, groups[start : start + plan.batch], films, plan))
            yield from answered
            if start // TRIM_EVERY < (start + plan.batch) // TRIM_EVERY:
                trim_memory()


def _ahead(
    pool: ThreadPoolExecutor, function: Callable[[T], Any], items: Sequence[T], number: int
) -> Iterator[Future[Any]]:
    """Futures in the order of the items, with some more of them under way."""
    under_way: deque[Future[Any]] = deque()
    for item in items:
        under_way.append(pool.submit(function, item))
        if len(under_way) > number:
            yield under_way.popleft()
    yield from under_way


def _film(model: Model, case: Case) -> _Film:
    image = picture(case)
    return _Film(
        image=image,
        pixel_values=prepared(model.processor, [image]),
        body=coverage(body_mask(grayscale(image)), *model.grid),
        digest=film_digest(image),
        foreign=model.is_demo and not is_demo_film(image),
    )


def film_digest(image: Image) -> str:
    """First sixteen hex digits of the SHA-256 of a picture's pixels, as in `analyze`."""
    return hashlib.sha256(np.asarray(image).tobytes()).hexdigest()[:16]


def _batch(model: Model, groups: Sequence[Group], films: Iterator[Future[Any]], plan: RunPlan) -> Iterator[Answered]:
    """Encodes the pictures of a batch together, then asks about each."""
    start = time.perf_counter()
    read_films = [_film_or_reason(group, next(films)) for group in groups]
    read_films = [_on_device(film, model) for film in read_films]
    there = [film for film in read_films if isinstance(film, _Film)]
    tokens = iter(encode(lambda some: image_tokens(model, some), [film.pixel_values for film in there]))
    shared = (time.perf_counter() - start) / len(groups)
    for group, film in zip(groups, read_films, strict=True):
        if isinstance(film, str):
            yield Answered(tuple(group), tuple(_failure(case, film) for case in group), dict.fromkeys(_ids(group), 0.0))
            continue
        encoded = next(tokens)
        if isinstance(encoded, str):
            rows = tuple(_failure(case, encoded) for case in group)
            yield Answered(tuple(group), rows, dict.fromkeys(_ids(group), 0.0))
        else:
            yield _group(_Asking(model, film, encoded, plan), group, shared)


def _on_device(film: _Film | str, model: Model) -> _Film | str:
    if isinstance(film, str):
        return film
    return replace(film, pixel_values=film.pixel_values.to(model.device, model.dtype))


def _ids(group: Group) -> list[str]:
    return [case.id for case in group]


def _film_or_reason(group: Group, film: Future[Any]) -> _Film | str:
    try:
        found: _Film = film.result()
        return found
    except Exception as error:
        return reason_of(error, group[0])


def encode(encoder: Callable[[Any], Any], inputs: Sequence[Any]) -> list[Any]:
    """Encodes pictures (1, 3, height, width) in as few passes as memory allows: a tensor (1, N, D) each, or a reason.

    Where the memory does not hold a batch, its halves are tried, down to single pictures.
    """
    import torch

    if not inputs:
        return []
    try:
        with torch.no_grad():
            return list(encoder(torch.cat(list(inputs))).split(1))
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    cleanup_memory()  # after the except block, which holds on to the failed pass
    if len(inputs) == 1:
        return [OUT_OF_MEMORY]
    half = (len(inputs) + 1) // 2
    return [*encode(encoder, inputs[:half]), *encode(encoder, inputs[half:])]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is how a device, or this machine, says that its memory is full."""
    import torch

    full = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return full or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))


def reason_of(error: Exception, case: Case) -> str:
    """Why a case failed, worded alike for alike cases, without a path or anything that a file says."""
    if is_out_of_memory(error):
        return OUT_OF_MEMORY
    if isinstance(error, VisualizerError):
        return measure.without_paths(str(error), case)
    package = Path(__file__).parent.parent
    ours = [f for f in traceback.extract_tb(error.__traceback__) if package in Path(f.filename).parents]
    where = f" in {Path(ours[-1].filename).relative_to(package).as_posix()}, line {ours[-1].lineno}" if ours else ""
    return f"unexpected {type(error).__name__}{where}; `analyze --debug` of this case tells more"


@dataclass(frozen=True)
class _Asking:
    """A picture that the vision tower has read."""

    model: Model
    film: _Film
    tokens: Any
    plan: RunPlan

    def reading(self, case: Case) -> Reading:
        """The picture with a case's question, nothing asked yet."""
        plan = self.plan
        made = read(
            self.model,
            self.film.image,
            case.question,
            options=case.options,
            image_first=plan.image_first,
            max_new_tokens=plan.max_new_tokens,
        )
        vars(made).update(pixel_values=self.film.pixel_values, image_tokens=self.tokens)  # cached properties
        return made


def _group(asking: _Asking, group: Group, shared: float) -> Answered:
    """All questions of one picture, which the decoder reads once, too."""
    rows: list[Row] = []
    seconds: dict[str, float] = {}
    first: Reading | str = _first_reading(asking, group)
    if isinstance(first, str):
        return Answered(tuple(group), tuple(_failure(case, first) for case in group), dict.fromkeys(_ids(group), 0.0))
    try:
        with read_once(first, *asking.plan.methods) as ask:
            for case in group:
                start = time.perf_counter()
                rows += _rows_or_reason(asking, ask, case)
                seconds[case.id] = round(time.perf_counter() - start + shared / len(group), 4)
    except Exception as error:  # the picture itself could not be read by the decoder
        done = {row["case_id"] for row in rows}
        rows += [_failure(case, reason_of(error, case)) for case in group if case.id not in done]
    return Answered(tuple(group), tuple(rows), dict.fromkeys(_ids(group), 0.0) | seconds)


def _first_reading(asking: _Asking, group: Group) -> Reading | str:
    """The picture with the first question that can be asked of it; a question that is too long fails by itself."""
    reason = ""
    for case in group:
        try:
            return asking.reading(case)
        except Exception as error:
            reason = reason_of(error, case)
    return reason


def _rows_or_reason(asking: _Asking, ask: Callable[..., Reading], case: Case) -> list[Row]:
    try:
        return _rows(asking, ask, case)
    except Exception as error:
        reason = reason_of(error, case)
    if reason == OUT_OF_MEMORY:
        cleanup_memory()
    return [_failure(case, reason)]


def _failure(case: Case, reason: str) -> Row:
    """The row of a case that could not be asked."""
    return _known(case) | {"failed": True, "reason": reason, "wording": 0, "method": "", "available": False}


def _known(case: Case) -> Row:
    """What is known of a case before it is asked."""
    return {
        "case_id": case.id,
        "patient_id": case.patient_id or case.id,
        "finding": case.finding or "",
        "view": case.view or "",
        "split": case.split or "",
        "kind": kind_of(case),
        "question": case.question,
        "truth": case.truth or "",
        "source": case.source,
        "simulated": case.simulated,
        "rendering": case.rendering or "",
        "notice": case.notice,
    }


def _rows(asking: _Asking, ask: Callable[..., Reading], case: Case) -> list[Row]:
    """The question under every method, then its other wordings."""
    plan = asking.plan
    reading = ask(case.question, case.options)
    aim = resolve(reading, plan.target)
    known = _known(case) | {"image_sha256": asking.film.digest, "foreign": asking.film.foreign, "failed": False}
    heatmaps = {name: explain_or_say_why(reading, aim, name, {}) for name in plan.methods}
    checked = _checked(reading, aim, heatmaps, case, plan)
    said = known | _answer_columns(reading, case) | {"wording": 0, "reason": ""}
    own = [
        said | _map_columns(heatmap) | _scores(heatmap, case, asking.film.body) | checked.get(name, {})
        for name, heatmap in heatmaps.items()
    ]
    return [*own, *_wordings(ask, case, known, heatmaps[plan.methods[0]], plan)]


def _answer_columns(reading: Reading, case: Case) -> Row:
    said = reading.answer
    return {
        "answer": said.text,
        "label": said.label,
        "correct": judged(said.label, case),
        "p_yes": said.p_yes,
        "p_yes_no_mass": said.p_yes_no_mass,
        "contrast": said.contrast,
        "tokens": len(said.tokens),
        "stopped": said.stopped,
    }


def _map_columns(heatmap: Heatmap) -> Row:
    told = {
        "method": heatmap.requested,
        "available": heatmap.available,
        "why": "; ".join(heatmap.fallbacks.values()),
        "text_independent": heatmap.text_independent,
        "target": heatmap.target.kind,
    }
    if heatmap.grid is None:
        return told
    rows, cols = heatmap.grid.shape
    return told | {"rows": rows, "cols": cols, "map": heatmap.grid.astype(np.float32).ravel().tolist()}


def _scores(heatmap: Heatmap, case: Case, body: np.ndarray) -> Row:
    if not heatmap.available:
        return {}
    scores = quality_scores(heatmap.map, body, case.view)
    if case.region is not None:
        scores |= localisation_scores(heatmap.map, case.region)
    return score_columns(scores)


def _checked(reading: Reading, aim: Aim, heatmaps: Mapping[str, Heatmap], case: Case, plan: RunPlan) -> dict[str, Row]:
    """Method -> columns of the faithfulness check; the chance level is that of a random order of the same cells."""
    there = {name: heatmap for name, heatmap in heatmaps.items() if heatmap.available}
    if "faithfulness" not in plan.checks or not there:
        return {}
    seed = measure.seed_of(case, plan.seed)
    orders = {name: ranked_cells(signed_map(heatmap), seed) for name, heatmap in there.items()}
    n = int(np.prod(reading.model.grid))
    random = np.random.default_rng((seed, 1)).permutation(n)
    asked = measure.Plan(plan.methods, plan.imputers, plan.space, plan.steps, plan.seed)  # type: ignore[arg-type]
    try:
        found = measure.erased(reading, aim, {**orders, "": random}, asked)
    except UnavailableError as error:
        return {name: {"why": f"no faithfulness: {error}"} for name in there}
    return {name: _faithful(found[name], found[""], n) for name in there}


def _faithful(own: measure.Responses, random: measure.Responses, n: int) -> Row:
    columns: Row = {}
    for imputer, response in own.items():
        for kind, curve in ((VALUE, response), (CHANCE, random[imputer])):
            numbers = curve_metrics(curve, curve.shares, n)
            columns |= {f"{kind}{name}:{imputer}": numbers[name] for name in FAITHFULNESS}
    return columns


def _wordings(ask: Callable[..., Reading], case: Case, known: Row, first: Heatmap, plan: RunPlan) -> list[Row]:
    """The same question in other words: what was said, and how far the map moved. No rows where none is known."""
    if not plan.prompts:
        return []
    try:
        found = variations(case.question, n=plan.prompts, seed=plan.seed)
    except InputError:  # no rule applies: the page counts questions without wordings
        return []
    return [_wording(ask, case, known, first, plan, k, one) for k, one in enumerate(found, start=1)]


def _wording(
    ask: Callable[..., Reading], case: Case, known: Row, first: Heatmap, plan: RunPlan, number: int, one: Variation
) -> Row:
    reading = ask(one.text, case.options)
    heatmap = explain_or_say_why(reading, resolve(reading, plan.target), plan.methods[0], {})
    told = known | _answer_columns(reading, replace(case, question=one.text)) | _map_columns(heatmap)
    told |= {"wording": number, "strategy": one.strategy, "asked": one.text, "reason": ""}
    for name in ("map", "rows", "cols"):  # of other wordings only the distance is kept
        told.pop(name, None)
    if not (first.available and heatmap.available):
        return told
    scores = agreement_scores(first.map, heatmap.map, measure.seed_of(case, plan.seed))
    return told | score_columns({name: scores[name] for name in AGREEMENT})
