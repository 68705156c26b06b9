"""A private voice assistant: separate processes, shared-memory audio rings, no network."""
