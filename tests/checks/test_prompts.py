"""Other wordings ask the same of the same finding on the same side; opposites ask the opposite; nothing is guessed."""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medgemma_visualizer.checks.asked import Asked, understand
from medgemma_visualizer.checks.prompts import (
    FAMILIES,
    Variation,
    extract_medical_term,
    generate_prompt_variations,
    read_variations,
    variations,
    written_variations,
)
from medgemma_visualizer.checks.sentences import OPPOSITE, SENTENCES, STRATEGIES, TEMPLATES, UNDERSTOOD
from medgemma_visualizer.data.findings import FINDINGS, SIDES, Finding, Side, Term
from medgemma_visualizer.errors import InputError
from medgemma_visualizer.models.prompt import process_prompt

LEFT = "Is there a left pleural effusion?"
HEART = "Is the heart enlarged?"
NORMAL = "Is this film normal?"
UNKNOWN = "Is there scoliosis on this film?"
PART = "Is there pneumonia in the left lower lobe?"


def everything(question: str) -> tuple[Variation, ...]:
    return variations(question, strategies=FAMILIES)


def base_question(term: Term, side: Side) -> str:
    phrase = term.on(side)
    return f"{'Are' if phrase.number == 'many' else 'Is'} there {phrase.indefinite}?"


BASES = [
    (finding, term, side)
    for finding in FINDINGS.values()
    for term in finding.terms
    for side in SIDES
    if term.can_be(side)
]

# --- an example of each rule -----------------------------------------------------------------------------------------

