"""What a run over a whole set is: what is asked of which cases, in which shards, and what would make other numbers.

Knows cases by their words and counts; reads no picture, asks no model, and writes nothing.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medgemma_visualizer.checks.imputers import IMPUTERS
from medgemma_visualizer.data.inputs import check_target
from medgemma_visualizer.data.sources import region_digest
from medgemma_visualizer.errors import InputError, unknown_name
from medgemma_visualizer.heatmaps import METHODS
from medgemma_visualizer.heatmaps.probing import BASELINES
from medgemma_visualizer.models.adapter import Model
from medgemma_visualizer.models.prompt import render
from medgemma_visualizer.records import Case
from medgemma_visualizer.settings import DEFAULT_IMPUTERS, MODEL_CONFIG

#: What may be asked of every map beside its scores, with what it is for people.
CHECKS: Mapping[str, str] = {
    "faithfulness": "cells are taken away in the map's order and the model is asked again, beside a random order",
}
FORMAT = 1
#: Cases that a shard holds where nobody chose: few enough to lose, many enough that a large set makes few files.
SMALLEST_SHARD, LARGEST_SHARD, SHARDS_WANTED = 8, 256, 200
#: Batches that a shard holds at least, as the first of a shard waits for its pictures.
BATCHES_A_SHARD = 4
#: Other wordings that one question may be asked in.
MOST_PROMPTS = 20
#: Parts of the package that a number depends on; screens, pages and commands may change without making other numbers.
_COUNTED = ("checks", "data", "heatmaps", "models", "runs", "scores", "grid.py", "records.py", "settings.py")


@dataclass(frozen=True)
class RunPlan:
    """What is asked of every case.

    Attributes:
        methods: Names of `METHODS`; wordings are explained by the first.
        checks: Names of `CHECKS`.
        prompts: In how many other wordings each question is asked, at most.
        target: As in `heatmaps.targets.resolve`.
        imputers: Under which cells are taken away.
        space: "pixels" or "tokens".
        steps: Of the areas of that.
        seed: Of ties, random orders and wordings.
        max_new_tokens: Bound on an answer's length.
        image_first: Whether the image precedes the question.
        batch: Pictures that go through the model together.
        rendering: How DICOM files become films, as in `data.dicom.read_dicom`; each case's own where None.
    """

    methods: tuple[str, ...]
    checks: tuple[str, ...] = ()
    prompts: int = 0
    target: str | None = None
    imputers: tuple[str, ...] = DEFAULT_IMPUTERS
    space: str = "pixels"
    steps: int = 8
    seed: int = 0
    max_new_tokens: int = MODEL_CONFIG["max_new_tokens"]
    image_first: bool = True
    batch: int = 1
    rendering: str | None = None


def checked_plan(plan: RunPlan) -> RunPlan:
    """The plan itself, once every name in it is known and every number in range, before any model is loaded.

    Raises:
        InputError: An unknown or repeated name, "auto", or a number out of range.
    """
    if "auto" in plan.methods:
        raise InputError("With 'auto' two cases could get maps of different methods. Name one; see `methods`.")
    for kind, given, known in (
        ("method", plan.methods, METHODS),
        ("check", plan.checks, CHECKS),
        ("imputer", plan.imputers, IMPUTERS),
        ("space", (plan.space,), BASELINES),
    ):
        for name in given:
            if name not in known:
                raise unknown_name(kind, name, known)
        if len(set(given)) < len(given):
            raise InputError(f"{', '.join(given)}: every {kind} is named once.")
    if not plan.methods or not plan.imputers:
        raise InputError("A run needs at least one method and one imputer; see `methods`.")
    if plan.target is not None:
        check_target(plan.target)
    if plan.rendering is not None:
        from medgemma_visualizer.data.dicom import rendering_of  # loads pydicom, which nobody else needs

        rendering_of(plan.rendering)
    _check_numbers(plan)
    return plan


def _check_numbers(plan: RunPlan) -> None:
    bounds = {"prompts": (0, MOST_PROMPTS), "steps": (2, 256), "seed": (0, 2**31), "batch": (1, 1024)}
    for name, (low, high) in bounds.items():
        if not low <= getattr(plan, name) <= high:
            raise InputError(f"{getattr(plan, name)} {name}: choose between {low} and {high}.")


@dataclass(frozen=True)
class Shard:
    """Cases that are done in one go and stand in one file.

    Attributes:
        index: From 0.
        groups: Cases of one picture each, so that it is read once for all of its questions.
    """

    index: int
    groups: tuple[tuple[Case, ...], ...]

    @property
    def cases(self) -> tuple[Case, ...]:
        """In the order of the groups, which is that of the rows."""
        return tuple(case for group in self.groups for case in group)

    @property
    def digest(self) -> str:
        """Sixteen hex digits of the identifiers, in order."""
        return digest_of(case.id for case in self.cases)


def shards_of(cases: Sequence[Case], size: int | None = None, batch: int = 1) -> tuple[Shard, ...]:
    """All cases in shards of about `size`: pictures in order of first appearance, never cut apart.

    Args:
        cases: In any order.
        size: Cases a shard; by their number where None.
        batch: Pictures that are asked together: a shard of its own choice holds four batches at least.

    Raises:
        InputError: No case, an identifier that stands twice, or a size below 1.
    """
    if not cases:
        raise InputError("There is no case to run; name a source that holds some.")
    if size is not None and size < 1:
        raise InputError(f"{size} cases in a shard: use 1 or more.")
    _refuse_repeated(cases)
    by_picture: dict[Any, list[Case]] = {}
    for case in cases:
        key = str(case.image) if isinstance(case.image, str | Path) else id(case.image)
        by_picture.setdefault(key, []).append(case)
    least = SMALLEST_SHARD if batch == 1 else BATCHES_A_SHARD * batch
    wanted = size or min(max(len(cases) // SHARDS_WANTED, least), LARGEST_SHARD)
    return tuple(Shard(k, groups) for k, groups in enumerate(_packed(by_picture.values(), wanted)))


def _refuse_repeated(cases: Sequence[Case]) -> None:
    if len({case.id for case in cases}) < len(cases):
        seen: set[str] = set()
        twice = next(case.id for case in cases if case.id in seen or seen.add(case.id))  # type: ignore[func-returns-value]
        raise InputError(f"The case {twice!r} stands twice; rows are told apart by it. Give every case its own id.")


def _packed(groups: Iterable[list[Case]], size: int) -> list[tuple[tuple[Case, ...], ...]]:
    packed: list[tuple[tuple[Case, ...], ...]] = []
    open_groups: list[tuple[Case, ...]] = []
    count = 0
    for group in groups:
        open_groups.append(tuple(group))
        count += len(group)
        if count >= size:
            packed.append(tuple(open_groups))
            open_groups, count = [], 0
    return [*packed, tuple(open_groups)] if open_groups else packed


def share_of(shards: Sequence[Shard], text: str | None) -> tuple[Shard, ...]:
    """The shards of one job of an array, "i/n" with i from 1; all where None.

    Raises:
        InputError: Not of that form.
    """
    if text is None:
        return tuple(shards)
    first, slash, last = text.partition("/")
    if not (slash and first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
        raise InputError(f"--shard {text!r} is not of the form i/n with i from 1 to n, such as 3/8.")
    return tuple(shard for shard in shards if shard.index % int(last) == int(first) - 1)


def digest_of(words: Iterable[str | bytes]) -> str:
    """Sixteen hex digits over words, or what files hold, in their order."""
    digest = hashlib.sha256()
    for word in words:
        digest.update((word.encode("utf-8", "surrogatepass") if isinstance(word, str) else word) + b"\0")
    return digest.hexdigest()[:16]


def cases_digest(cases: Sequence[Case]) -> str:
    """Sixteen hex digits over what is known of the cases in words and regions, wherever their pictures lie."""
    return digest_of("\x1f".join(_facts(case)) for case in cases)


def _facts(case: Case) -> tuple[str, ...]:
    image = Path(case.image).name if isinstance(case.image, str | Path) else ""
    told = (case.truth, case.finding, case.patient_id, case.view, case.split, case.rendering)
    regions = (f"{name}\x1e{region_digest(case.regions, name)}" for name in sorted(case.regions))
    return (case.id, image, case.question, *case.options, *(str(each) for each in told), *regions)


@functools.cache
def code_digest() -> str:
    """Sixteen hex digits over those of the package's sources that a number depends on."""
    package = Path(__file__).parent.parent
    files = [file for name in _COUNTED for file in (package / name).rglob("*.py")]  # nothing under a file
    files += [package / name for name in _COUNTED if name.endswith(".py")]
    return digest_of(f"{file.relative_to(package).as_posix()}\n{file.read_text('utf-8')}" for file in sorted(files))


