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
STOPPING = "Stopping at the next step; {time} so far"
STOPPED = "Stopped; nothing was changed."
WAITING = "Waiting for its turn, {seconds:.0f} s so far"
WORKING = "At work, nothing to count yet, {seconds:.0f} s so far"
LEFT = ", about {time} left of these"
SO_FAR = "; {time} so far"
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
UNCHECKED = "this very map was not checked: the preset Audit does"
TIME = "{seconds:.2f} s for the answer and its map, on {device}"
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
CASE_EXAMPLES, CASE_EXAMPLES_HEADING = "Examples of cases", "Examples:"
EXAMPLE_EFFUSION, EXAMPLE_SIDE = "An effusion", "On which side is the pneumothorax?"
EXAMPLE_CLEAR, EXAMPLE_MARK = "A clear film", "An arrow on the film"
PREVIOUS = "◀ Previous (K)"
NEXT = "Next (J) ▶"
UPLOAD = "Your own radiograph (PNG, JPEG, DICOM): it stays in this server's memory"
FRONTAL = "upload a frontal one, or ask the command line (--allow-lateral)"
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
NO_COMMAND_PINS = "No command compares two results; copied here is what makes each, A before B."

# --- tab 2: tokens ---------------------------------------------------------------------------------------------------

TOKENS_LEAD = (
    "Click a word of the question or of the answer to see its map; click a cell of the film to see which words lean on "
    "it; drag a rectangle to change the film there and ask again."
)
KINDS = {"question": "Question", "answer": "Answer", "word": "Your words"}
QUICK_MAP = "quick: relevance, one pass for all words"
FORCE = "Force Grad-CAM mode"
FORCE_TELLS = "The specification's default method, whatever the menu says."
OWN_WORDS = "Target words"
OWN_WORDS_TELLS = "With commas between. A word of the question is taken there; any other as if it had been answered."
WORD_EXAMPLES = "Examples of target words"
EXPLAIN_WORDS = "Explain words"
EVERY_METHOD = "All methods"
PREVIOUS_WORD = "◀ Previous word (←)"
NEXT_WORD = "Next word (→) ▶"
NOT_SAID = "The model did not say “{text}”: the map shows what would speak for it if it had."
IN_QUESTION, IN_ANSWER, UNSAID = "stands in the question", "stands in the answer", "not said"
WORDS_SHEET = "The film under the maps of: {words}"
ALL_METHODS = "The chosen word's map by every method, each with its scores"
CELL_HEADINGS = ("Word", "Of the", "Attention on the cell", "Effect (nats)")
CELL_CAPTION = "Which words lean on the cell in row {row}, column {col}"
HEADS = "Layers and heads"
SHOW_HEADS = "Show where every head looks"
HEADS_CAPTION = (
    "Where each of {heads} heads (columns) of {layers} layers (rows, the first at the top) looks for “{word}”; each in "
    "colours of its own. Click one to see it on the film."
)
NO_COMMAND_HEADS = (
    "No command draws all heads; click one, and the command of its map stands under Copy and download. The numbers are "
    "shares of all attention, layer × head × row × column."
)
EDIT_TAKE = "The command asks the changed film as it is now: save it as a PNG, and put its path where IMAGE stands."
EDIT_TELLS = "Edit and ask again: drag a rectangle on the film, choose what becomes of it, and ask."
EDIT_KIND = "What becomes of the rectangle"
EDIT = "Change and ask again"
UNDO_EDIT = "Undo the change"
EDIT_HEADINGS = ("Film", "Answer", "p(yes)", "Yes less no (nats)", "Map by")
EDIT_CAPTION = "The answer before and after"
EDITED_IS_SHOWN = (
    "A changed film is shown, and this would be of the film as it was. Undo the changes, or click a word, first."
)
EDIT_NOTE = (
    "This film is changed: the map explains its own answer, and nothing is known of its truth. Undo the change, or "
    "click a word, to go back."
)

# --- tab 3: sensitivity ----------------------------------------------------------------------------------------------

