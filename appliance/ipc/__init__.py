"""How the processes share audio and talk: rings in shared memory, messages over ZeroMQ."""
