"""The admin process: the panel, its API and the health of everything."""
