"""Model files: where they come from, whether they are intact, and how they are converted."""
