"""How likely each frame was speech, kept for a few seconds so that the panel can show it.

It costs the audio path one entry in a list per frame, and a message per pause.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from appliance.messages import Message, SpeechEnded, SpeechPaused, SpeechScores
from appliance.vad import detector as detection
from appliance.vad.detector import DetectorSettings, SpeechDetector
from appliance.vad.engine import FRAME_SAMPLES, SAMPLE_RATE_HZ

KEPT_FRAMES = 15 * SAMPLE_RATE_HZ // FRAME_SAMPLES
CERTAIN = 255
_NS_PER_SAMPLE = 1_000_000_000 // SAMPLE_RATE_HZ


class ScoredDetector(SpeechDetector):
    """A detector that remembers what it was told of the last 15 s."""

    def __init__(self, settings: DetectorSettings) -> None:
        super().__init__(settings)
        self._scores: deque[int] = deque(maxlen=KEPT_FRAMES)
        """Since they were asked for last."""
        self._scores_end = 0
        self._scores_start = 0
        """First sample of the segment that paused or ended last."""

    def step(
        self, position: int, probability: float, level_db: float
    ) -> list[detection.SpeechEvent]:
        """As in `SpeechDetector`."""
        if missing := (position - self._scores_end) // FRAME_SAMPLES:
            self._scores.extend([0] * min(missing, KEPT_FRAMES))
        self._scores.append(round(CERTAIN * probability))
        self._scores_end = position + FRAME_SAMPLES
        events = super().step(position, probability, level_db)
        for event in events:
            if isinstance(event, detection.SpeechPaused | detection.SpeechEnded):
                self._scores_start = event.start
        return events

    def told(self, messages: Sequence[Message]) -> SpeechScores | None:
        """What there is to tell the panel: at a pause or an end, else nothing.

        Args:
            messages: that the frames since the last call have led to.
        """
        pauses = [m for m in messages if isinstance(m, SpeechPaused | SpeechEnded)]
        if not pauses:
            return None
        scores = tuple(self._scores)
        self._scores.clear()
        after_start_ns = (self._scores_end - self._scores_start) * _NS_PER_SAMPLE
        return SpeechScores(
            session_id=pauses[-1].session_id,
            scores=scores,
            end_ns=pauses[-1].speech_start_ns + after_start_ns,
            frame_ms=FRAME_SAMPLES * 1000 / SAMPLE_RATE_HZ,
            start_threshold=self._settings.start_threshold,
            stop_threshold=self._settings.stop_threshold,
        )
