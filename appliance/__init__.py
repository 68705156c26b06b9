"""A private voice assistant: separate processes, shared-memory audio rings, no network."""

__version__ = "0.1.0"

import os

# Read when numpy is loaded. Its matrices here are small: a second thread only waits, at full speed
# (a transcription took twice the processor time, and no less of anybody's).
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
