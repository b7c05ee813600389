"""All that travels between the rooms of this package: frozen values that carry their own provenance.

Knows shapes, names and how to save itself whole; knows nothing about models, files of data sets, or drawing.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np

from medgemma_visualizer.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

Direction = Literal["higher", "lower", "none"]


@dataclass(frozen=True)
class Case:
    """A radiograph and a question. Ground truth belongs to exactly this pair.

    Attributes:
        id: Unique for the pair (image, question), never the study's id alone.
        image: A PIL image, or the path of one, read when needed.
        question: As a person would type it.
        options: The answers to choose from; empty for an open question.
        truth: The correct answer, where known.
        finding: Which finding the question asks about, where known; a key of `regions` when the film shows it.
        regions: Finding or structure -> bool mask (height, width) of the image; may be read lazily.
        patient_id: Groups cases for intervals by patient.
        view: "PA", "AP", "LATERAL", … where known.
        source: Where the case comes from ("demo", "user", a folder's name).
        simulated: True for the embedded films, which no patient ever had.
        rendering: How a DICOM file is, or was, made into a film: a name of `data.dicom.RENDERINGS`, maybe with the
            number of a window, "dicom-voi:2"; None takes the default, and is all that other pictures have.
        notice: What must be known of the film to read anything said of it, such as text burnt into its pixels.
        split: The part of its data set that the film belongs to: "train", "validate", "test"; where known.
    """

    id: str
    image: Image | Path | str
    question: str
    options: tuple[str, ...] = ()
    truth: str | None = None
    finding: str | None = None
    regions: Mapping[str, np.ndarray] = field(default_factory=dict)
    patient_id: str | None = None
    view: str | None = None
    source: str = "user"
    simulated: bool = False
    rendering: str | None = None
    notice: str = ""
    split: str | None = None

    def asking(self, question: str) -> Case:
        """The same picture with another question: truth, options and finding belonged to the old one and are gone."""
        return replace(self, id=f"{self.id}-own", question=question, truth=None, options=(), finding=None)

    def showing(self, image: Image | Path | str) -> Case:
        """The same question of another picture: nothing that was known of the old one is kept."""
        return Case(id=f"{self.id}-own", image=image, question=self.question, options=self.options)

    @property
    def region(self) -> np.ndarray | None:
        """Bool mask (height, width) of the finding asked about; None where the film does not show it."""
        return self.regions[self.finding] if self.finding is not None and self.finding in self.regions else None


@dataclass(frozen=True)
class Token:
    """One token of the rendered prompt or of the answer.

    Attributes:
        text: The characters that the token stands for.
        id: Its number in the tokenizer's vocabulary.
        position: Its place in the sequence; it was predicted by the row before.
        logprob: Natural logarithm of its probability at that row, in (-inf, 0]; None for prompt tokens.
    """

    text: str
    id: int
    position: int
    logprob: float | None = None


@dataclass(frozen=True)
class Answer:
    """What the model said, and how sure it was.

    Attributes:
        text: The generated text, without control tokens.
        label: "yes", "no", "uncertain", or the option that the text names.
        p_yes: P(yes) / (P(yes) + P(no)) over all spellings at the first answer position, in [0, 1]; chance 0.5.
        p_yes_no_mass: P(yes) + P(no) in [0, 1]; under 0.5 the question was not answered with yes or no.
        contrast: log-odds of yes against no over the same spellings, in nats; 0 is undecided.
        tokens: The generated tokens, the stop token left out.
        stopped: False where the text was cut off by the limit on new tokens.
        prompt: The rendered prompt as the model read it, image block shortened for reading.
        notice: What a reader must know before believing the answer; empty where nothing stands against it.
    """

    text: str
    label: str
    p_yes: float | None
    p_yes_no_mass: float | None
    contrast: float | None
    tokens: tuple[Token, ...]
    stopped: bool
    prompt: str
    notice: str = ""


@dataclass(frozen=True)
class Target:
    """What a heatmap explains.

    Attributes:
        kind: "contrast", "p_yes", "answer", "token", "phrase", "prompt_word" or "callable".
        text: The words explained, as a person would read them.
        rows: Sequence positions whose logits are read: p − 1 for a token at p.
    """

    kind: str
    text: str
    rows: tuple[int, ...]


@dataclass(frozen=True)
class Heatmap:
    """Where the model looked, or the reasons why no method could tell.

    Attributes:
        grid: float32 (rows, cols), ≥ 0, the model's own grid of image tokens; None where unavailable.
        signed: float32 (rows, cols) with both signs, for methods that have one.
        method: The method that made the map; "uniform" marks "no explanation available".
        requested: The method that was asked for ("auto" included).
        fallbacks: Method -> reason, for every method that failed before.
        target: What is explained.
        layers: Layers used, where the method has them.
        heads: Heads used, where the method has them.
        text_independent: True where the map would be the same for any question.
        model: The model's name.
        versions: Library versions, the exact transformers release among them.
        seconds: Time spent on this map.
        extras: Numbers that the method reports beside the map (completeness gap, forward passes, …).
    """

    grid: np.ndarray | None
    method: str
    requested: str
    target: Target
    signed: np.ndarray | None = None
    fallbacks: Mapping[str, str] = field(default_factory=dict)
    layers: tuple[int, ...] | None = None
    heads: tuple[int, ...] | None = None
    text_independent: bool = False
    model: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    extras: Mapping[str, Any] = field(default_factory=dict)

    @property
    def available(self) -> bool:
        """False where no method could explain; `fallbacks` then holds the reasons."""
        return self.grid is not None

    @property
    def map(self) -> np.ndarray:
        """The grid, float32 (rows, cols).

        Raises:
            InputError: No explanation is available; the message holds every reason.
        """
        if self.grid is None:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in self.fallbacks.items())
            raise InputError(f"No explanation is available for {self.target.text!r}: {reasons}")
        return self.grid

    def about(self) -> dict[str, Any]:
        """Everything except the arrays, ready for JSON."""
        record = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("grid", "signed", "target")}
        shape = {} if self.grid is None else {"rows": self.grid.shape[0], "cols": self.grid.shape[1]}
        return {"available": self.available, **record, "target": asdict(self.target), **shape}

    def save(self, path: Path | str) -> Path:
        """Writes arrays and record into one .npz, by renaming a finished file: whole or not at all."""
        return write_whole(Path(path), self.write)

    def write(self, file: IO[bytes]) -> None:
        """Writes arrays and record as .npz into an open file."""
        arrays: dict[str, Any] = {"about": np.array(json.dumps(self.about(), default=list))}
        arrays |= {name: value for name, value in (("grid", self.grid), ("signed", self.signed)) if value is not None}
        np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path: Path | str) -> Heatmap:
        """Reads what `save` wrote; never unpickles."""
        with np.load(path, allow_pickle=False) as stored:
            about = json.loads(str(stored["about"]))
            grid, signed = (stored[name] if name in stored.files else None for name in ("grid", "signed"))
        for derived in ("available", "rows", "cols"):
            about.pop(derived, None)
        stored_target = about.pop("target")
        target = Target(stored_target["kind"], stored_target["text"], tuple(stored_target["rows"]))
        for name in ("layers", "heads"):
            about[name] = None if about[name] is None else tuple(about[name])
        return cls(grid=grid, signed=signed, target=target, **about)


@dataclass(frozen=True)
class Score:
    """One number about a map or an answer, with what it takes to read it.

    Attributes:
        name: As in docs/metrics.md.
        value: The number; None where it does not apply, and `reason` says why.
        direction: Which way is better; "none" where neither is.
        chance: The value of a map that knows nothing; None where there is none.
        verdict: "no better than chance", or "good", "acceptable" or "poor" by the specification's thresholds; "" where
            there is nothing to say.
        threshold: The bound for "good".
        n: How many cases the number summarises.
        interval: The 95 % interval, where n allows one.
        reason: Why the score does not apply, or what must be known to read it.
    """

    name: str
    value: float | str | None
    direction: Direction = "none"
    chance: float | None = None
    verdict: str = ""
    threshold: float | None = None
    n: int = 1
    interval: tuple[float, float] | None = None
    reason: str = ""


class Scores(dict[str, Score]):
    """Scores by name, in the order computed; printed as a table with chance levels."""

    def __str__(self) -> str:
        lines = [f"{'score':<24}{'value':>26}{'chance':>9}  better  verdict"]
        for name, score in self.items():
            if isinstance(score.value, float):
                value = f"{score.value:.3f}"
            else:
                value = score.value if score.value is not None else "not applicable"
            chance = "" if score.chance is None else f"{score.chance:.3f}"
            better = "" if score.direction == "none" else score.direction
            lines.append(f"{name:<24}{value:>26}{chance:>9}  {better:<6}  {score.verdict or score.reason}".rstrip())
        return "\n".join(lines)


def write_whole(path: Path, write: Any) -> Path:
    """Calls `write(file)` on a temporary neighbour and renames it: readers see the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with partial.open("xb") as file:  # tempfile would make it unreadable for others whatever the umask says
            write(file)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return path