EXAMPLES: list[tuple[str, tuple[str, ...], str, str]] = [
    # question, rules, strategy, text
    ("Is there pulmonary edema?", ("spelling",), "synonym", "Is there pulmonary oedema?"),
    ("Is there pneumonia?", ("another_term",), "synonym", "Is there a pulmonary infection?"),
    ("Are there pleural effusions?", ("another_term",), "synonym", "Is there pleural fluid?"),
    (LEFT, ("lay_term",), "register", "Is there fluid around the left lung?"),
    ("Is there fluid around the left lung?", ("technical_term",), "register", LEFT),
    (LEFT, ("active_show",), "voice", "Does this chest radiograph show a left pleural effusion?"),
    (LEFT, ("active_reveal",), "voice", "Does this image reveal a left pleural effusion?"),
    (LEFT, ("active_see",), "voice", "Do you see a left pleural effusion?"),
    (LEFT, ("active_identify",), "voice", "Can you identify a left pleural effusion on this X-ray?"),
    (LEFT, ("passive_shown",), "voice", "Is a left pleural effusion shown on this chest radiograph?"),
    (LEFT, ("passive_revealed",), "voice", "Is a left pleural effusion revealed by this image?"),
    (LEFT, ("passive_seen",), "voice", "Can a left pleural effusion be seen?"),
    (LEFT, ("passive_identified",), "voice", "Can a left pleural effusion be identified on this X-ray?"),
    (LEFT, ("technical_template",), "register",
     "Radiological assessment: Is there evidence of left pleural effusion in this chest radiograph?"),
    (LEFT, ("technical_evidence",), "register", "Is there radiographic evidence of a left pleural effusion?"),
    (LEFT, ("technical_evident",), "register", "Is a left pleural effusion evident on the present examination?"),
    (LEFT, ("technical_demonstrate",), "register", "Does the study demonstrate a left pleural effusion?"),
    (LEFT, ("lay_term", "simple_template"), "register",
     "Can you see any signs of fluid around the left lung in this X-ray?"),
    ("Is there a collapsed lung?", ("lay_have",), "register", "Do I have a collapsed lung?"),
    ("Is there a collapsed lung?", ("lay_my_xray",), "register", "Does my X-ray show a collapsed lung?"),
    ("Is there a collapsed lung?", ("lay_looks_as_if",), "register",
     "Does it look as if there is a collapsed lung in this picture?"),
    (LEFT, ("film_last",), "clause_order", "Is there a left pleural effusion on this chest radiograph?"),
    (LEFT, ("film_first",), "clause_order", "On this chest radiograph, is there a left pleural effusion?"),
    (LEFT, ("looking_first",), "clause_order", "Looking at this X-ray, is there a left pleural effusion?"),
    (LEFT, ("going_by_first",), "clause_order", "Going by this image, is a left pleural effusion present?"),
    (LEFT, ("going_by_last",), "clause_order", "Is a left pleural effusion present, going by this image?"),
    (LEFT, ("side_last",), "clause_order", "Is there a pleural effusion on the left side?"),
    ("Are there bilateral effusions?", ("side_last",), "clause_order", "Is there an effusion on both sides?"),
    ("Do you see an effusion?", ("is_there",), "phrasing", "Is there an effusion?"),
    (LEFT, ("is_present",), "phrasing", "Is a left pleural effusion present?"),
    (LEFT, ("evidence_of",), "phrasing", "Is there any evidence of a left pleural effusion?"),
    (LEFT, ("sign_of",), "phrasing", "Is there any sign of a left pleural effusion?"),
    ("Are there support devices?", ("appears",), "phrasing", "Do support devices appear in this image?"),
    ("Are there support devices?", ("would_you_say",), "phrasing", "Would you say that there are support devices?"),
    (LEFT, ("findings_include",), "phrasing", "Do the findings include a left pleural effusion?"),
    (LEFT, ("tell_whether",), "phrasing", "Tell me whether there is a left pleural effusion."),
    (LEFT, ("film_first+passive",), "combinations",
     "On this chest radiograph, can a left pleural effusion be seen?"),
    (LEFT, ("looking_first+active",), "combinations", "Looking at this image, do you see a left pleural effusion?"),
    (LEFT, ("film_first+technical",), "combinations",
     "On the present examination, is a left pleural effusion demonstrated?"),
    ("Is there a broken bone?", ("looking_first+lay",), "combinations",
     "Looking at my X-ray, do I have a broken bone?"),
    ("Is there pneumonia?", ("another_term", "passive_seen"), "combinations", "Can a pulmonary infection be seen?"),
    (LEFT, ("no",), OPPOSITE, "Is there no left pleural effusion?"),
    ("Are there support devices?", ("no",), OPPOSITE, "Are there no support devices?"),
    ("Is there pneumonia?", ("free_of",), OPPOSITE, "Is this chest radiograph free of any pneumonia?"),
    (LEFT, ("absent",), OPPOSITE, "Is a left pleural effusion absent?"),
    (LEFT, ("would_you_say_no",), OPPOSITE, "Would you say that there is no left pleural effusion?"),
    (LEFT, ("active_show_no",), OPPOSITE, "Does this chest radiograph show no left pleural effusion?"),
    (LEFT, ("film_first+no",), OPPOSITE, "On this X-ray, is there no left pleural effusion?"),
    (LEFT, ("film_last+no",), OPPOSITE, "Is there no left pleural effusion on this X-ray?"),
    (HEART, ("lay_too_big",), "synonym", "Is the heart bigger than it should be?"),
    (HEART, ("technical_enlarged",), "register", "Is the cardiac silhouette enlarged?"),
    ("Is there an enlarged heart?", ("lay_enlarged",), "phrasing", HEART),
    ("Is there cardiomegaly?", ("technical_size",), "phrasing", "Is the size of the cardiac silhouette increased?"),
    (HEART, ("normal_size",), OPPOSITE, "Is the heart of normal size?"),
    (HEART, ("size_normal",), OPPOSITE, "Is the size of the heart normal?"),
    ("Is there any abnormality?", ("normal",), OPPOSITE, "Is this chest radiograph normal?"),
    (NORMAL, ("looks_normal",), "phrasing", "Does this chest radiograph look normal?"),
    (NORMAL, ("call_normal",), "voice", "Would you call this chest radiograph normal?"),
    (NORMAL, ("called_normal",), "voice", "Would this chest radiograph be called normal?"),
    (NORMAL, ("unremarkable",), "synonym", "Is this chest radiograph unremarkable?"),
    (NORMAL, ("without_abnormality",), "synonym", "Is this chest radiograph free of abnormality?"),
    (NORMAL, ("technical_limits",), "register",
     "Radiological assessment: Is this chest radiograph within normal limits?"),
    (NORMAL, ("lay_fine",), "register", "Does everything in this X-ray look normal?"),
    (NORMAL, ("looking_first",), "clause_order", "Looking at this chest radiograph, is it normal?"),
    (NORMAL, ("normal_going_by",), "clause_order", "Is the chest normal, going by this radiograph?"),
    (NORMAL, ("looking_first+active",), "combinations", "Looking at this X-ray, would you call it unremarkable?"),
    (NORMAL, ("going_by+passive",), "combinations", "Going by this image, would the chest be called normal?"),
    (NORMAL, ("any_abnormality",), OPPOSITE, "Is there any abnormality on this chest radiograph?"),
    (NORMAL, ("abnormal",), OPPOSITE, "Is this chest radiograph abnormal?"),
    (NORMAL, ("show_abnormal",), OPPOSITE, "Does this image show any abnormality?"),
    (UNKNOWN, ("film_first",), "clause_order", "On this film, is there scoliosis?"),
    ("On this film, is there scoliosis?", ("film_last",), "clause_order", "Is there scoliosis on this film?"),
    (UNKNOWN, ("look_first",), "phrasing", "Look at the picture carefully. Is there scoliosis on this film?"),
    (UNKNOWN, ("please_answer",), "phrasing", "Please answer this: is there scoliosis on this film?"),
    (UNKNOWN, ("formal_lead",), "register", "Radiological assessment: Is there scoliosis on this film?"),
    (UNKNOWN, ("lay_lead",), "register", "As a patient I would like to know: is there scoliosis on this film?"),
    (UNKNOWN, ("film_first", "please_answer"), "combinations", "Please answer this: on this film, is there scoliosis?"),
]  # fmt: skip


