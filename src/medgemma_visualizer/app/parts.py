"""Pieces of the page that every tab uses: pictures, downloads, tables, alerts, progress, all as HTML text.

Knows HTML; knows nothing about models or cases. Whatever a person or a model wrote passes through `escaped`, and all
pictures and files are data: URLs: nothing of a visitor lies on the disk or under an address that others could open.
"""

from __future__ import annotations

import base64
import functools
import html
import inspect
import io
import math
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

import gradio as gr
from PIL import Image

from medgemma_visualizer.app import words
from medgemma_visualizer.app.desk import Cancelled, Progress
from medgemma_visualizer.app.session import Superseded
from medgemma_visualizer.app.style import CSS
from medgemma_visualizer.errors import VisualizerError
from medgemma_visualizer.reports import HEAD

#: Characters by which a template would take a text for its own.
_TEMPLATE = str.maketrans({"{": "&#123;", "}": "&#125;", "$": "&#36;", "`": "&#96;", "\\": "&#92;"})


class Safe(str):
    """HTML made here, not to be escaped again."""

    __slots__ = ()


def escaped(text: object) -> Safe:
    """Text as letters: no markup, no template, no quote that ends an attribute; what is `Safe` stays as it is."""
    return text if isinstance(text, Safe) else Safe(html.escape(str(text), quote=True).translate(_TEMPLATE))


def data_url(data: bytes, mime: str) -> str:
    """Bytes as an address that holds them."""
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"


def png(image: Image.Image) -> bytes:
    """The picture as PNG, lossless; quick rather than small, as it travels once."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def png_url(image: Image.Image) -> str:
    """The picture as a data: URL, lossless."""
    return data_url(png(image), "image/png")


def picture(image: Image.Image, description: str) -> Safe:
    """The picture at the width of its place, described for those who do not see it."""
    return Safe(f'<img class="mv-picture" src="{png_url(image)}" alt="{escaped(description)}">')


def download(name: str, data: bytes, mime: str, label: str) -> Safe:
    """A link that saves `data` under `name`."""
    attributes = f'download="{escaped(name)}" href="{data_url(data, mime)}"'
    return Safe(f'<a class="mv-download" {attributes}>{escaped(label)}</a>')


def downloads(links: Iterable[Safe]) -> Safe:
    """Several such links beside each other."""
    return Safe(f'<p class="mv-downloads">{" ".join(links)}</p>')


def copyable(label: str, text: str) -> Safe:
    """A button that copies a text, with the text below it to be read, or copied by hand."""
    return Safe(
        f'<details class="mv-copy"><summary>{escaped(label)}</summary>'
        f'<button type="button" data-copy="{escaped(text)}">{escaped(words.COPY)}</button>'
        f"<pre>{escaped(text)}</pre></details>"
    )


def alert(message: str) -> Safe:
    """What went wrong and what to do next, told to screen readers at once; "" tells nothing."""
    return Safe(f'<div class="mv-alert" role="alert">{escaped(message)}</div>' if message else "")


def note(message: str) -> Safe:
    """What is to be known and is no error; "" tells nothing."""
    return Safe(f'<div class="mv-note" role="status">{escaped(message)}</div>' if message else "")


def progress_bar(progress: Progress) -> Safe:
    """How far long work is: a bar, counts, time left. Work that waits for its turn, or cannot count, has no value."""
    known = progress.total > 0
    counts = f'aria-valuemin="0" aria-valuemax="{progress.total}" aria-valuenow="{progress.done}"' if known else ""
    share = 100 * progress.done / progress.total if known else 0
    text = escaped(progress_text(progress))
    return Safe(
        f'<div class="mv-progress" role="progressbar" {counts} aria-label="{text}" aria-valuetext="{text}">'
        f'<div class="mv-done" style="width:{share:.1f}%"></div><span>{text}</span></div>'
    )


def progress_text(progress: Progress) -> str:
    """ "random models: 12 of 60 (path points: 4 of 16), about 8 s left of these; 20 s so far"."""
    if progress.stopping:
        return words.STOPPING.format(time=duration(progress.seconds))
    if not progress.total:
        return (words.WORKING if progress.what else words.WAITING).format(seconds=progress.seconds)
    done, total, what = progress.within or (0, 0, "")
    within = f" ({what}: {done} of {total})" if what else ""
    left = "" if progress.left is None else words.LEFT.format(time=duration(progress.left))
    so_far = words.SO_FAR.format(time=duration(progress.seconds))
    return f"{progress.what}: {progress.done} of {progress.total}{within}{left}{so_far}"


def duration(seconds: float) -> str:
    """ "8 s", "2 min 5 s"."""
    whole = math.ceil(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"


def table(
    rows: Iterable[Sequence[object]], headers: Sequence[str], caption: str = "", *, sortable: bool = False
) -> Safe:
    """An HTML table; the first cell of a row is its heading. Cells are escaped, numbers shown to three digits.

    Args:
        rows: As many cells each as there are headers.
        headers: Of the columns.
        caption: What the table shows, for everybody.
        sortable: Whether a click on a header sorts by that column.
    """
    told = f"<caption>{escaped(caption)}</caption>" if caption else ""
    kind = "mv-table mv-sortable" if sortable else "mv-table"
    head = "".join(_header(header, sortable) for header in headers)
    body = "".join(f"<tr>{_cells(row, len(headers))}</tr>" for row in rows)
    inside = f"{told}<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    region = f'role="region" tabindex="0" aria-label="{escaped(caption or headers[0])}"'
    return Safe(f'<div class="mv-scroll" {region}><table class="{kind}">{inside}</table></div>')


def _header(text: str, sortable: bool) -> str:
    inside = f'<button type="button">{escaped(text)}</button>' if sortable else escaped(text)
    return f'<th scope="col"{" aria-sort=none" if sortable else ""}>{inside}</th>'


def _cells(row: Sequence[object], count: int) -> str:
    if len(row) != count:
        raise ValueError(f"A row of {len(row)} cells in a table of {count} columns.")
    first, *rest = row
    return f'<th scope="row">{number(first)}</th>' + "".join(
        f"<td{_sort_key(cell)}>{number(cell)}</td>" for cell in rest
    )


def _sort_key(cell: object) -> str:
    """The exact number, by which a column is sorted."""
    return f' data-sort="{cell!r}"' if isinstance(cell, int | float) and not isinstance(cell, bool) else ""


def facts(rows: Iterable[tuple[str, object]]) -> Safe:
    """Names and what is to be said of each, one below the other; what is empty or None is left out."""
    told = [(name, value) for name, value in rows if value is not None and value != ""]
    inside = "".join(f"<dt>{escaped(name)}</dt><dd>{number(value)}</dd>" for name, value in told)
    return Safe(f'<dl class="mv-facts">{inside}</dl>')


def one_file(title: str, body: str) -> bytes:
    """A page that opens from disk without a network: `body`, made of the parts of this module, and their style."""
    return (
        f"{HEAD}<title>{escaped(title)}</title>"
        f"<style>:root {{ color-scheme: light dark; --border-color-primary: #8888; }} "
        f"body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 1rem auto; padding: 0 1rem; }} "
        f"{CSS}</style></head><body><h1>{escaped(title)}</h1>{body}<p>{escaped(words.DISCLAIMER)}</p></body></html>"
    ).encode()


def number(value: object) -> Safe:
    """A cell's text: three decimals for a fraction, a dash for nothing, all else as it is."""
    if value is None:
        return Safe("–")
    return escaped(f"{value:z.3f}" if isinstance(value, float) else value)


