"""Finding passages; for now, how good a ranking is (`metrics`)."""
