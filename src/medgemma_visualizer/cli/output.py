"""What commands write and print. Results appear whole: files are finished elsewhere first, result.json comes last.

Nothing that a person or a model wrote reaches a terminal as anything but letters.
"""

from __future__ import annotations

import ast
import io
import json
import math
import os
import sys
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from medgemma_visualizer.errors import InputError, VisualizerError
from medgemma_visualizer.progress import listening
from medgemma_visualizer.records import Answer, Heatmap
from medgemma_visualizer.telling.analysis import chance_of, document, value_of
from medgemma_visualizer.telling.analysis import score_as_document as score_as_document

if TYPE_CHECKING:
    from PIL.Image import Image

    from medgemma_visualizer.verbs import Analysis

#: Files of `analyze`, `check` and `compare`; the last one appears last and marks a complete result.
RESULTS = (
    "heatmap.npz",
    "overlay.png",
    "scores.png",
    "methods.png",
    "tokens.html",
    "curves.png",
    "sanity.png",
    "comparison.png",
    "perturbations.png",
    "result.json",
)


@dataclass(frozen=True)
class Part:
    """What a further question adds to a result.

    Attributes:
        document: Its JSON values.
        rows: The same for people.
    """

    document: dict[str, Any]
    rows: tuple[RenderableType, ...]


@dataclass(frozen=True)
class Further:
    """What further questions add to a result and to its folder.

    Attributes:
        parts: Key of result.json -> what stands there.
        pictures: File name of `RESULTS` -> picture.
    """

    parts: dict[str, Part] = field(default_factory=dict)
    pictures: dict[str, Image] = field(default_factory=dict)


NOTHING = Further()


#: Bidirectional marks that turn around what follows them on the line.
_TURNING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def check_folder(out: Path) -> Path:
    """Refuses an unusable --out before any work is done.

    Raises:
        InputError: Not a folder, or not to be written to.
    """
    try:
        _refuse_shape(out)
        existing = next(parent for parent in (out, *out.absolute().parents) if parent.exists())
        # Permission bits do not tell what a read-only disk, a container or /proc will do; trying does.
        os.rmdir(tempfile.mkdtemp(dir=existing, prefix=".partial-"))
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise _unwritable(out, error) from error
    return out


def _refuse_shape(out: Path) -> None:
    if os.path.lexists(out) and not out.is_dir():
        raise InputError(f"--out {str(out)!r} is a file. Give a folder.")
    for name in RESULTS:
        if (out / name).is_dir():
            raise InputError(f"--out {str(out)!r} holds a folder named {name}. Give another folder.")