def in_place(place: Any, *, empties: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorates a handler that returns {component: value}: what goes wrong is told in `place`, all else stays.

    An error of this package becomes an alert and nothing else of the page changes, so that every input survives; where
    the handler comes through, the place is emptied, unless it sets the place itself. Work that was called off says so,
    work that was superseded nothing: what came in its place says how that goes.
    A generator's later steps are guarded likewise. `place` must be among the listener's outputs.

    Args:
        place: The gr.HTML for alerts of this part of the page.
        empties: False for what a visitor does on the way to a button: its reply may come after the button's, whose
            alert stays.
    """
    through = {place: "" if empties else gr.skip()}

    def decorate(handler: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.isgeneratorfunction(handler):

            @functools.wraps(handler)
            def steps(*given: Any, **named: Any) -> Generator[Any]:
                try:
                    for update in handler(*given, **named):
                        yield through | update
                except Superseded:
                    pass
                except (VisualizerError, Cancelled) as error:
                    yield {place: told(error)}
                yield {place: gr.skip()}  # Gradio sends the last step again, over what may have been typed since

            return steps

        @functools.wraps(handler)
        def once(*given: Any, **named: Any) -> Any:
            try:
                return through | (handler(*given, **named) or {})
            except Superseded:
                return {place: gr.skip()}
            except (VisualizerError, Cancelled) as error:
                return {place: told(error)}

        return once

    return decorate


def told(error: VisualizerError | Cancelled) -> Safe:
    """An error of this package as an alert; work that was called off as a note."""
    return note(words.STOPPED) if isinstance(error, Cancelled) else alert(str(error))