@pytest.mark.parametrize(("question", "rules", "strategy", "text"), EXAMPLES, ids=lambda value: str(value)[:40])
def test_an_example_of_each_rule(question: str, rules: tuple[str, ...], strategy: str, text: str) -> None:
    made = {one.text: (one.rules, one.strategy, one.expected) for one in everything(question)}
    assert made[text] == (rules, strategy, "flipped" if strategy == OPPOSITE else "same")


def test_every_rule_has_an_example() -> None:
    shown = {rule for _, rules, _, _ in EXAMPLES for rule in rules}
    named = {one.name for own in ((*TEMPLATES,), *SENTENCES.values()) for one in own}
    assert named - shown == set()


def test_the_question_itself_is_never_among_its_variations() -> None:
    for question in (LEFT, HEART, NORMAL, UNKNOWN, PART, "is there a LEFT pleural effusion"):
        texts = [one.text.lower().strip("?") for one in everything(question)]
        assert question.lower().strip("?") not in texts
        assert max(Counter(texts).values()) == 1


# --- the meaning stays -----------------------------------------------------------------------------------------------


def keeps_the_meaning(one: Variation, finding: Finding, side: Side) -> None:
    asked = understand(one.text)
    assert (one.finding, one.side) == (finding.name, side)
    assert (asked.whole, asked.finding, asked.side) == (True, finding.name, side), one.text
    assert asked.template is not None
    assert asked.template.negative == (one.expected == "flipped"), one.text
    assert (one.expected == "flipped") == (one.strategy == OPPOSITE)


