"""Speech by the espeak-ng program: robotic, tiny, instant. The fallback, and a second engine."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import wave
from collections.abc import Callable, Iterator

import numpy as np

from appliance.tts.engine import Audio, Rendered, TtsError
from appliance.tts.words import by_weight

_TIMEOUT_S = 20
_WORDS_PER_MINUTE = 175
"""espeak-ng's own speed."""
_SOUND = re.compile(r"[^\W\d_]|[@03]")
"""A letter of espeak-ng's phoneme mnemonics, which are ASCII, without its stress marks."""


class EspeakEngine:
    """`TtsEngine` that runs one `espeak-ng` process per text.

    Args:
        voice: a voice of `espeak-ng --voices`, for example `en-us`.

    Raises:
        TtsError: espeak-ng is not installed or does not know the voice.
    """

    problem = ""

    def __init__(self, voice: str = "en-us") -> None:
        program = shutil.which("espeak-ng")
        if program is None:
            raise TtsError("espeak-ng is not installed: run 'sudo apt install espeak-ng'")
        self._voice = voice
        self._command = [program, "-v", voice, "-b", "1"]
        self._rate_hz, _ = self._speak("a")

    @property
    def rate_hz(self) -> int:
        """See `TtsEngine.rate_hz`."""
        return self._rate_hz

    @property
    def language(self) -> str:
        """See `TtsEngine.language`."""
        return self._voice

    def synthesise(
        self, text: str, *, cancelled: Callable[[], bool], speed: float = 1.0
    ) -> Iterator[Rendered]:
        """See `TtsEngine.synthesise`; the whole text is one stretch."""
        if cancelled() or not any(symbol.isalnum() for symbol in text):
            return
        _, audio = self._speak(text, speed)
        if audio.size:
            yield Rendered(audio, True, by_weight(self._sounds(text.split()), audio, self._rate_hz))

    def interrupt(self) -> None:
        """See `TtsEngine.interrupt`; espeak-ng takes some 10 ms, so it is left to finish."""

    def close(self) -> None:
        """See `TtsEngine.close`; nothing is held between texts."""

    def _speak(self, text: str, speed: float = 1.0) -> tuple[int, Audio]:
        try:
            rate = str(round(speed * _WORDS_PER_MINUTE))
            return _decode(self._run(text, "--stdout", "-s", rate))
        except (wave.Error, EOFError, ValueError) as error:
            raise TtsError(f"espeak-ng failed: {error}") from error

    def _sounds(self, words: list[str]) -> list[int]:
        """Of each word, roughly; "1969" has 18."""
        pronounced = self._run("\n\n".join(words), "-qx").decode(errors="replace").split("\n\n")
        if len(pronounced) < len(words):
            pronounced = words
        return [len(_SOUND.findall(word)) for word in pronounced[: len(words)]]

    def _run(self, text: str, *options: str) -> bytes:
        try:
            return subprocess.run(
                [*self._command, *options],
                input=text.encode(),
                capture_output=True,
                timeout=_TIMEOUT_S,
                check=True,
            ).stdout
        except subprocess.CalledProcessError as error:
            reason = error.stderr.decode(errors="replace").strip().replace("\n", "; ")
            raise TtsError(f"espeak-ng failed: {reason}; check [tts] voice") from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise TtsError(f"espeak-ng failed: {error}") from error


def _decode(data: bytes) -> tuple[int, Audio]:
    """Rate and samples of the WAV that espeak-ng streams (its header's length is a placeholder)."""
    with wave.open(io.BytesIO(data)) as wav:
        rate_hz = wav.getframerate()
        header = data.index(b"data") + 8
    samples = np.frombuffer(data[header : header + (len(data) - header) // 2 * 2], dtype="<i2")
    return rate_hz, (samples / 32768).astype(np.float32)