SENSITIVITY_LEAD = (
    "Does the wording change the answer, or the map? All prompts are asked of the current film, which is read once."
)
THE_QUESTION, TECHNICAL, SIMPLE = "the question", "technical", "simple"
PROMPT_N = "Prompt {n}"
NUMBER, PROMPT_TEXT, AS_TRUTH = "No.", "Wording", "Right"
ADD_PROMPT, REMOVE_PROMPT, MORE_PROMPTS = "Add a prompt", "Remove the last", "Add wordings by rule"
COMPARE_PROMPTS = "Compare"
SENSITIVITY_HINT = (
    "After Compare, here stand the answer to each wording, the maps side by side, and how far they differ: for two "
    "wordings and the embedded model on two free processor cores, within a few seconds."
)
MOST_PROMPTS = "No more than {most} prompts can be compared. Remove one first."
FEWEST_PROMPTS = "No fewer than {fewest} prompts can be compared. Change the wording of one instead."
BEST_METHOD = "best of this model's league"
NOTHING_COMPARED = "Nothing has been compared yet. Press Compare."
NO_TRUTH = "No ground truth: it is known only for an untouched stored pair of film and question."
TRUTH_OF = "Ground truth of “{question}”"
ANSWERS_CAPTION = "What the model says to each wording"
MAPS_CAPTION = "How far each map is from that of the first prompt (JS: Jensen-Shannon divergence in nats, 0 to 0.693)"
COMPARISON_PICTURE = "The maps of {count} prompts with one scale of colours, and the first less each other"
DIFFERENCE = "Difference to look at"
DIFFERENCE_VIEWER = "Difference of two maps"
DIFFERENCE_PICTURE = "First map less that of prompt {n}"
DIFFERENCE_READ = "Red: prompt 1 looked more there. Blue: prompt {n} did. White: no difference."
DIFFERENCE_HEADINGS = ("Cell", "Percentage points")
DIFFERENCE_CAPTION = "Where 1 and {n} differ most"
POINTS = "percentage points of all relevance"
MOVED = "{share:.1%} of all relevance lies elsewhere under prompt {n} than under prompt 1 (0%: the same map)."

# --- tab 4: faithfulness ---------------------------------------------------------------------------------------------

FAITHFULNESS_LEAD = (
    "Does the map show what the answer rests on? Validation removes and reveals cells and compares with random maps; "
    "sanity checks ask whether the map depends on what the model has learned."
)
RUN_VALIDATION, RUN_SANITY = "Run Validation", "Run Sanity Checks"
FAITHFULNESS_HINT = (
    "Here stand, after Run Validation, the answer's probability while cells go and come back, beside random maps; "
    "after Run Sanity Checks, what is left of the map when the model forgets; and the verdict. With the embedded model "
    "on two free processor cores the first takes about 10 s by the best method, the second about half a minute."
)
NOTHING_CHECKED = "Nothing has been checked yet. Press Run Validation or Run Sanity Checks."
NOT_VALIDATED = "not validated yet: press Run Validation"
NOT_ASKED = "Not asked"
CURVES_PICTURE = "Deletion and insertion curves of the map, beside random maps, its inverse and the centre"
SANITY_PICTURE = "Likeness to the trained model's map while the model's blocks become random, one after the other"
CHECKED_MAP = "The map that is judged, for: {question}"

# --- tab 5: trust ----------------------------------------------------------------------------------------------------

