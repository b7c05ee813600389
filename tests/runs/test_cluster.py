"""On a cluster every row stands once, whatever happens to its machines."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from medgemma_visualizer.errors import UnavailableError
from medgemma_visualizer.runs import cluster
from medgemma_visualizer.runs.cluster import Cluster, connected
from tests.runs.run_helpers import parts_of, run

#: Seconds after which a hanging cluster is given up.
LIMIT = 240

#: Two machines of one CPU each beside the driver's, of which one is lost while it works. Writes down what became of it.
_RUN = """
import functools, json, sys, threading, time
from pathlib import Path
import ray
from ray.cluster_utils import Cluster as Machines
from medgemma_visualizer.data.sources import load_cases
from medgemma_visualizer.models.loading import load_model
from medgemma_visualizer.runs import start
from medgemma_visualizer.runs.cluster import Cluster
from tests.runs.run_helpers import PLAN

folder, lose = Path(sys.argv[1]), sys.argv[2] == "lose"
settings = {"health_check_period_ms": 500, "health_check_timeout_ms": 1000, "health_check_failure_threshold": 3}
machines = Machines(initialize_head=True, head_node_args={"num_cpus": 1, "_system_config": settings})
other = machines.add_node(num_cpus=1)
machines.wait_for_nodes()
load = functools.partial(load_model, "demo", device="cpu", dtype="float32")
engine = start.on_ray(Cluster(load, address=machines.address), PLAN)

def lose_one():
    while len(list((folder / "parts").glob("*.parquet"))) < 3:
        time.sleep(0.05)
    machines.remove_node(other, allow_graceful=False)

if lose:
    threading.Thread(target=lose_one, daemon=True).start()
outcome = start.run(engine, list(load_cases("demo")[:24]), folder, PLAN, shard_size=2)
said = {"asked": outcome.asked, "failed": outcome.failed, "complete": outcome.state.complete}
(folder / "said.json").write_text(json.dumps(said))
ray.shutdown()
machines.shutdown()
"""


def on_machines(folder: Path, *, lose: bool) -> dict[str, Any]:
    """What a run on two machines said; in a process of its own, as a cluster that hangs cannot be ended otherwise."""
    here = Path(__file__).parents[2]
    environment = os.environ | {
        "PYTHONPATH": f"{here}{os.pathsep}{here / 'src'}",
        "OMP_NUM_THREADS": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    command = [sys.executable, "-c", _RUN, str(folder), "lose" if lose else "keep"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=here, env=environment, timeout=LIMIT)
    assert done.returncode == 0, done.stderr[-2000:]
    said: dict[str, Any] = json.loads((folder / "said.json").read_text())  # what is printed is Ray's
    return said


@pytest.fixture(scope="module")
def alone(demo: Any, cases: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run on this machine."""
    folder = tmp_path_factory.mktemp("alone")
    run(demo, list(cases[:24]), folder)
    return folder


@pytest.mark.slow
def test_a_cluster_makes_the_same_parts_as_one_machine(alone: Path, tmp_path: Path) -> None:
    assert on_machines(tmp_path, lose=False) == {"asked": 24, "failed": 0, "complete": True}
    assert parts_of(tmp_path) == parts_of(alone)


@pytest.mark.slow
def test_a_machine_that_is_lost_while_it_works_costs_no_row_and_doubles_none(alone: Path, tmp_path: Path) -> None:
    said = on_machines(tmp_path, lose=True)
    assert (said["failed"], said["complete"]) == (0, True)
    assert parts_of(tmp_path) == parts_of(alone)


def test_without_ray_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UnavailableError, match=r"pip install 'medgemma-visualizer\[ray\]'"):
        connected(None)


def test_a_worker_loads_its_model_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    monkeypatch.setattr(cluster, "_models", {})
    monkeypatch.setattr(cluster, "_key", lambda load: load)
    one, other = (functools.partial(loaded.append, name) for name in ("one", "other"))
    for load in (one, one, other, other):
        cluster._model(load)  # type: ignore[arg-type]
    assert loaded == ["one", "other"]


