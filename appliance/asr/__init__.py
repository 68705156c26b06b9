"""Speech to text: one protocol, three engines on the same Whisper weights, a guard above them."""
