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
