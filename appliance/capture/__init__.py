"""The capture process: microphones in, blocks out."""
