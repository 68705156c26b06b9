"""The tts process: synthesis and playback."""
