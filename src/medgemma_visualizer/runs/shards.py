"""The work on one shard: pictures read ahead, each encoded once for all of its questions, rows out.

Knows questions and rows; does not know who asks for a shard or how many work on others. What goes wrong with a case
becomes its row; only what would go wrong with every case (a full disk) ends the work.
"""

from __future__ import annotations

import functools
import logging
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from medgemma_visualizer.checks.compare import read_once
from medgemma_visualizer.checks.curves import curve_metrics
from medgemma_visualizer.checks.prompts import Variation, variations
from medgemma_visualizer.checks.randomisation import signed_map
from medgemma_visualizer.errors import InputError, UnavailableError, VisualizerError
from medgemma_visualizer.grid import ranked_cells
from medgemma_visualizer.heatmaps.explain import explain_or_say_why
from medgemma_visualizer.heatmaps.targets import Aim, resolve
from medgemma_visualizer.heatmaps.together import answer_together
from medgemma_visualizer.models.adapter import Model
from medgemma_visualizer.models.batches import go_together
from medgemma_visualizer.models.devices import cleanup_memory, is_out_of_memory, trim_memory
from medgemma_visualizer.models.reading import Reading, read
from medgemma_visualizer.progress import listening
from medgemma_visualizer.records import Case, Heatmap
from medgemma_visualizer.runs import measure
from medgemma_visualizer.runs.films import (
    OUT_OF_MEMORY,
    Encoded,
    Film,
    ahead,
    encoded,
    film_of,
    in_halves,
    readers,
)
from medgemma_visualizer.runs.judging import judged, kind_of
from medgemma_visualizer.runs.plan import RunPlan
from medgemma_visualizer.runs.results import AGREEMENT, CHANCE, FAITHFULNESS, VALUE, Row, score_columns
from medgemma_visualizer.runs.work import one_thread
from medgemma_visualizer.scores.agreement import agreement_scores
from medgemma_visualizer.scores.localisation import localisation_scores
from medgemma_visualizer.scores.quality import quality_scores

logger = logging.getLogger(__name__)

Group = Sequence[Case]  # cases of one picture

#: Pictures between two times that memory is given back; it takes a few milliseconds.
TRIM_EVERY = 32


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


def ask_all(
    model: Model,
    groups: Sequence[Group],
    plan: RunPlan,
    stop: Callable[[], bool] = lambda: False,
    sharers: int = 1,
) -> Iterator[Answered]:
    """Asks every case of some pictures; results come picture by picture, in order.

    While the model computes, threads read the next pictures; a GPU encodes the next batch while the maps of the one
    before are made. The same cases give the same rows to the last bit, whatever was asked before, except that a batch
    of other pictures may change last digits.

    Args:
        model: Asked, on one thread of this process.
        groups: Cases of one picture each.
        plan: What is asked.
        stop: Asked between batches; where it says True the work ends after the batch in hand.
        sharers: Processes that read pictures on this machine's cores, this one included.
    """
    with one_thread(), ThreadPoolExecutor(readers(model, sharers)) as pool:
        films = ahead(pool, lambda group: film_of(model, group[0]), groups, 2 * plan.batch)
        batches = [groups[start : start + plan.batch] for start in range(0, len(groups), plan.batch)]
        seen = _seen_ahead(model, batches, films)
        for number in range(1, len(batches) + 1):
            if stop():
                pool.shutdown(cancel_futures=True)
                return
            with listening(lambda done, total, what: None):  # steps inside a case are nobody's progress
                answered = list(_answers(next(seen), plan))
            yield from answered
            if (number - 1) * plan.batch // TRIM_EVERY < number * plan.batch // TRIM_EVERY:
                trim_memory()


@dataclass(frozen=True)
class _Seen:
    """Pictures of a batch that the vision tower has read, or is reading.

    Attributes:
        groups: Cases of each.
        films: Each as it was read, or why it was not.
        encoded: Of those that were.
        seconds: What a picture took until here.
    """

    model: Model
    groups: tuple[Group, ...]
    films: tuple[Film | str, ...]
    encoded: Encoded
    seconds: float

    def each(self, plan: RunPlan) -> Iterator[tuple[Group, _Asking | str]]:
        """Each picture's cases, and the picture, ready to be asked about; or the reason why it is not."""
        there = iter(zip(self.encoded.films, self.encoded.tokens, strict=True))
        for group, read_film in zip(self.groups, self.films, strict=True):
            if isinstance(read_film, str):
                yield group, read_film
                continue
            film, tokens = next(there)
            yield group, tokens if isinstance(tokens, str) else _Asking(self.model, film, tokens, plan)


def _seen_ahead(model: Model, batches: Sequence[Sequence[Group]], films: Iterator[Future[Any]]) -> Iterator[_Seen]:
    """Batches as they are seen; on a GPU the next one is on its way, on a stream of its own, when one is given out."""
    if model.device.type != "cuda":
        yield from (_see(model, batch, films, None) for batch in batches)
        return
    import torch

    stream, before = torch.cuda.Stream(model.device), None
    for batch in batches:
        seen = _see(model, batch, films, stream)
        if before is not None:
            yield before
        before = seen
    if before is not None:
        yield before


