"""The same shards on many machines: Ray Core tasks, each one shard, tried again wherever a machine is lost.

Knows Ray; what a task does is `local.do_shard`. Parts are written by the workers, so the folder must be one that all
machines see. A task that runs twice writes the same part twice, whole each time, so every row stands once. Tasks, not
actors: restarted actors wait for a machine that is gone, tasks go elsewhere. A worker process loads the model once.
"""

from __future__ import annotations

import logging
import os
import pickle
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medgemma_visualizer.errors import UnavailableError, VisualizerError
from medgemma_visualizer.models.adapter import Model
from medgemma_visualizer.runs.local import Job, Outcome, Pulse, do_shard, overseen
from medgemma_visualizer.runs.plan import RunPlan, Shard, asked_of
from medgemma_visualizer.runs.work import Load

#: Shards under way for each worker that fits the cluster: one in hand, one waiting.
IN_FLIGHT = 2
_LOOK = 1.0
_STOP = "stop"

_models: dict[bytes, Model] = {}  # of a worker process, by what loads it
_cards: list[str] = []  # what this worker process could see when it loaded its model

#: Where Ray tells a task which GPUs are its own.
_VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Cluster:
    """Where Ray runs, and what a worker needs.

    Attributes:
        load: Loads the model in a worker.
        address: Of a running cluster; "auto" where this machine belongs to one; None starts one on this machine.
        cpus: Of each worker.
        gpus: Of each worker; 1 gives each model a GPU of its own.
        workers: How many shards are under way at most; as many as the cluster holds where None.
    """

    load: Load
    address: str | None = None
    cpus: float = 1
    gpus: float = 0
    workers: int | None = None

    def asked(self, plan: RunPlan) -> dict[str, Any]:
        """What a worker of this cluster would compute, as `plan.asked_of` says there.

        Raises:
            UnavailableError: Ray is not installed or cannot be reached, or this machine has not what a worker needs.
            VisualizerError: The worker's own error, such as a model that cannot be loaded there.
        """
        ray = connected(self.address)
        self._refuse_more_than_there_is(ray)
        told: dict[str, Any]
        (told,) = _results(ray, [self._task(ray, _asked).remote(self.load, plan)])
        return told

    def _refuse_more_than_there_is(self, ray: Any) -> None:
        """Ray waits for ever for what is missing. A cluster may still get it; this machine alone will not."""
        there = ray.cluster_resources() if self.address is None else {}
        for name, wanted in (("CPU", self.cpus), ("GPU", self.gpus)):
            if self.address is None and wanted > there.get(name, 0):
                raise UnavailableError(
                    f"A worker is to have {wanted:g} {name} and this machine has {there.get(name, 0):g}. Ask for less "
                    f"with --{name.lower()}s-per-worker, or give a cluster's --address."
                )

    def carry_out(self, job: Job, shards: Sequence[Shard]) -> Outcome:
        """Does what these shards lack, as `local.carry_out`.

        Raises:
            UnavailableError: Ray is not installed or cannot be reached.
            VisualizerError: A worker's own error, such as a full disk.
        """
        ray = connected(self.address)
        return overseen(job, shards, lambda todo, pulse, stop: self._watch(ray, job, todo, pulse, stop))

    def _task(self, ray: Any, function: Callable[..., Any]) -> Any:
        """A task that is tried again for ever where its machine is lost, in worker processes that are kept."""
        return ray.remote(max_retries=-1, max_calls=0, num_cpus=self.cpus, num_gpus=self.gpus)(function)

    def _watch(self, ray: Any, job: Job, shards: Sequence[Shard], pulse: Pulse, stop: Callable[[], bool]) -> None:
        """Keeps a bounded number of shards under way, the next one given out as one is done."""
        task, job = self._task(ray, _shard), replace(job, sharers=self._sharers(ray))
        halt = job.folder / "progress" / f"{_STOP}-{socket.gethostname()}-{os.getpid()}"
        halt.unlink(missing_ok=True)  # of a driver that was killed while it stopped
        waiting = list(reversed(shards))
        under_way: list[Any] = []
        try:
            while waiting or under_way:
                if stop():
                    waiting.clear()
                    halt.parent.mkdir(exist_ok=True)
                    halt.touch()
                while waiting and len(under_way) < self._bound(ray):
                    under_way.append(task.remote(self.load, job, waiting.pop(), halt))
                done, under_way = ray.wait(under_way, timeout=_LOOK)
                for asked, failed in _results(ray, done):
                    pulse.kept += asked
                    pulse.cases(asked, failed)
                pulse.look()
        finally:
            halt.unlink(missing_ok=True)

    def _bound(self, ray: Any) -> int:
        """How many shards may be under way: machines come and go."""
        return self.workers or max(1, self._fit(ray.cluster_resources())) * IN_FLIGHT

    def _sharers(self, ray: Any) -> int:
        """Workers that share the cores of one machine, where it is full of them."""
        fullest = max((self._fit(node["Resources"]) for node in ray.nodes() if node["Alive"]), default=1)
        return max(1, min(fullest, self.workers or fullest))

    def _fit(self, there: Mapping[str, float]) -> int:
        """Workers that so many CPU and GPU hold."""
        fit = int(there.get("CPU", 0) // self.cpus) if self.cpus else IN_FLIGHT
        return min(fit, int(there.get("GPU", 0) / self.gpus)) if self.gpus else fit


def connected(address: str | None) -> Any:
    """Ray, connected: usage statistics off, no dashboard.

    Raises:
        UnavailableError: It is not installed, or no cluster answers at the address.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")  # a worker that was given no GPU sees none
    try:
        import ray
    except ImportError as error:
        raise UnavailableError(
            "--engine ray needs Ray, which is not installed. Install the extra: pip install 'medgemma-visualizer[ray]'."
        ) from error
    if ray.is_initialized():
        return ray
    alone: dict[str, Any] = {} if address else {"include_dashboard": False}
    where = address or "local"  # None would join whatever cluster runs on this machine
    try:
        ray.init(address=where, log_to_driver=False, logging_level=logging.ERROR, **alone)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UnavailableError(
            f"No Ray cluster answers at {address!r} ({reason}). Start one (`ray start --head`), or leave --address out."
        ) from error
    return ray


def _results(ray: Any, done: Sequence[Any]) -> list[Any]:
    """What finished tasks say; a worker's own error is raised as it was there.

    Raises:
        VisualizerError: The first error among them.
    """
    try:
        return list(ray.get(list(done)))
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, VisualizerError):
            raise cause from None
        raise VisualizerError(
            f"The work failed on a worker ({type(cause).__name__}). Run it with --engine local."
        ) from error
    except ray.exceptions.RayError as error:
        reason = " ".join(str(error).split())[:200]
        raise VisualizerError(f"The cluster failed ({reason}). The same command goes on from here.") from error


def _model(load: Load) -> Model:
    """This worker's model, loaded once.

    A process stays on the GPU that it began with. Where Ray gives its next task another one, which is somebody else's
    place, the process ends itself, and Ray tries the task again in a new one.
    """
    key, cards = _key(load), os.environ.get(_VISIBLE, "")
    if _models and _cards != [cards]:
        _leave()
    _cards[:] = [cards]
    if key not in _models:
        _models.clear()  # one model a worker, or its memory would not hold
        _models[key] = load()
    return _models[key]


def _leave() -> None:
    """Ends this process as if its machine were lost; its parts are on the disk."""
    os._exit(1)


def _key(load: Load) -> bytes:
    """What tells one way to load a model from another, also after it has travelled."""
    return pickle.dumps(load)


def _asked(load: Load, plan: RunPlan) -> dict[str, Any]:
    return asked_of(_model(load), plan)


def _shard(load: Load, job: Job, shard: Shard, halt: Path) -> tuple[int, int]:
    """One task: one shard, its part written by a rename."""
    return (0, 0) if halt.exists() else do_shard(job, shard, _model(load), stop=halt.exists)
