"""Makes any text fit for speech: cleaned, cut into sentences, read in a language. Pure."""
