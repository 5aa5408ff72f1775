"""Every error that this package raises on purpose."""


class AutograderError(Exception):
    """Base of all; its text says what was expected, what came and what to do."""


class CourseError(AutograderError):
    """The folders of the course do not fit together."""


class NotebookError(AutograderError):
    """A notebook is not in the form that the course needs."""


class AnswerError(AutograderError):
    """An entry of tests/answers cannot be applied to its problem."""


class GradingError(AutograderError):
    """A submission or a class cannot be graded."""


class IsolationError(GradingError):
    """This host cannot isolate student code."""
