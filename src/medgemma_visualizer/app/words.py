"""All wording of the page: names of tabs, labels, help, errors and the text of About. Knows no component."""

from __future__ import annotations

# --- everywhere ------------------------------------------------------------------------------------------------------

TITLE = "MedGemma Visualizer"
LEAD = "Ask a question of a chest radiograph, see where the model looked, and whether to believe it."
DISCLAIMER = "Research use only, not for clinical use."
TABS = {
    "analysis": "MIMIC Question Analysis",
    "tokens": "Token-Conditioned Analysis",
    "sensitivity": "Prompt Sensitivity Analysis",
    "faithfulness": "Faithfulness Validation",
    "trust": "Method Trust",
    "about": "About",
}
COPY = "Copy"
COPY_COMMAND = "Copy as command"
COPY_PYTHON = "Copy as Python"
CANCEL = "Cancel"
STOPPED = "Stopped; nothing was changed."
WAITING = "Waiting for its turn, {seconds:.0f} s so far"
LEFT = ", about {time} left"
NOTHING_ANALYSED = "No case has been analysed yet. Choose one on the first tab and press Analyse."
KEYS_TITLE = "Keys"
KEYS = {
    "J, K": "next and previous case",
    "← →": "next and previous token (second tab)",
    "O": "attention on or off",
    "G": "contour of the known region on or off",
    "+ −": "more or less opacity",
    "?": "this list",
}

# --- tab 1: analysis -------------------------------------------------------------------------------------------------

PRESET_QUICK = "answer, one map by relevance (one pass forwards, one backwards) and its scores: a second at most"
PRESET_PAPER = (
    "the method that did best in this model's league table, and what each word of the question weighs: seconds"
)
PRESET_AUDIT = "as Paper, and this very map is checked for faithfulness and sanity, which decides the verdict: minutes"
PRESET_METHOD = "as the preset says"
FILM_ALONE = "The film, not asked yet"
FILM_OF = "Film with the map for: {question} Answer: {answer}"
NO_EXPLANATION = "no explanation available"
DO_NOT_TRUST = "DO NOT TRUST THIS MAP"
TEXT_INDEPENDENT = "text-independent: the same map for any question"
RIGHT = "right"
WRONG = "wrong, the truth is {truth}"
NOT_APPLICABLE = "not applicable"
SCORE_HEADINGS = ("Metric", "Value", "Target", "Chance", "Better", "Status")
SCORES_CAPTION = "What this map is worth on its face, measured from the raw map"
CHECK_CAPTION = "Does this map tell the truth?"
WORDS_CAPTION = "What each word of the question contributes"
IMAGE_SHARE = (
    "{share:.0%} of the effect is the picture's, the rest the question's (by {method}). Score {score:.3f} as asked, "
    "{prior:.3f} without the picture."
)
NEITHER_SIDE = "Neither the picture nor the question's words change the score of this target, so there is no share."
ONE_FILE = "HTML, one file"
PINS_CAPTION = "A and B"
AGREE_CAPTION = "How far the maps of A and B agree"
CASE = "Question"
PREVIOUS = "◀ Previous (K)"
NEXT = "Next (J) ▶"
UPLOAD = "Your own radiograph (PNG, JPEG, DICOM): it stays in this server's memory"
UPLOADED = "Your film is loaded. Type a question and press Analyse."
QUESTION = "What is asked"
CUSTOM = "Custom Question Mode"
CUSTOM_TELLS = "Ask your own words; without it the stored question is asked."
TRUTH = "Ground truth (of the untouched stored question only)"
PRESET = "How much is asked"
HOW = "Method, target, colours"
METHOD = "Method"
TARGET = "Target"
TARGET_TELLS = (
    "What the map explains: contrast, p_yes, answer, token:0, word:effusion, or a phrase. Empty: yes against no, or "
    "the answer."
)
COLOURS = "Colours of the map"
ANALYSE = "Analyse"
UNDO = "Undo"
REDO = "Redo"
VIEWER = "Film and map"
RAW = "Raw output and exact prompt"
RAW_OUTPUT = "Raw output"
PROMPT = "Exact prompt, the image block shortened"
TAKE = "Copy and download"
PREPARE = "Prepare downloads"
PINS = "Compare two results"
PIN = "Pin as {name}"
PINNED = "Pinned as {name}: {question}"
COMPARE = "Compare A with B"
