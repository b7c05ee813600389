"""The command line: one file a command, named like the public verbs. Thin: every command calls what Python users call.

Knows exit codes (0 done, 1 the work failed, 2 unusable input) and where messages go; knows nothing about models.
"""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer

from medgemma_visualizer.cli.analyze import analyze
from medgemma_visualizer.cli.lists import info, methods, models
from medgemma_visualizer.errors import VisualizerError

app = typer.Typer(
    name="medgemma-visualizer",
    help="Ask a question of a chest radiograph, see where the model looked, and whether to believe it. "
    "Research use only, not for clinical use.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _root(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    context.obj = {"debug": debug}


for command in (analyze, methods, models, info):
    app.command()(command)


def main(arguments: list[str] | None = None) -> None:
    """Runs a command and exits with its code; errors are one sentence on standard error, never a traceback."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    debug = "--debug" in words
    words = (["--debug"] if debug else []) + [word for word in words if word != "--debug"]
    try:
        app(words)
    except KeyboardInterrupt:
        _fail("Stopped.", 130)
    except VisualizerError as error:
        if debug:
            raise
        _fail(str(error), error.exit_code)
    except Exception as error:
        if debug:
            raise
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        _fail(f"Unexpected error ({reason}). Run again with --debug for the whole story.", 1)


def _fail(message: str, code: int) -> NoReturn:
    print(f"Error: {message}", file=sys.stderr)
    sys.exit(code)