def keeps_the_grammar(text: str) -> None:
    assert text == text.strip()
    assert text[0].isupper() or text[0].isdigit()
    assert text[-1] in "?."
    assert not re.search(r"\s\s|[?.,:]{2}|\s[?.,:]|[{}]", text), text
    assert not re.search(r"[.?!] [a-z]", text), text
    assert not re.search(r"\ba [aeiou]", text), text
    assert not re.search(r"\ban [^aeiou]", text), text
    assert not re.search(r"\b(?:an?|the|any|no) (?:an?|the|any|no)\b", text), text
    assert not re.search(r"\ba bilateral\b", text)
    assert not re.search(
        r"\bis there (?:no )?(?:\w+ )?(?:\w+ )?(?:devices|effusions|fractures|lesions)\b", text.lower()
    )
    assert not re.search(r"\bare there (?:no )?(?:an?\b|fluid|air|pneumonia|edema|cardiomegaly)", text.lower())


@pytest.mark.parametrize("finding", [one for one in FINDINGS.values() if one.terms], ids=lambda one: one.name)
def test_round_trips_keep_finding_side_and_expected_answer(finding: Finding) -> None:
    for side in SIDES:
        for term in (finding.technical[0], finding.lay[0]):
            if term.can_be(side):
                made = everything(base_question(term, side))
                assert len(made) > len(FAMILIES)
                for one in made:
                    keeps_the_meaning(one, finding, side)
                    keeps_the_grammar(one.text)


@pytest.mark.slow
def test_every_term_side_and_rule_keeps_the_meaning_and_the_grammar() -> None:
    for finding, term, side in BASES:
        made = everything(base_question(term, side))
        assert len(made) > len(FAMILIES)
        for one in made:
            keeps_the_meaning(one, finding, side)
            keeps_the_grammar(one.text)


@settings(max_examples=40)
@given(
    base=st.integers(0, len(BASES) - 1),
    strategies=st.sets(st.sampled_from(FAMILIES), min_size=1),
    n=st.integers(1, 12),
    seed=st.integers(0, 2**32),
    instructed=st.booleans(),
)
def test_any_table_entry_strategy_and_seed(
    base: int, strategies: set[str], n: int, seed: int, instructed: bool
) -> None:
    finding, term, side = BASES[base]
    question = base_question(term, side)
    found = variations(
        process_prompt(question) if instructed else question, strategies=sorted(strategies), n=n, seed=seed
    )
    before, after = process_prompt("|").split("|") if instructed else ("", "")
    assert 1 <= len(found) <= n
    assert {one.strategy for one in found} <= strategies
    for one in found:
        assert one.text.startswith(before)
        assert one.text.endswith(after)
        keeps_the_meaning(one, finding, side)
        keeps_the_grammar(one.text[len(before) : len(one.text) - len(after)])
        named = extract_medical_term(one.text)
        again = understand(f"Is there {named}?")
        assert (again.finding, again.side) == (finding.name, side)


@pytest.mark.parametrize(
    ("question", "family"),
    [
        ("Is the lung free of pneumonia?", "same"),
        ("Is there no pleural effusion?", "same"),
        ("Is the heart of normal size?", "same"),
        ("Is there any abnormality?", "same"),
    ],
)
def test_the_opposite_of_a_negated_question_is_the_positive_one(question: str, family: str) -> None:
    same, opposite = variations(question), variations(question, strategies=[OPPOSITE])
    negative = [understand(one.text).template.negative for one in same]  # type: ignore[union-attr]
    assert all(negative)
    assert {one.expected for one in same} == {family}
    assert {one.expected for one in opposite} == {"flipped"}
    assert not any(understand(one.text).template.negative for one in opposite)  # type: ignore[union-attr]


def test_the_voice_changes_where_there_is_one() -> None:
    assert {one.rules[-1].split("_")[0] for one in variations("Do you see a nodule?", strategies=["voice"])} == {
        "passive"
    }
    assert {one.rules[-1].split("_")[0] for one in variations("Is a nodule seen?", strategies=["voice"])} == {"active"}


# --- which and how many ----------------------------------------------------------------------------------------------


def test_only_what_was_asked_for_in_turn_and_no_opposite_unasked() -> None:
    found = variations(LEFT, n=12)
    assert Counter(one.strategy for one in found) == dict.fromkeys(STRATEGIES, 2)
    assert {one.expected for one in variations(LEFT)} == {"same"}


