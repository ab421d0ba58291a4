"""What a learner works with: exercises, predictions, widgets, progress, and copies of the chapters."""
