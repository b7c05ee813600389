"""The command line: one file a command, named like the public verbs. Thin: every command calls what Python users call.

Knows exit codes (0 done, 1 the work failed, 2 unusable input, 130 stopped) and where messages go; knows nothing about
models.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, NoReturn

# Read when torch is loaded. Threads that wait by spinning make a small model tens of times slower on busy cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import typer

from medgemma_visualizer.cli.analyze import analyze
from medgemma_visualizer.cli.app import app as open_app
from medgemma_visualizer.cli.cases import cases
from medgemma_visualizer.cli.check import check
from medgemma_visualizer.cli.compare import compare
from medgemma_visualizer.cli.lists import info, methods, models
from medgemma_visualizer.cli.merge import merge
from medgemma_visualizer.cli.output import printable
from medgemma_visualizer.cli.report import report
from medgemma_visualizer.cli.run import run
from medgemma_visualizer.cli.status import status
from medgemma_visualizer.cli.trust import trust
from medgemma_visualizer.errors import VisualizerError

PROGRAM = "medgemma-visualizer"
STOPPED = 130

app = typer.Typer(
    name=PROGRAM,
    help="Ask a question of a chest radiograph, see where the model looked, and whether to believe it. "
    "Research use only, not for clinical use.",
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _root(debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False) -> None:
    """Only for the help: `main` reads --debug itself, wherever it stands."""


for command in (analyze, check, compare, trust, cases, run, status, merge, report, methods, models, info):
    app.command()(command)
app.command("app")(open_app)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Runs a command and exits with its code; errors are one message on standard error, never a traceback."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"] or ["--help"]
    try:
        code = app(words, prog_name=PROGRAM, standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = STOPPED
    except Exception as error:
        if debug:
            raise
        code = _complain(error)
    if code == STOPPED:
        print("Stopped.", file=sys.stderr)
    sys.exit(code if isinstance(code, int) else 0)


def _complain(error: Exception) -> int:
    """Says in one line what went wrong; returns the exit code."""
    if isinstance(error, VisualizerError):
        message, code = str(error), error.exit_code
    elif hasattr(error, "format_message"):  # wrong words on the command line
        message, code = f"{error.format_message().rstrip('.')}. See {_help_for(error)}.", 2
    else:
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        message, code = f"Unexpected error ({reason[:500]}). Run again with --debug for the whole story.", 1
    print(f"Error: {printable(' '.join(message.split()))}", file=sys.stderr)
    return code


def _help_for(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    return f"`{PROGRAM if context is None else context.command_path} --help`"
