"""What `analyze` draws beyond its four files, when asked to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medgemma_visualizer.cli import main
from medgemma_visualizer.heatmaps import METHODS


def _run(*arguments: str) -> None:
    with pytest.raises(SystemExit) as done:
        main(["analyze", *arguments])
    assert done.value.code in (0, None)


def test_every_token_gets_a_map_on_one_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _run("--question", "What does this radiograph show?", "--tokens", "--out", str(tmp_path))
    page = (tmp_path / "tokens.html").read_text(encoding="utf-8")
    assert page.count("<figure id=") > 5
    assert "tokens.html" in capsys.readouterr().out


def test_every_method_is_on_the_sheet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cheap = {name: METHODS[name] for name in ("cross_attention", "token_gradient", "hires_cam", "tam")}
    monkeypatch.setattr(METHODS, "_entries", cheap)
    seen: list[str] = []

    def draw_all(heatmaps: dict[str, Any], case: Any, **style: Any) -> Any:
        seen.extend(heatmaps)
        return original(heatmaps, case, **style)

    from medgemma_visualizer import verbs

    original = verbs.draw_all
    monkeypatch.setattr(verbs, "draw_all", draw_all)
    _run("--method", "token_gradient", "--all-methods", "--out", str(tmp_path))
    assert seen == list(cheap)
    assert (tmp_path / "methods.png").exists()


def test_a_sheet_of_an_earlier_run_does_not_stay(tmp_path: Path) -> None:
    (tmp_path / "methods.png").write_bytes(b"old")
    (tmp_path / "tokens.html").write_bytes(b"old")
    _run("--out", str(tmp_path))
    assert not (tmp_path / "methods.png").exists()
    assert not (tmp_path / "tokens.html").exists()