def test_a_worker_that_is_given_another_card_leaves_and_loads_nothing_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    monkeypatch.setattr(cluster, "_models", {})
    monkeypatch.setattr(cluster, "_cards", [])
    monkeypatch.setattr(cluster, "_key", lambda load: load)
    monkeypatch.setattr(cluster, "_leave", lambda: loaded.append("left"))
    load = functools.partial(loaded.append, "model")
    for card in ("1", "1", "0"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", card)
        cluster._model(load)  # type: ignore[arg-type]
    assert loaded == ["model", "left"]


def test_more_than_this_machine_has_is_refused_and_not_waited_for() -> None:
    Cluster(lambda: None, gpus=1)._refuse_more_than_there_is(Pretended(CPU=2, GPU=1))  # type: ignore[arg-type,return-value]
    Cluster(lambda: None, "auto", gpus=1)._refuse_more_than_there_is(Pretended(CPU=2))  # type: ignore[arg-type,return-value]
    for needs, complaint in (
        ({"gpus": 1}, "1 GPU and this machine has 0"),
        ({"cpus": 4}, "4 CPU and this machine has 2"),
    ):
        with pytest.raises(UnavailableError, match=complaint):
            Cluster(lambda: None, **needs)._refuse_more_than_there_is(Pretended(CPU=2))  # type: ignore[arg-type,return-value]


#: A task whose process leaves twice, as one that was given another card; then it says so.
_LEAVES = """
import sys
from pathlib import Path
import ray
from medgemma_visualizer.runs import cluster
from medgemma_visualizer.runs.cluster import Cluster, connected

def work(log):
    with open(log, "a") as file:
        file.write("begun\\n")
    if len(Path(log).read_text().split()) < 3:
        cluster._leave()
    return "done"

ray = connected(None)
found = ray.get(Cluster(lambda: None)._task(ray, work).remote(sys.argv[1]), timeout=120)
Path(sys.argv[1]).write_text(Path(sys.argv[1]).read_text() + found)
"""


@pytest.mark.slow
def test_a_task_whose_process_leaves_is_tried_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", _LEAVES, str(log)]
    subprocess.run(command, check=True, timeout=LIMIT, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert log.read_text().split() == ["begun", "begun", "begun", "done"]


class Pretended:
    """A Ray that says how much it has."""

    def __init__(self, *machines: dict[str, float], **resources: float) -> None:
        self.machines, self.resources = machines, resources

    def cluster_resources(self) -> dict[str, float]:
        return self.resources

    def nodes(self) -> list[dict[str, Any]]:
        lost = {"Alive": False, "Resources": {"CPU": 512.0, "GPU": 512.0}}
        return [lost, *({"Alive": True, "Resources": there} for there in self.machines)]


@pytest.mark.parametrize(
    ("resources", "needs", "bound"),
    [
        ({"CPU": 8}, {}, 16),
        ({"CPU": 8}, {"cpus": 4}, 4),
        ({"CPU": 64, "GPU": 3}, {"gpus": 1}, 6),
        ({"CPU": 64, "GPU": 1}, {"gpus": 0.5}, 4),
        ({"CPU": 1}, {"cpus": 2}, 2),
        ({"CPU": 8}, {"workers": 3}, 3),
    ],
)
def test_no_more_shards_are_under_way_than_the_cluster_holds_twice(
    resources: dict[str, float], needs: dict[str, Any], bound: int
) -> None:
    assert Cluster(lambda: None, **needs)._bound(Pretended(**resources)) == bound  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize(
    ("needs", "sharers"), [({"gpus": 1}, 8), ({"gpus": 0.5}, 16), ({"gpus": 1, "workers": 3}, 3), ({"gpus": 16}, 1)]
)
def test_workers_share_the_cores_of_the_machine_that_holds_most_of_them(needs: dict[str, Any], sharers: int) -> None:
    ray: Any = Pretended({"CPU": 4}, {"CPU": 64, "GPU": 8}, {"CPU": 64, "GPU": 2})
    assert Cluster(lambda: None, **needs)._sharers(ray) == sharers  # type: ignore[arg-type,return-value]
