"""Which prompts are compared, and what stands beside them, where nobody said more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medgemma_visualizer.checks.asked import understand
from medgemma_visualizer.checks.context import PICTURES, other_films, other_finding, prompts_for, text_of
from medgemma_visualizer.checks.prompts import variations
from medgemma_visualizer.errors import InputError

QUESTION = "Is there a pleural effusion?"


def texts(*words: Any, **told: Any) -> list[str]:
    return [text_of(one) for one in prompts_for(*words, **told)]


def test_two_own_prompts_stand_for_themselves_and_one_is_compared_with_the_question() -> None:
    assert texts(QUESTION, own=["a?", "b?"]) == ["a?", "b?"]
    assert texts(QUESTION, own=["a?"]) == [QUESTION, "a?"]
    assert texts(None, own=["a?", "a?"]) == ["a?", "a?"]  # asking twice is a way to see the noise
    assert texts(QUESTION) == []


def test_variations_follow_the_question_and_none_stands_twice() -> None:
    made = [one.text for one in variations(QUESTION, strategies=["synonym"], n=3)]
    assert texts(QUESTION, count=3, strategies=["synonym"]) == [QUESTION, *made]
    assert texts(QUESTION, own=[made[1]], count=3, strategies=["synonym"]) == [QUESTION, made[1], made[0], made[2]]


def test_an_opposite_is_known_as_such_whoever_wrote_it() -> None:
    kinds = [one.expected for one in prompts_for(QUESTION, own=["Is there no pleural effusion?"])[1:]]  # type: ignore[union-attr]
    assert kinds == ["flipped"]


def test_a_text_file_holds_one_prompt_a_line(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("\ufeffIs there an effusion?\n\n  Do you see fluid?  \n", "utf-8")
    assert texts(QUESTION, file=file) == [QUESTION, "Is there an effusion?", "Do you see fluid?"]
    assert texts(None, file=file) == ["Is there an effusion?", "Do you see fluid?"]


def table(folder: Path, *rows: tuple[str, str]) -> Path:
    file = folder / "variants.csv"
    lines = ["baseline_question,question_variant,strategy", *(f'"{a}","{b}",synonym' for a, b in rows)]
    file.write_text("\n".join(lines) + "\n", "utf-8")
    return file


def test_of_a_table_only_the_questions_own_wordings_are_taken(tmp_path: Path) -> None:
    file = table(tmp_path, (QUESTION, "Is there an effusion?"), ("Is there a fracture?", "Is a bone broken?"))
    assert texts(QUESTION, file=file) == [QUESTION, "Is there an effusion?"]
    assert prompts_for(QUESTION, file=file)[1].strategy == "synonym"  # type: ignore[union-attr]
    with pytest.raises(InputError, match=r"no wordings of 'Is there gas\?'.*2 questions"):
        prompts_for("Is there gas?", file=file)
    with pytest.raises(InputError, match="has wordings of 2"):
        prompts_for(None, file=file)
    assert texts(None, file=table(tmp_path, (QUESTION, "Fluid?"))) == [QUESTION, "Fluid?"]


@pytest.mark.parametrize(
    ("content", "said"), [(None, "cannot be read"), (b"\xff\xfe\x00", "not UTF-8"), (b"\n", "no prompt")]
)
def test_a_file_that_holds_no_prompts_is_refused(tmp_path: Path, content: bytes | None, said: str) -> None:
    file = tmp_path / "prompts.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=said):
        prompts_for(QUESTION, file=file)


def test_another_finding_is_another_one_and_keeps_the_instruction() -> None:
    for question in (QUESTION, "Is there a pneumothorax?", "Can you see any signs of an enlarged heart in this X-ray?"):
        other = other_finding(f"Question: {question}\nAnswer with only 'yes' or 'no'.")
        assert other is not None
        assert other.endswith("\nAnswer with only 'yes' or 'no'.")
        assert understand(other).finding not in (None, understand(question).finding)


@pytest.mark.parametrize("question", ["What do you see?", "Is there an effusion? Is there a fracture?"])
def test_where_it_is_not_clear_what_is_asked_there_is_no_other_finding(question: str) -> None:
    assert other_finding(question) is None


def test_other_films_are_of_other_patients_and_only_for_embedded_cases(cases: Any) -> None:
    found = other_films(cases[0])
    assert len({one.image for one in found}) == len({one.patient_id for one in found}) == PICTURES
    assert cases[0].patient_id not in {one.patient_id for one in found}
    assert other_films(replace(cases[0], simulated=False)) == ()
