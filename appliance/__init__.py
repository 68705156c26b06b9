"""A private voice assistant: separate processes, shared-memory audio rings, no network."""

__version__ = "0.1.0"
