"""Where cases come from: pictures and questions, read whole or refused in one sentence.

Knows files, formats and the columns of question files; knows nothing about models or maps.
"""

from medgemma_visualizer.data.inputs import check_question, check_target, validate_inputs
from medgemma_visualizer.data.photo import grayscale, open_image, picture
from medgemma_visualizer.data.questions import LeftOut, QuestionSet, read_questions
from medgemma_visualizer.data.sources import is_demo_film, load_cases

__all__ = [
    "LeftOut",
    "QuestionSet",
    "check_question",
    "check_target",
    "grayscale",
    "is_demo_film",
    "load_cases",
    "open_image",
    "picture",
    "read_questions",
    "validate_inputs",
]
