"""What all tests share: the embedded model, loaded once, and two films."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores: one thread each, set before torch is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait do not spin on cores that others need

# An example may take as long as busy cores make it; all else stays as it is here, or as Hypothesis has it on a CI.
settings.register_profile("patient", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what needs a CUDA device where there is none."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked:
        import torch

        for item in [] if torch.cuda.is_available() else marked:
            item.add_marker(pytest.mark.skip(reason="no CUDA device is here"))


@pytest.fixture(scope="session", autouse=True)
def _nobodys_leagues(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What somebody measured on this machine chooses no method and judges no map in the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDGEMMA_VISUALIZER_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(autouse=True)
def _gradients_as_found() -> Iterator[None]:
    """No test leaves gradients off for those that follow, as one that is interrupted inside `no_grad` would."""
    yield
    if (torch := sys.modules.get("torch")) is not None and not torch.is_grad_enabled():
        torch.set_grad_enabled(True)
        pytest.fail("the test left gradients off")


@pytest.fixture(scope="session")
def demo() -> Any:
    """The embedded model on the CPU in float32."""
    from medgemma_visualizer.models.loading import load_model

    return load_model("demo", device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def cases() -> Any:
    """The embedded cases."""
    from medgemma_visualizer.data.sources import load_cases

    return load_cases("demo")


@pytest.fixture
def reading(demo: Any, cases: Any) -> Any:
    """The embedded model, having read the first embedded case."""
    from medgemma_visualizer.data.photo import picture
    from medgemma_visualizer.models.reading import read

    case = cases[0]
    return read(demo, picture(case), case.question, options=case.options)


def state_of(hf: Any) -> tuple[Any, ...]:
    """Everything about a model that a borrower must give back: weights, hooks, mode, gradients, attention, config."""
    digest = hashlib.sha256()
    for name, tensor in hf.state_dict().items():
        digest.update(name.encode() + tensor.detach().cpu().contiguous().view(-1).float().numpy().tobytes())
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in hf.modules())
    flags = tuple((p.requires_grad, p.grad is None) for p in hf.parameters())
    modes = tuple(m.training for m in hf.modules())
    kinds = tuple(
        m.config._attn_implementation
        for m in hf.modules()
        if hasattr(getattr(m, "config", None), "_attn_implementation")
    )
    return digest.hexdigest(), hooks, flags, modes, kinds, hf.config.to_json_string()
