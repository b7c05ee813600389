"""A run's aggregate numbers, its plan and its page as a run of MLflow, for those who keep theirs there.

Knows MLflow's client, which is an extra; logs what the level "aggregate" holds and nothing of a single case. A folder
is a local store; another place is used only where its address is given in full.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.reports.export import Level
from medgemma_visualizer.reports.run import aggregate_lines, write_run_page
from medgemma_visualizer.runs.summary import summarise_run

EXPERIMENT = "medgemma-visualizer"
EXTRA = "pip install 'medgemma-visualizer[mlflow]'"
#: MLflow's names hold letters, digits and these.
_NOT_ALLOWED = re.compile(r"[^0-9A-Za-z_\-. /]")


def log_run(folder: Path, store: str, seed: int = 0) -> str:
    """Logs a run; its metrics have the names of the aggregate table.

    Args:
        folder: Of the run.
        store: A folder, or the address of a tracking server with its scheme.
        seed: Of the intervals.

    Returns:
        The identifier that MLflow gave it.

    Raises:
        InputError: MLflow is not installed, the store cannot be used, or there is no run.
    """
    summary = summarise_run(folder, seed)
    mlflow = _mlflow()
    uri = store if "://" in store else Path(store).resolve().as_uri()
    try:
        client = mlflow.MlflowClient(tracking_uri=uri)
        known = client.get_experiment_by_name(EXPERIMENT)
        experiment = client.create_experiment(EXPERIMENT) if known is None else known.experiment_id
        made = client.create_run(experiment).info.run_id
        for name, value in _parameters(summary.state.manifest.asked).items():
            client.log_param(made, name, value)
        for name, number in _metrics(summary).items():
            client.log_metric(made, name, number)
        with tempfile.TemporaryDirectory() as place:
            page = write_run_page(folder, Path(place) / "report.html", level=Level(), seed=seed)
            client.log_artifact(made, str(page))
        client.set_terminated(made)
    except (OSError, mlflow.exceptions.MlflowException) as error:
        raise InputError(f"MLflow at {uri!r} cannot be written to: {error}. Give another store.") from error
    return str(made)


def _mlflow() -> Any:
    """The library, without its telemetry and with its store of plain files."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when it is imported
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    try:
        import mlflow
    except ImportError as error:
        raise InputError(f"MLflow is not installed: {EXTRA}.") from error
    return mlflow


def _parameters(asked: Any, before: str = "") -> dict[str, str]:
    """A plan's values by dotted names, each as MLflow takes it."""
    found: dict[str, str] = {}
    for name, value in asked.items():
        if isinstance(value, dict):
            found |= _parameters(value, f"{before}{name}.")
        else:
            found[_name(f"{before}{name}")] = str(value)[:500]
    return found


def _metrics(summary: Any) -> dict[str, float]:
    """The aggregate table: each value, and the ends of its interval."""
    found: dict[str, float] = {"cases": summary.state.asked, "failed": summary.state.failed}
    for line in aggregate_lines(summary):
        name = _name(f"{line['what']}/{line['name']}")
        ends = {name: line["value"], f"{name}.low": line.get("low"), f"{name}.high": line.get("high")}
        found |= {key: float(value) for key, value in ends.items() if isinstance(value, int | float)}
    return found


def _name(text: str) -> str:
    return _NOT_ALLOWED.sub("_", text)
