"""What several commands can be told, said once. Knows words and limits; knows nothing about what is done with them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medgemma_visualizer.settings import DEFAULT_RENDERING, RECOMMENDED_METHOD

Image = Annotated[
    Path | None, typer.Argument(help="A radiograph (DICOM, PNG, JPEG, TIFF, BMP or WebP). None: an embedded one.")
]
Question = Annotated[str | None, typer.Option("--question", "-q", help="What to ask of it.")]
Target = Annotated[
    str | None,
    typer.Option(
        help="What the map explains: contrast, p_yes, answer, token:N, word:W (a word of the question) or a phrase."
        " None: yes against no, or the answer."
    ),
]
MethodName = Annotated[
    str | None,
    typer.Option(
        "--method",
        help="How to ask; see `methods`. 'auto' takes the specification's first that works. None: the best of this"
        f" model's league table, or {RECOMMENDED_METHOD!r} where it has none.",
    ),
]
ModelName = Annotated[str, typer.Option("--model", help="'demo', a hub id, or a folder.")]
Out = Annotated[Path, typer.Option(help="Where the results go; results of an earlier run are replaced.")]
CaseName = Annotated[
    str | None, typer.Option("--case", help="Number or id of an embedded case, where no image is given.")
]
Layers = Annotated[str | None, typer.Option(help="Layers to read, such as '0,2' or '-1'.")]
Heads = Annotated[str | None, typer.Option(help="Heads to read, such as '0,3'.")]
MethodOption = Annotated[
    list[str] | None,
    typer.Option("--option", help="Any other option of the method, such as 'layer=-2' or 'space=pixels'; repeat it."),
]
Device = Annotated[str, typer.Option(help="auto, cpu, mps, cuda or cuda:N.")]
Dtype = Annotated[str, typer.Option(help="auto, float32 or bfloat16.")]
MinMemory = Annotated[
    float | None,
    typer.Option(
        help="GiB that a GPU must have free for 'auto' to take it. None: 15, or 1 for the demo model; with --quantize"
        " or --max-memory what the weights then take and 2 more."
    ),
]
MaxMemory = Annotated[
    float | None,
    typer.Option(help="GiB of the GPU that weights and work may take together; all of it where not given."),
]
Quantize = Annotated[
    str | None, typer.Option(help="8bit or 4bit weights on a GPU, by bitsandbytes: answers and maps change.")
]
MaxNewTokens = Annotated[int, typer.Option(min=1, max=4096, help="Bound on the answer's length.")]
MaxPixels = Annotated[int, typer.Option(min=1, help="Largest image that is opened, in pixels.")]
TextFirst = Annotated[bool, typer.Option(help="Put the question before the image.")]
ColourMap = Annotated[str, typer.Option(help="Any perceptual map of matplotlib, or 'jet'.")]
GridLines = Annotated[bool, typer.Option(help="Draw the grid of image tokens.")]
Rendering = Annotated[
    str | None,
    typer.Option(
        help="How a DICOM file becomes a film: 'dicom-voi', as a viewer shows it; 'dicom-voi:2', by the second of its"
        " VOI LUTs and windows; or 'mimic-jpg', as the JPEG files of MIMIC-CXR-JPG were made."
        f" None: {DEFAULT_RENDERING!r}."
    ),
]
AllowLateral = Annotated[bool, typer.Option("--allow-lateral", help="Take a DICOM file of a lateral view too.")]
Space = Annotated[str, typer.Option(help="What is removed: cells of the picture (pixels) or image tokens (tokens).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Mlflow = Annotated[
    str | None,
    typer.Option(
        help="Log the aggregate numbers and page to MLflow: a folder, or a server's address. None: not at all."
    ),
]