def _see(model: Model, groups: Sequence[Group], films: Iterator[Future[Any]], stream: Any) -> _Seen:
    start = time.perf_counter()
    read_films = tuple(_film_or_reason(group, next(films)) for group in groups)
    there = encoded(model, [film for film in read_films if isinstance(film, Film)], stream)
    return _Seen(model, tuple(groups), read_films, there, (time.perf_counter() - start) / len(groups))


def _film_or_reason(group: Group, film: Future[Any]) -> Film | str:
    try:
        found: Film = film.result()
        return found
    except Exception as error:
        return reason_of(error, group[0])


def _answers(seen: _Seen, plan: RunPlan) -> Iterator[Answered]:
    """Asks about each picture of a batch."""
    seen.encoded.wait()
    start = time.perf_counter()
    asked = list(seen.each(plan))
    known = _together([(group, one) for group, one in asked if isinstance(one, _Asking)], plan)
    shared = seen.seconds + (time.perf_counter() - start) / len(asked)
    for group, one in asked:
        yield _all_failed(group, one) if isinstance(one, str) else _group(one, group, shared, known)


def _all_failed(group: Group, reason: str) -> Answered:
    return Answered(
        tuple(group), tuple(_failure(case, reason) for case in group), dict.fromkeys((case.id for case in group), 0.0)
    )


def _together(asked: Sequence[tuple[Group, _Asking]], plan: RunPlan) -> _Known:
    """What one pass says to many questions, where the fast decoder runs.

    Questions of like length go together. What cannot, or fails, is left to be asked alone, where its reason is told.
    """
    known: dict[tuple[str, str], _Said] = {}
    if plan.batch == 1 or "relevance" in plan.methods:  # which asks in passes of its own kind
        return known
    wanted = [one for group, asking in asked for case in group for one in _wanted(asking, case)]
    wanted.sort(key=lambda one: len(one.reading.prompt.ids))
    for start in range(0, len(wanted), plan.batch):
        part = wanted[start : start + plan.batch]
        try:
            for one, said in _said_together(part, plan):
                known[one.key] = said
        except Exception as error:  # met again, and told, by the questions that are now asked alone
            logger.warning("%d questions are asked one by one, since together: %s", len(part), type(error).__name__)
    return known


@dataclass(frozen=True)
class _Wanted:
    """A question that is to be asked together with others: whose, in which words, and under which methods."""

    key: tuple[str, str]
    methods: Sequence[str]
    reading: Reading


def _wanted(asking: _Asking, case: Case) -> Iterator[_Wanted]:
    """A case's question and its other wordings; none of those that cannot be asked."""
    plan = asking.plan
    words = [(case.question, plan.methods), *((one.text, plan.methods[:1]) for one in _variations(case, plan))]
    for text, methods in words:
        reading = asking.askable(case, text)
        if reading is not None:
            yield _Wanted((case.id, text), methods, reading)


def _said_together(part: Sequence[_Wanted], plan: RunPlan) -> Iterator[tuple[_Wanted, _Said]]:
    readings = [one.reading for one in part]
    if not go_together(readings):
        return
    joints = in_halves(readings[0].model, lambda some: answer_together(some, plan.target, plan.methods), readings)
    for one, joint in zip(part, joints, strict=True):
        if joint is not None and joint.aim is not None:
            with joint.lent():
                said = _explained(one.reading, joint.aim, one.methods)
            yield one, said


def _group(asking: _Asking, group: Group, shared: float, known: _Known) -> Answered:
    """All questions of one picture, which the decoder reads once, too."""
    rows: list[Row] = []
    seconds: dict[str, float] = {}
    with ExitStack() as stack:
        ask = _asker(asking, group, known, stack)
        for case in group:
            start = time.perf_counter()
            rows += _rows_or_reason(asking, ask, case)
            seconds[case.id] = round(time.perf_counter() - start + shared / len(group), 4)
    return Answered(tuple(group), tuple(rows), seconds)


def _asker(asking: _Asking, group: Group, known: _Known, stack: ExitStack) -> _Ask:
    """Asks a question in some words under some methods, unless it was asked together with others."""

    @functools.cache
    def alone() -> Callable[..., Reading]:
        return stack.enter_context(read_once(_first_reading(asking, group), *asking.plan.methods))

    def ask(case: Case, words: str, methods: Sequence[str]) -> _Said:
        said = known.get((case.id, words))
        if said is not None:
            return said
        reading = alone()(words, case.options)
        return _explained(reading, resolve(reading, asking.plan.target), methods)

    return ask


def _first_reading(asking: _Asking, group: Group) -> Reading:
    """The picture with the first question that can be asked of it; a question that is too long fails by itself.

    None of them can: what goes wrong with the last one is raised.
    """
    *others, last = group
    askable = (asking.askable(case, case.question) for case in others)
    return next(filter(None, askable), None) or asking.reading(last, last.question)