TRUST_LEAD = "Which methods' maps of the loaded model find the cause of its answers, beside chance and controls?"
NO_LEAGUE = (
    "No league of {model} is there, so nobody knows which of its maps to believe. Measure one below on a few cases, or "
    "for good: {command}"
)
OF_THIS_MODEL = "This league is of this very model; it says nothing about another."
LEAGUE_CAPTION = (
    "Methods by rank; means with 95 % intervals, a missing map counting as chance. Press a heading to sort."
)
LEAGUE_COLUMNS = (
    ("Rank", "Place by mean rank; a method shares it with the better one where their difference may be chance."),
    ("Mean rank", "Mean of the method's places in the columns of pointing, mass, relevance rank, ROC-AUC and SRG."),
    (
        "Sanity",
        "Whether the map goes when all weights are random, on a few cases; |ρ| is how alike the two maps stay. It "
        "fails where at least half of the cases that decide stay above 0.1 and above the two maps shifted against each "
        "other. A smooth method may therefore pass with a larger |ρ| than that of one that fails.",
    ),
    ("Forward passes", "What a map costs beside the answer, on average."),
    ("Maps", "Cases with a map; a missing one counts as chance."),
)
CHANCE = "Chance"
CONTROL, DEFAULT = " (control)", " (the specification's default)"
NO_REGIONS = "No case here has a known region, so that no map can be called good or bad by one. Load such a set."
EXAMPLES = (
    "{method}: the best and the worst by ROC-AUC (chance 0.5) of {number} cases with a known region, made just now; "
    "cyan: the region."
)
NO_COMMAND_EXAMPLES = (
    "No command picks the best and the worst; each of these maps has its own. The table holds what stands under them."
)
METHOD_TO_SEE, SHOW_EXAMPLES = "Method", "Show best and worst cases"
COLUMN_TO_DRAW = "Column as a picture"
COLUMNS_MEAN = "What the columns mean"
MEASURE_TITLE = "Measure now"
MEASURE_TELLS = (
    "A league on a few cases drawn by lot, for you alone until you leave; the command line keeps one for everybody."
)
CASES_TO_MEASURE, METHODS_TO_MEASURE, SANITY_CASES = "Cases", "Methods", "Cases with sanity checks"
MEASURE = "Measure"

# --- tab 6: about ----------------------------------------------------------------------------------------------------

