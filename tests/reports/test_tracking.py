"""A run's aggregate numbers in MLflow: the table's values, the plan, the page; nothing of a case."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest

from medgemma_visualizer import verbs
from medgemma_visualizer.errors import InputError
from medgemma_visualizer.reports.run import aggregate_lines
from medgemma_visualizer.reports.tracking import EXPERIMENT, log_run
from medgemma_visualizer.runs.summary import summarise_run


@pytest.fixture(scope="module")
def folder(demo: Any, cases: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("tracked") / "run"
    verbs.run(demo, list(cases)[:3], place, methods=["relevance"])
    return place


def test_mlflow_holds_the_numbers_of_the_aggregate_table_and_no_case(folder: Path, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    made = log_run(folder, str(tmp_path / "store"))
    client = MlflowClient(tracking_uri=(tmp_path / "store").as_uri())
    found = client.get_run(made).data
    (accuracy,) = (line for line in aggregate_lines(summarise_run(folder)) if line["what"] == "accuracy")
    assert found.metrics["accuracy/all"] == pytest.approx(accuracy["value"])
    assert found.metrics["accuracy/all.low"] == pytest.approx(accuracy["low"])
    assert found.metrics["cases"] == 3
    assert found.params["model.name"] == "demo"
    assert [one.path for one in client.list_artifacts(made)] == ["report.html"]
    assert client.get_experiment_by_name(EXPERIMENT) is not None
    known = {"cases.json"} | {row for row in found.params.values() if "95006523" in row}
    assert known == {"cases.json"}  # no case's identifier among the parameters


def test_a_store_that_cannot_be_written_to_is_told(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="Give another store"):
        log_run(folder, str(tmp_path / "file" / "store"))


def test_without_mlflow_the_extra_is_named(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *given: Any, **named: Any) -> Any:
        if name.split(".")[0] == "mlflow":
            raise ImportError(name)
        return real(name, *given, **named)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(InputError, match=r"medgemma-visualizer\[mlflow\]"):
        log_run(folder, str(tmp_path / "store"))
