"""The table of findings: every label of CheXpert, articles and sides by hand, and no name that means two findings."""

from __future__ import annotations

import pytest

from medgemma_visualizer.data.findings import FINDINGS, SIDES, Term, same_but_for_spelling

CHEXPERT = {
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation",
    "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices",
}  # fmt: skip


def term(finding: str, text: str) -> Term:
    (found,) = (term for term in FINDINGS[finding].terms if term.text == text)
    return found


def forms(found: Term) -> set[str]:
    return {found.on(side).text for side in SIDES if found.can_be(side)} | set(found.aliases)


def test_every_label_of_chexpert_is_there() -> None:
    assert {finding.label for finding in FINDINGS.values()} >= CHEXPERT


@pytest.mark.parametrize("name", [name for name in FINDINGS if name != "no_finding"])
def test_every_finding_has_several_technical_and_lay_terms(name: str) -> None:
    assert len(FINDINGS[name].technical) >= 3
    assert len(FINDINGS[name].lay) >= 2


def test_no_name_means_two_findings() -> None:
    owners: dict[str, set[str]] = {}
    for name, finding in FINDINGS.items():
        for one in finding.terms:
            for form in forms(one):
                owners.setdefault(form, set()).add(name)
    assert [form for form, names in owners.items() if len(names) > 1] == []


def test_terms_carry_neither_article_nor_gap() -> None:
    for finding in FINDINGS.values():
        for one in finding.terms:
            for form in forms(one):
                assert form == " ".join(form.split()) == form.lower()
                assert form.split()[0] not in ("a", "an", "the", "any", "no")


@pytest.mark.parametrize(
    ("finding", "text", "expected"),
    [
        ("pleural_effusion", "effusion", ("an effusion", "a left effusion", "bilateral effusions")),
        ("pleural_effusion", "pleural effusion",
         ("a pleural effusion", "a left pleural effusion", "bilateral pleural effusions")),
        ("pleural_effusion", "fluid around the lungs",
         ("fluid around the lungs", "fluid around the left lung", "fluid around both lungs")),
        ("pneumothorax", "pneumothorax", ("a pneumothorax", "a left pneumothorax", "bilateral pneumothoraces")),
        ("pneumothorax", "collapsed lung",
         ("a collapsed lung", "a collapsed left lung", "collapsed lungs on both sides")),
        ("pneumonia", "pneumonia", ("pneumonia", "left pneumonia", "bilateral pneumonia")),
        ("pneumonia", "lung infection",
         ("a lung infection", "an infection in the left lung", "infection in both lungs")),
        ("lung_opacity", "opacity", ("an opacity", "a left opacity", "bilateral opacities")),
        ("consolidation", "solid appearance in lung",
         ("a solid appearance in lung", "a solid appearance in the left lung", "a solid appearance in both lungs")),
        ("fracture", "fracture", ("a fracture", "a left-sided fracture", "bilateral fractures")),
    ],
)  # fmt: skip
def test_articles_numbers_and_sides(finding: str, text: str, expected: tuple[str, str, str]) -> None:
    sides = ("", "left", "both")
    assert tuple(term(finding, text).on(side).indefinite for side in sides) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["cardiomegaly", "enlarged_cardiomediastinum", "support_devices"])
def test_what_has_no_side_of_the_chest_is_never_sided(name: str) -> None:
    assert not any(one.can_be(side) for one in FINDINGS[name].terms for side in SIDES if side)


def test_spellings() -> None:
    assert same_but_for_spelling(term("edema", "pulmonary edema"), term("edema", "pulmonary oedema"))
    assert not same_but_for_spelling(term("edema", "pulmonary edema"), term("edema", "lung oedema"))