def test_the_same_seed_gives_the_same_and_another_another() -> None:
    assert variations(LEFT, seed=3) == variations(LEFT, seed=3)
    assert variations(LEFT, seed=3) != variations(LEFT, seed=4)
    assert set(variations(LEFT, seed=3)) == set(variations(LEFT, seed=4))


def test_fewer_are_the_first_of_more_and_strategies_do_not_depend_on_each_other() -> None:
    assert variations(LEFT, n=5, seed=2) == variations(LEFT, n=30, seed=2)[:5]
    alone = variations(LEFT, strategies=["voice"], seed=2)
    assert alone == tuple(one for one in variations(LEFT, strategies=["voice", "phrasing"], seed=2) if one in alone)


@pytest.mark.parametrize("name", [name for name in FINDINGS if name != "no_finding"])
def test_every_strategy_yields_something_for_every_finding(name: str) -> None:
    question = base_question(FINDINGS[name].technical[0], "")
    counts = Counter(one.strategy for one in everything(question))
    assert min(counts[strategy] for strategy in FAMILIES) >= 2, counts


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"strategies": ["voices"]}, "Did you mean 'voice'?"),
        ({"strategies": []}, "name a strategy or more"),
        ({"n": 0}, "give n from 1"),
        ({"seed": -1}, "a seed from 0"),
    ],
)
def test_what_cannot_be_made_is_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        variations(LEFT, **options)  # type: ignore[arg-type]


# --- the specification's two -----------------------------------------------------------------------------------------

TECHNICAL = "Radiological assessment: Is there evidence of {} in this chest radiograph?"
SIMPLE = "Can you see any signs of {} in this X-ray?"


@pytest.mark.parametrize(
    ("question", "technical", "simple"),
    [
        ("Is there pneumonia?", "pneumonia", "lung infection"),
        ("Is there an effusion?", "effusion", "fluid around the lungs"),
        ("Is there a pleural effusion?", "pleural effusion", "fluid around the lungs"),
        ("Is there a left pleural effusion?", "left pleural effusion", "fluid around the left lung"),
        ("Is there an effusion on the right?", "effusion on the right", "fluid around the right lung"),
        ("Is there a pneumothorax?", "pneumothorax", "collapsed lung"),
        ("Is there consolidation?", "consolidation", "solid appearance in lung"),
        ("Is there cardiomegaly?", "cardiomegaly", "enlarged heart"),
        ("Is the heart enlarged?", "cardiomegaly", "enlarged heart"),
        ("Do I have fluid around the lungs?", "pleural effusion", "fluid around the lungs"),
        ("Is there pulmonary oedema?", "pulmonary oedema", "fluid in the lungs"),
    ],
)
def test_technical_and_simple(question: str, technical: str, simple: str) -> None:
    assert generate_prompt_variations(question) == (TECHNICAL.format(technical), SIMPLE.format(simple))


def test_both_are_asked_with_the_question_s_own_instruction() -> None:
    found = generate_prompt_variations(process_prompt("Is there pneumonia?"))
    assert found == (process_prompt(TECHNICAL.format("pneumonia")), process_prompt(SIMPLE.format("lung infection")))


