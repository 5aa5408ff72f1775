"""The course, for every nbgrader command that is run in this folder."""

import warnings

# nbgrader lets SQLAlchemy flush a submission that it has half made, and goes on to add it.
warnings.filterwarnings("ignore", message="Object of type <Submitted", module="nbgrader|sqlalchemy")

c = get_config()  # noqa: F821

c.CourseDirectory.course_id = "attention"

# Release: cells for the book alone go first; cleared metadata makes regeneration byte-identical.
c.GenerateAssignment.preprocessors = [
    "autograder.release.CheckMarkers",
    "autograder.release.TellHowToInstall",
    "nbconvert.preprocessors.TagRemovePreprocessor",
    "nbconvert.preprocessors.ClearMetadataPreprocessor",
    "nbgrader.preprocessors.LockCells",
    "nbgrader.preprocessors.ClearSolutions",
    "nbgrader.preprocessors.ClearOutput",
    "nbgrader.preprocessors.CheckCellMetadata",
    "nbgrader.preprocessors.ComputeChecksums",
    "nbgrader.preprocessors.SaveCells",
    "nbgrader.preprocessors.ClearHiddenTests",
    "nbgrader.preprocessors.ComputeChecksums",
    "nbgrader.preprocessors.CheckCellMetadata",
]
c.TagRemovePreprocessor.enabled = True
c.TagRemovePreprocessor.remove_cell_tags = ["book-only"]
c.ClearMetadataPreprocessor.enabled = True
c.ClearMetadataPreprocessor.preserve_cell_metadata_mask = ["nbgrader"]
c.ClearMetadataPreprocessor.preserve_nb_metadata_mask = [
    "autograder",
    "kernelspec",
    ("language_info", "name"),
]
c.ClearSolutions.code_stub = {"python": "# YOUR CODE HERE\nraise NotImplementedError"}

# Collecting: the name in front of the notebook's, or of the folder it lies in, is the student's.
# `student01_p01_x.ipynb`, `student01/p01_x.ipynb`, and what Canvas and Moodle make of these.
c.FileNameCollectorPlugin.named_regexp = (
    r".*?/?(?P<student_id>[^/_]+)(_[^/]*?)?(/p\d\d_[^/]+)?[/_]"
    r"(?P<file_id>p\d\d_[^/]+?)(-\d+)?\.ipynb$"
)

# Grading: what came in damaged is repaired first. The engine executes, in the place of nbgrader's
# own executor; all else is nbgrader's.
c.Autograde.exporter_class = "autograder.incoming.Exporter"
c.Autograde.sanitize_preprocessors = [
    "autograder.repair.Repair",
    "nbgrader.preprocessors.ClearOutput",
    "nbgrader.preprocessors.DeduplicateIds",
    "nbgrader.preprocessors.OverwriteKernelspec",
    "nbgrader.preprocessors.OverwriteCells",
    "nbgrader.preprocessors.CheckCellMetadata",
]
c.Autograde.autograde_preprocessors = [
    "autograder.executor.Executor",
    "nbgrader.preprocessors.IgnorePattern",
    "nbconvert.preprocessors.ClearMetadataPreprocessor",
    "nbgrader.preprocessors.LimitOutput",
    "nbgrader.preprocessors.SaveAutoGrades",
    "nbgrader.preprocessors.AssignLatePenalties",
    "nbgrader.preprocessors.CheckCellMetadata",
]
# A graded cell that the student deleted comes back.
c.OverwriteCells.add_missing_cells = True
# Seconds for one cell.
c.Executor.timeout = 120

# Feedback: what a hidden check is stays hidden, also in tracebacks.
c.GenerateFeedback.preprocessors = [
    "nbgrader.preprocessors.GetGrades",
    "autograder.feedback.HideChecks",
    "autograder.feedback.TellRepairs",
    "nbconvert.preprocessors.CSSHTMLHeaderPreprocessor",
]