def _rows_or_reason(asking: _Asking, ask: _Ask, case: Case) -> list[Row]:
    try:
        return _rows(asking, ask, case)
    except Exception as error:
        reason = reason_of(error, case)
    if reason == OUT_OF_MEMORY:
        cleanup_memory()
    return [_failure(case, reason)]


@dataclass(frozen=True)
class _Asking:
    """A picture that the vision tower has read."""

    model: Model
    film: Film
    tokens: Any
    plan: RunPlan

    def reading(self, case: Case, words: str) -> Reading:
        """The picture with a question of a case in some words, nothing asked yet."""
        plan = self.plan
        made = read(
            self.model,
            self.film.image,
            words,
            options=case.options,
            image_first=plan.image_first,
            max_new_tokens=plan.max_new_tokens,
        )
        vars(made).update(pixel_values=self.film.pixel_values, image_tokens=self.tokens)  # cached properties
        return made

    def askable(self, case: Case, words: str) -> Reading | None:
        """The same; None where it cannot be asked. Whoever asks it all the same meets the reason, and tells it."""
        try:
            return self.reading(case, words)
        except Exception as error:
            logger.info("A question cannot be asked: %s", type(error).__name__)
            return None


@dataclass(frozen=True)
class _Said:
    """A question in some words, answered and explained.

    Attributes:
        reading: With its answer.
        aim: The target.
        heatmaps: Method -> map.
    """

    reading: Reading
    aim: Aim
    heatmaps: Mapping[str, Heatmap]


def _explained(reading: Reading, aim: Aim, methods: Sequence[str]) -> _Said:
    return _Said(reading, aim, {name: explain_or_say_why(reading, aim, name, {}) for name in methods})


#: (case, words) -> what was said to a question together with others.
_Known = Mapping[tuple[str, str], _Said]
#: Answers and explains a case's question in some words, under some methods.
_Ask = Callable[[Case, str, Sequence[str]], _Said]


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


def _rows(asking: _Asking, ask: _Ask, case: Case) -> list[Row]:
    """The question under every method, then its other wordings."""
    plan = asking.plan
    said = ask(case, case.question, plan.methods)
    known = _known(case) | {"image_sha256": asking.film.digest, "foreign": asking.film.foreign, "failed": False}
    checked = _checked(said, case, plan)
    answered = known | _answer_columns(said.reading, case) | {"wording": 0, "reason": ""}
    region = case.region
    own = [
        answered | _map_columns(heatmap) | _scores(heatmap, case, region, asking.film.body) | checked.get(name, {})
        for name, heatmap in said.heatmaps.items()
    ]
    return [*own, *_wordings(ask, case, known, said.heatmaps[plan.methods[0]], plan)]


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


def _scores(heatmap: Heatmap, case: Case, region: np.ndarray | None, body: np.ndarray) -> Row:
    if not heatmap.available:
        return {}
    scores = quality_scores(heatmap.map, body, case.view)
    if region is not None:
        scores |= localisation_scores(heatmap.map, region)
    return score_columns(scores)


def _checked(said: _Said, case: Case, plan: RunPlan) -> dict[str, Row]:
    """Method -> columns of the faithfulness check; the chance level is that of a random order of the same cells."""
    there = {name: heatmap for name, heatmap in said.heatmaps.items() if heatmap.available}
    if "faithfulness" not in plan.checks or not there:
        return {}
    seed = measure.seed_of(case, plan.seed)
    orders = {name: ranked_cells(signed_map(heatmap), seed) for name, heatmap in there.items()}
    n = int(np.prod(said.reading.model.grid))
    random = np.random.default_rng((seed, 1)).permutation(n)
    asked = measure.Plan(plan.methods, plan.imputers, plan.space, plan.steps, plan.seed)  # type: ignore[arg-type]
    try:
        found = measure.erased(said.reading, said.aim, {**orders, "": random}, asked)
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


def _variations(case: Case, plan: RunPlan) -> Sequence[Variation]:
    """Other wordings of a question; none where no rule applies, and the page counts such questions."""
    try:
        return variations(case.question, n=plan.prompts, seed=plan.seed) if plan.prompts else ()
    except InputError:
        return ()


def _wordings(ask: _Ask, case: Case, known: Row, first: Heatmap, plan: RunPlan) -> list[Row]:
    """The same question in other words: what was said, and how far the map moved."""
    return [_wording(ask, case, known, first, plan, k, one) for k, one in enumerate(_variations(case, plan), start=1)]


def _wording(ask: _Ask, case: Case, known: Row, first: Heatmap, plan: RunPlan, number: int, one: Variation) -> Row:
    method = plan.methods[0]
    said = ask(case, one.text, (method,))
    heatmap = said.heatmaps[method]
    told = known | _answer_columns(said.reading, replace(case, question=one.text)) | _map_columns(heatmap)
    told |= {"wording": number, "strategy": one.strategy, "asked": one.text, "reason": ""}
    for name in ("map", "rows", "cols"):  # of other wordings only the distance is kept
        told.pop(name, None)
    if not (first.available and heatmap.available):
        return told
    scores = agreement_scores(first.map, heatmap.map, measure.seed_of(case, plan.seed))
    return told | score_columns({name: scores[name] for name in AGREEMENT})
