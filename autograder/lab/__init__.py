"""What notebooks import: checks that teach, plots, data and training. No solution, no grading."""