def test_a_normal_film_has_sentences_of_its_own() -> None:
    technical, simple = generate_prompt_variations("Is this film normal?")
    assert technical == "Radiological assessment: Is this chest radiograph within normal limits?"
    assert simple == "Does everything in this X-ray look normal?"


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("Is there scoliosis?", "names no finding of the table"),
        ("Is there pneumonia or a pneumothorax?", "names pneumonia and pneumothorax"),
        (PART, "says more than whether 'pneumonia' is there"),
        ("Is there a pericardial effusion?", "names no finding of the table"),
        ("Is there no pneumonia?", "asks for the absence"),
        ("Is there pneumonia? Is there a fracture?", "asks 2 questions"),
        ("", "is empty"),
    ],
)
def test_the_two_are_refused_where_they_would_change_the_question(question: str, words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        generate_prompt_variations(question)


# --- what is asked ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "term", "finding", "side"),
    [
        ("Is there a left pleural effusion?", "left pleural effusion", "pleural_effusion", "left"),
        ("Is there an enlarged heart?", "enlarged heart", "cardiomegaly", ""),
        ("Is the heart enlarged?", "enlarged heart", "cardiomegaly", ""),
        ("IS THERE PULMONARY OEDEMA?", "pulmonary oedema", "edema", ""),
        ("Do I have water around my lungs? ", None, None, ""),
        ("Can you see fluid around the right lung?", "fluid around the right lung", "pleural_effusion", "right"),
        ("Can you see fluid in the lungs?", "fluid in the lungs", "edema", ""),
        ("Is there a collapsed lung on the left side?", "collapsed lung on the left side", "pneumothorax", "left"),
        ("Is there a partly collapsed left lung?", "partly collapsed left lung", "atelectasis", "left"),
        ("Are there bilateral pleural effusions?", "bilateral pleural effusions", "pleural_effusion", "both"),
        ("Is there a right-sided pneumothorax?", "right-sided pneumothorax", "pneumothorax", "right"),
        ("Is there pneumonia in both lungs?", "pneumonia in both lungs", "pneumonia", "both"),
        ("Where is the effusion?", "effusion", "pleural_effusion", ""),
        ("Is there a bone lesion?", None, None, ""),
        ("Is there a rib fracture?", None, None, ""),
        (PART, "pneumonia", "pneumonia", "left"),
        ("Is there a left effusion on the right?", "left effusion on the right", "pleural_effusion", ""),
        (process_prompt("Is there a nodule?"), "nodule", "lung_nodule", ""),
        ("You are a radiologist. Is there a nodule? (yes/no)", "nodule", "lung_nodule", ""),
        ("Is this chest X-ray normal?", "no finding", "no_finding", ""),
        ("Are there any abnormalities?", "no finding", "no_finding", ""),
        ("Is the heart too big?", "enlarged heart", "cardiomegaly", ""),
        ("Radiological assessment: Is a nodule present?", "nodule", "lung_nodule", ""),
    ],
)
def test_the_term_with_its_words_and_side(question: str, term: str | None, finding: str | None, side: str) -> None:
    asked = understand(question)
    assert (asked.finding, asked.side) == (finding, side)
    if term is None:
        with pytest.raises(InputError, match="names no finding of the table"):
            extract_medical_term(question)
    else:
        assert extract_medical_term(question) == term


@pytest.mark.parametrize(
    ("question", "parts"),
    [
        (process_prompt("Is it?"), ("Question: ", "Is it?", process_prompt("Is it?").removeprefix("Question: Is it?"))),
        ("Be brief. Is it? Answer yes or no.", ("Be brief. ", "Is it?", " Answer yes or no.")),
        ("Answer yes or no: is it?", ("Answer yes or no: ", "is it?", "")),
        ("Tell me whether it is.\nAnswer:", ("", "Tell me whether it is.", "\nAnswer:")),
        ("Question: Tell me. Then stop.", ("Question: ", "Tell me.", " Then stop.")),
        ("a nodule", ("", "a nodule", "")),
    ],
)
def test_a_question_and_the_words_around_it(question: str, parts: tuple[str, str, str]) -> None:
    asked = understand(question)
    assert (asked.before, asked.core, asked.after) == parts
    assert asked.before + asked.core + asked.after == question


@given(st.text(min_size=1, max_size=60))
def test_any_text_is_taken_apart_without_loss_or_refused(text: str) -> None:
    try:
        asked = understand(text)
    except InputError:
        return
    assert asked.before + asked.core + asked.after == text.strip()