def _unwritable(out: Path, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or str(error)
    return InputError(f"--out {str(out)!r} cannot be written to ({reason}). Give another folder.")


def check_style(colormap: str) -> None:
    """Refuses an unknown colour map before any work is done."""
    from matplotlib import colormaps

    from medgemma_visualizer.errors import unknown_name

    if colormap not in colormaps:
        raise unknown_name("colour map", colormap, ["inferno", "viridis", "magma", "plasma", "cividis", "jet", "turbo"])


def indices(**lists: str | None) -> dict[str, list[int]]:
    """Options such as layers="0,-1" as lists of whole numbers; those not given are left out."""
    found = {}
    for name, text in lists.items():
        if text is None:
            continue
        try:
            found[name] = [int(part) for part in text.split(",")]
        except ValueError:
            raise InputError(f"--{name} {text!r} is not a list of whole numbers such as '0,2' or '-1'.") from None
    return found


def named_values(texts: Iterable[str]) -> dict[str, Any]:
    """Options such as "layer=-2" by name; a value is a number, a list or True where it reads as one, else a word."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip().isidentifier():
            raise InputError(f"--option {text!r} is not of the form name=value, such as 'layer=-2'.")
        try:
            found[name.strip()] = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            found[name.strip()] = value.strip()
    return found


@contextmanager
def status(message: str, *, quiet: bool = False, bars: bool = False) -> Iterator[None]:
    """Says on standard error, where that is a terminal, what takes its time.

    Args:
        message: What is being done.
        quiet: Says nothing.
        bars: What is being done draws progress bars of its own, so nothing must turn beside them.
    """
    console = Console(stderr=True, quiet=quiet, markup=False, emoji=False, highlight=False)
    line = Text(f"{printable(message)} …")
    if bars and console.is_terminal:
        console.print(line)
        yield
    else:
        with console.status(line):
            yield


@contextmanager
def progress(message: str, *, quiet: bool = False) -> Iterator[None]:
    """Shows on standard error how far the work inside is, with counts and time left, as it reports itself."""
    console = Console(stderr=True, quiet=quiet, markup=False, emoji=False, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        tasks: dict[str, TaskID] = {}

        def listen(done: int, total: int, what: str) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(f"{message}: {what}", total=total)
            bar.update(tasks[what], completed=done, total=total)

        with listening(listen):
            yield


def write_analysis(
    analysis: Analysis,
    folder: Path,
    extras: Mapping[str, Image | str] | None = None,
    parts: Mapping[str, Part] | None = None,
    **style: Any,
) -> dict[str, Path]:
    """Writes the files of `analyze`, replacing those of an earlier run whole.

    Args:
        analysis: What to write.
        folder: Where to.
        extras: File name -> a further picture, or the text of a further page.
        parts: Key of result.json -> what stands there.
        **style: As in `verbs.draw`.

    Raises:
        InputError: The folder cannot be written to; then nothing is left behind, and an earlier result stays.
    """
    from medgemma_visualizer.verbs import draw, scores_figure

    text = json.dumps(as_document(analysis, parts), indent=2, ensure_ascii=False, allow_nan=False)
    pictures = {"overlay.png": draw(analysis.heatmap, analysis.case, answer=_told(analysis.answer), **style)}
    if analysis.heatmap.available:
        pictures["scores.png"] = scores_figure(analysis.scores)
    pages = {"result.json": text + "\n"}
    for file, extra in (extras or {}).items():
        if isinstance(extra, str):
            pages[file] = extra
        else:
            pictures[file] = extra
    return write_files(folder, pages, pictures, analysis.heatmap)


def write_files(
    folder: Path, pages: Mapping[str, str], pictures: Mapping[str, Image], heatmap: Heatmap | None = None
) -> dict[str, Path]:
    """Writes files of `RESULTS`, replacing those of an earlier run whole.

    Raises:
        InputError: The folder cannot be written to; then nothing is left behind, and an earlier result stays.
    """
    try:
        with _made(folder), tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as name:
            partial = Path(name)
            for file, image in pictures.items():
                image.save(partial / file, compress_level=4)  # half the time of the default, 4 % more bytes
            if heatmap is not None:
                heatmap.save(partial / "heatmap.npz")
            for file, text in pages.items():
                (partial / file).write_text(text, encoding="utf-8")
            return _publish(partial, folder)
    except OSError as error:
        raise _unwritable(folder, error) from error


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """The folder is there inside the block; what had to be made for it goes again where the block fails."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]  # innermost first
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for path in new:
            with suppress(OSError):  # what never came to be need not go; the first failure is the one to tell
                path.rmdir()
        raise


def _publish(partial: Path, folder: Path) -> dict[str, Path]:
    """Moves finished files into place; until result.json is there, the folder holds no result."""
    for name in reversed(RESULTS):
        (folder / name).unlink(missing_ok=True)
    made = [name for name in RESULTS if (partial / name).exists()]
    for name in made:
        os.replace(partial / name, folder / name)
    return {name: folder / name for name in made}


def as_document(analysis: Analysis, parts: Mapping[str, Part] | None = None) -> dict[str, Any]:
    """The result as plain JSON values; no path and no name of a file travels in it."""
    return document(analysis, {name: part.document for name, part in (parts or {}).items()})


def _told(said: Answer) -> str:
    """The answer as it stands on a picture: never without what must be known to read it."""
    return f"{said.text} — {said.notice}" if said.notice else said.text


def _probability(said: Answer) -> str:
    """p(yes) where yes and no hold most of the probability; else that of the whole text."""
    if said.p_yes is not None and (said.p_yes_no_mass or 0.0) >= 0.5:
        return f"p(yes) = {said.p_yes:.3f}"
    return f"p(this answer) = {math.exp(sum(token.logprob or 0.0 for token in said.tokens)):.3f}"


def print_analysis(
    analysis: Analysis, written: dict[str, Path], parts: Mapping[str, Part] | None = None, *, as_json: bool
) -> None:
    """The result for people, or as one JSON document."""
    if as_json:
        print_json(as_document(analysis, parts))
        return
    case, said, heatmap = analysis.case, analysis.answer, analysis.heatmap
    probability = f"   {_probability(said)}"
    right = {None: "", True: "   right", False: f"   wrong, the truth is {case.truth}"}[analysis.correct]
    flag = ", text-independent" if heatmap.text_independent else ""
    left_out = heatmap.extras.get("left_out", ())
    rows: list[RenderableType] = [
        line("Question", case.question),
        line("Answer", f"{said.text}{probability}{right}"),
        *([line("Notice", said.notice, "yellow")] if said.notice else []),
        line("Model", f"{analysis.model['name']} on {analysis.model['device']}"),
        line("Map", f"{heatmap.method}{flag}, target ({heatmap.target.kind}): {heatmap.target.text}"),
        *([line("Left out", f"{', '.join(left_out)}: no option of {heatmap.method}", "yellow")] if left_out else []),
        *(line("Failed", f"{name}: {reason}", "yellow") for name, reason in heatmap.fallbacks.items()),
        _table(analysis) if heatmap.available else Text("No explanation is available.", style="yellow"),
        *(row for part in (parts or {}).values() for row in part.rows),
        *(line("Written", str(path)) for path in written.values()),
        Text("Research use only, not for clinical use.", style="dim"),
    ]
    show(*rows)


def line(label: str, text: str, style: str = "bold") -> Text:
    """A line of a result: what it is about, and what is said."""
    return Text(f"{label:<10}", style=style).append(printable(text), style="not bold default")


def _table(analysis: Analysis) -> Table:
    table = Table("Score", "Value", "Chance", "Better", "Verdict", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name, score in analysis.scores.items():
        better = "" if score.direction == "none" else score.direction
        table.add_row(name, value_of(score), chance_of(score), better, score.verdict or score.reason)
    return table


def printable(text: str) -> str:
    """Text that a terminal shows and never obeys: control characters are written out, line ends and tabs stay."""
    return "".join(_written_out(c) if _commands(c) else c for c in text)


def _commands(character: str) -> bool:
    """Whether a terminal would act on this character (or, for half of a surrogate pair, could not print it)."""
    control = unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\t"
    return control or unicodedata.bidirectional(character) in _TURNING


def _written_out(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def print_json(document: dict[str, Any]) -> None:
    """One JSON document on standard output; in ASCII, so that it is valid whatever the terminal's encoding."""
    _emit(json.dumps(document, allow_nan=False) + "\n")


def show(*parts: RenderableType) -> None:
    """Prints for people; brackets and colons in a text are letters, long lines are left to the terminal."""
    screen, page = Console(), io.StringIO()
    plain: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False}
    console = Console(file=page, width=screen.width, force_terminal=screen.is_terminal, **plain)
    for part in parts:
        console.print(part, soft_wrap=not isinstance(part, Table))
    _emit(page.getvalue())


def _emit(text: str) -> None:
    """Writes to standard output now, so that a failure is told here and not while Python shuts down."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        print(text.encode(encoding, "backslashreplace").decode(encoding), end="", flush=True)
    except BrokenPipeError:  # whoever reads has seen enough
        _abandon_output()
    except OSError as error:
        _abandon_output()
        raise VisualizerError(f"Standard output cannot be written to ({error.strerror}). Send it elsewhere.") from error


def _abandon_output() -> None:
    """What is still in the buffer would fail again when Python closes the stream."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
