"""Calling the command as a person would, and seeing all that it does: what it prints, its exit code, what it leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from medgemma_visualizer import cli

QUESTION = "Is there a pleural effusion?"


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


Call = Callable[..., Done]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs the command in an empty working folder."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> Done:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            cli.main(list(words))
        captured = capsys.readouterr()
        assert isinstance(stopped.value.code, int)
        return Done(stopped.value.code, captured.out, captured.err)

    return run


@pytest.fixture
def answering(demo: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded model, loaded once for all tests."""
    from medgemma_visualizer import verbs

    monkeypatch.setattr(verbs, "load_model", lambda *_, **__: demo)


@pytest.fixture
def unloadable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading weights fails the test: what cannot be used is refused before."""
    from medgemma_visualizer.models import loading

    monkeypatch.setattr(loading, "_load", lambda *_, **__: pytest.fail("A model was loaded for unusable input."))


@pytest.fixture
def film(cases: Any) -> str:
    """The path of the first embedded film."""
    return str(cases[0].image)


def everything_in(folder: Path) -> dict[str, bytes | None]:
    """Every path below a folder, hidden ones too, with what the files hold."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}