def test_a_way_of_asking_has_one_polarity_and_one_voice() -> None:
    """Two templates that differ only in what makes no difference must mean the same."""
    term = FINDINGS["pneumothorax"].technical[0]
    for template in (*TEMPLATES, *UNDERSTOOD):
        if not template.wants_side:
            fills = {"a": "a pneumothorax", "t": "pneumothorax", "be": "is", "do": "does"}
            asked = understand(template.text.format(**fills))
            assert asked.term == term
            assert asked.template is not None
            assert (asked.template.negative, asked.template.voice) == (template.negative, template.voice), template


# --- what is not understood ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "question",
    [UNKNOWN, PART, "Where is the effusion?", "Has the pneumothorax grown since yesterday?", "COPD?",
     "Is there a small left pleural effusion?", "Is there pneumonia or edema?", "Describe the heart.",
     "Is there a lateral pneumothorax on this lateral film?"],
)  # fmt: skip
def test_own_words_stay_where_a_question_says_more_than_the_table_knows(question: str) -> None:
    words = Counter(re.findall(r"\w+", question.lower()))
    base: Asked = understand(question)
    for one in everything(question):
        assert Counter(re.findall(r"\w+", one.text.lower())) >= words
        assert (one.expected, one.finding, one.side) == ("same", base.finding, base.side)
        keeps_the_grammar(one.text.rstrip("?.") + question[-1])


def test_no_second_lead_is_added() -> None:
    found = everything("Radiological assessment: Is there scoliosis on this film?")
    assert [one.text.count(":") for one in found] == [1] * len(found)


def test_no_second_film_is_added() -> None:
    for one in everything("Is there scoliosis on the frontal view?"):
        assert not re.search("radiograph|X-ray", one.text) or "assessment" in one.text


@pytest.mark.parametrize("strategy", ["synonym", "voice", OPPOSITE])
def test_rules_that_need_a_known_finding_say_so(strategy: str) -> None:
    with pytest.raises(InputError, match="its finding is not in the table"):
        variations(UNKNOWN, strategies=[strategy])
    with pytest.raises(InputError, match="says more than whether the finding is there"):
        variations(PART, strategies=[strategy])


# --- other people's wordings -----------------------------------------------------------------------------------------


def test_written_wordings_are_taken_as_they_are() -> None:
    found = written_variations(LEFT, ["Is there no left effusion?", "Fluid on the left?", "Why? Who asks?"])
    assert [one.text for one in found] == ["Is there no left effusion?", "Fluid on the left?", "Why? Who asks?"]
    assert [one.expected for one in found] == ["flipped", "same", "same"]
    assert [(one.finding, one.side) for one in found] == [("pleural_effusion", "left"), (None, ""), (None, "")]
    assert {one.strategy for one in found} == {"own"}


@pytest.mark.parametrize(
    ("texts", "strategies", "words"),
    [
        (["Why?", ""], None, "is empty"),
        (["Why?", "Why? "], None, "stands 2 times"),
        (["Why?"], ["own", "own"], "1 wordings came with 2 strategies"),
    ],
)
def test_unusable_wordings_are_refused(texts: list[str], strategies: list[str] | None, words: str) -> None:
    with pytest.raises(InputError, match=words):
        written_variations(LEFT, texts, strategies=strategies)


def test_a_file_of_wordings(tmp_path: Path) -> None:
    rows = [
        ["baseline_question", "question_variant", "strategy", "ImagePath"],
        ["Is there pneumonia?", "Any pneumonia?", "phrasing", "a.png"],
        ["Is there pneumonia?", "Any pneumonia?", "phrasing", "b.png"],
        ["Is there pneumonia?", "Is there no pneumonia?", "", "a.png"],
        ["Is there a nodule?", "Do you see a nodule?", "voice", "a.png"],
    ]
    with (tmp_path / "v.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    found = read_variations(tmp_path / "v.csv")
    assert list(found) == ["Is there pneumonia?", "Is there a nodule?"]
    told = [(one.text, one.strategy, one.expected) for one in found["Is there pneumonia?"]]
    assert told == [("Any pneumonia?", "phrasing", "same"), ("Is there no pneumonia?", "own", "flipped")]