def fingerprint_of(asked: Mapping[str, Any], cases: Sequence[Case], shards: Sequence[Shard]) -> dict[str, Any]:
    """All that would make other numbers, as plain JSON values; two runs with equal ones may be put together.

    Args:
        asked: As `asked_of` makes it, here or on another machine.
        cases: All of them.
        shards: All of them.
    """
    return {**asked, "cases": {"n": len(cases), "digest": cases_digest(cases), "shards": len(shards)}}


def asked_of(model: Model, plan: RunPlan) -> dict[str, Any]:
    """The part of a fingerprint that does not hang on the cases: model, prompt, plan, versions and code."""
    words = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(plan).items()}
    return {
        "format": FORMAT,
        "model": {
            "name": model.name,
            "revision": model.revision,
            "architecture": model.family.architecture,
            "dtype": str(model.dtype).removeprefix("torch."),
            "device": model.device.type,
            "fast": model.fast,
            "quantized": quantized(model),
        },
        "prompt": digest_of([render(model, "?", image_first=plan.image_first).text]),
        "asked": words,
        "versions": dict(model.versions),
        "code": code_digest(),
    }


def quantized(model: Model) -> dict[str, str]:
    """How the weights were made smaller, as the loaded model's configuration says; empty where they were not."""
    told = vars(model.hf.config).get("quantization_config")
    facts = {} if told is None else told if isinstance(told, Mapping) else told.to_dict()
    return {str(name): str(value) for name, value in sorted(facts.items())}


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """What differs between two fingerprints, a line each: name, what it was, what it is."""
    one, other = _flat(first), _flat(second)
    names = sorted({*one, *other})
    return [
        f"{name}: {one.get(name, 'nothing')} → {other.get(name, 'nothing')}"
        for name in names
        if one.get(name) != other.get(name)
    ]


def _flat(fingerprint: Mapping[str, Any], before: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in fingerprint.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{before}{name}.")
        else:
            found[before + name] = json.dumps(value, ensure_ascii=False)
    return found
