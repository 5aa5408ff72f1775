"""Errors that the lab raises on purpose: what was expected, what came, what to do."""


class LabError(Exception):
    """Base of all."""


class DataError(LabError):
    """A file or a package with data is missing, damaged or of another kind."""


class TrainingError(LabError):
    """A training run cannot go on."""


class WeightsError(LabError):
    """Weights do not fit the model."""
