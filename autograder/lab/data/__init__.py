"""Data that need no download: generated with a seed, or read from installed packages.

Each loader gives a train and a test part, and takes the path of a full public data set instead.
"""

from autograder.lab.data.bert import pretrained_bert
from autograder.lab.data.days import dates
from autograder.lab.data.dialogues import booking_dialogues
from autograder.lab.data.digits import digits
from autograder.lab.data.documentation import docstrings
from autograder.lab.data.films import ratings
from autograder.lab.data.reference import python_reference
from autograder.lab.data.scenes import digit_scenes, stamped_digits
from autograder.lab.data.speech import spoken_digits
from autograder.lab.data.vocabulary import ASCII, Vocabulary

__all__ = [
    "ASCII",
    "Vocabulary",
    "booking_dialogues",
    "dates",
    "digit_scenes",
    "digits",
    "docstrings",
    "pretrained_bert",
    "python_reference",
    "ratings",
    "spoken_digits",
    "stamped_digits",
]