#: Name -> heading and paragraphs.
ABOUT = {
    "what": (
        "What this is",
        "It asks a medical vision-language model about a chest radiograph, shows where the model looked, and measures "
        "that picture against truth and chance. A map is a claim about cause, so every number stands beside the value "
        "that a map reaches which knows nothing.",
        "The verdict of a map is one of three. Trust: nothing speaks against it, which does not say that the answer is "
        "right. With care: something was not asked or is undecided. Do not trust: the map does not depend on what the "
        "model has learned, misses better than chance, or explains an answer that means nothing.",
    ),
    "limits": (
        "Limits",
        "Research use only, not for clinical use. Neither answers nor maps have been validated for any clinical "
        "purpose, and nothing here diagnoses.",
        "The embedded model knows simulated films only; about any other picture its answer means nothing, and the page "
        "says so. A league of methods counts for the model that it was measured on and for no other.",
        "Attention shows where a model reads, not why it answers; a heatmap can look right and be wrong. Numbers of "
        "faithfulness depend on what stands in for removed cells, so two stand-ins must agree.",
    ),
    "privacy": (
        "What becomes of your films",
        "They stay in this server's memory for as long as your page is open, are shown to nobody else, and are never "
        "sent anywhere. Nothing is kept of what you asked. Data under an agreement, such as MIMIC-CXR, may only be "
        "opened on a machine that the agreement allows.",
    ),
    "licences": (
        "Licences and how to cite",
        "The program is under the Apache License 2.0. The embedded films are simulated from one deformed chest CT; the "
        "sources are named in NOTICE. MedGemma's weights are under Google's Health AI Developer Foundations terms and "
        "are not part of this program.",
        "Please cite MedGemma Visualizer with its version, and the paper of each method and metric that you report; "
        "they are named below and in docs/metrics.md.",
    ),
}
METRIC_HEADINGS = ("Metric", "What it says", "Better", "Chance")
METRICS_CAPTION = "What each number means"
METRICS = (
    ("inside_body_ratio", "share of the map inside the body", "higher", "the body's share of the film"),
    ("border_fraction", "share of the map in the outermost ring of cells", "lower", "the ring's share of cells"),
    ("attention_entropy", "how far the map is spread, in nats", "lower", "that of a uniform map, ln N"),
    ("normalized_entropy", "the same, from 0 (one cell) to 1 (uniform)", "lower", "1"),
    ("peak_to_mean", "the hottest cell over the mean", "higher", "1"),
    ("gini", "how unevenly the map is spread, 0 (uniform) to almost 1 (one cell)", "–", "0"),
    ("regional_focus", "the quadrant with the largest mean", "–", "–"),
    ("left_fraction, right_fraction", "share of the map in that half of the image, not of the patient", "–", "0.5"),
    ("apical_fraction, middle_fraction, basal_fraction", "share of the map in that third of the height", "–", "1/3"),
    (
        "pointing_game",
        "whether the hottest cell lies in the known region (hit or miss)",
        "higher",
        "the region's share",
    ),
    ("relevance_mass", "share of the map in the known region", "higher", "the region's share"),
    ("relevance_rank", "share of the hottest cells in the region, as many as it has", "higher", "the region's share"),
    ("roc_auc", "how often a cell of the region is hotter than another", "higher", "0.5"),
    ("average_precision", "precision averaged over recall, hottest cells first", "higher", "the region's share"),
    ("iou_otsu", "overlap of the region with the map cut in two at Otsu's threshold", "higher", "–"),
    ("hit_rate", "whether the hottest pixel lies in the known region", "higher", "the region's share"),
    ("js_divergence", "how far two maps differ, in nats, 0 to 0.693", "lower", "other films and findings, beside it"),
    ("spatial_stability", "overlap of the hottest tenth of two maps", "higher", "about 0.05"),
    ("spearman, pearson", "correlation of two maps, by rank and by value", "higher", "0"),
    ("cosine, ssim", "likeness of two maps, as vectors and as pictures", "higher", "–"),
    ("answer_consistency", "share of wordings with the commonest answer", "higher", "–"),
    ("deletion_auc", "the answer's probability while the hottest cells go first", "lower", "random maps"),
    ("insertion_auc", "the same while the hottest cells come first", "higher", "random maps"),
    (
        "deletion_auc_spec, insertion_auc_spec",
        "as the specification writes them: the drop, and the probability, at six shares of the cells",
        "higher",
        "random maps",
    ),
    ("srg", "least relevant first less most relevant first (symmetric relevance gain)", "higher", "0"),
    ("comprehensiveness", "what the answer loses without the hottest cells", "higher", "random maps"),
    ("sufficiency", "what the answer loses with the hottest cells alone", "lower", "random maps"),
    (
        "comprehensiveness_spec, sufficiency_spec",
        "as the specification writes them: the share lost without, and kept with, the hottest fifth alone",
        "higher",
        "random maps",
    ),
    ("infidelity", "how badly the map foretells what random removals change", "lower", "random maps"),
    (
        "faithfulness_correlation",
        "correlation of the map's sums over random cells with their drops",
        "higher",
        "random maps",
    ),
    ("prior", "the answer's probability with the whole picture masked: what the words alone give", "–", "–"),
    (
        "randomisation_spearman",
        "likeness of the map to that of a model with random weights; passed at 0.1 or less, and where the two maps "
        "shifted against each other are as alike (p of 0.05 or more)",
        "lower",
        "shifted maps",
    ),
    ("randomisation_ssim", "the same likeness, as of pictures", "lower", "–"),
    ("randomisation_output_change", "how far random weights move the target's score", "–", "–"),
    ("random_target_opposite", "likeness of the map to that for the opposite answer; 1: the same map", "lower", "–"),
    ("random_target_other", "likeness of the map to that for another question", "lower", "–"),
    ("text_dependence", "whether another question has another map, beside what the method declares", "–", "–"),
    ("token_order", "share of cells whose own image token answers to a change; all must", "higher", "1/N"),
    ("quadrant_test", "share of the map in the only bright quadrant; reported, not required", "higher", "1/4"),
    ("p(yes)", "probability of yes beside that of no; 0.5 where the model is undecided", "–", "–"),
)
METHOD_HEADINGS = ("Method", "Cost beyond the answer", "Needs", "Depends on the question", "Paper")
METHODS_CAPTION = "The methods"
VERSIONS = "Versions"
