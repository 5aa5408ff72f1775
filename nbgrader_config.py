"""The course, for every nbgrader command that is run in this folder."""

c = get_config()  # noqa: F821

c.CourseDirectory.course_id = "attention"

# Release: cells for the book alone go first; cleared metadata makes regeneration byte-identical.
c.GenerateAssignment.preprocessors = [
    "autograder.release.CheckMarkers",
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
c.ClearMetadataPreprocessor.preserve_nb_metadata_mask = ["kernelspec", ("language_info", "name")]
c.ClearSolutions.code_stub = {"python": "# YOUR CODE HERE\nraise NotImplementedError"}

# Grading: a graded cell that the student deleted comes back, a cell may run for two minutes.
c.OverwriteCells.add_missing_cells = True
c.ExecutePreprocessor.timeout = 120
c.Execute.timeout = 120

# Feedback: what a hidden check is stays hidden, also in tracebacks.
c.GenerateFeedback.preprocessors = [
    "nbgrader.preprocessors.GetGrades",
    "autograder.feedback.HideChecks",
    "nbconvert.preprocessors.CSSHTMLHeaderPreprocessor",
]
