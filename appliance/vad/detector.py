"""From frame probabilities to speech segments: a pure four-state machine.

``quiet -> starting -> speaking -> stopping -> quiet``, after Pipecat's ``vad_analyzer`` (BSD-2),
with three differences. Onset counts probability mass in a window, not consecutive frames, so that
"no" or "stop" is a turn while clicks are not. A pause is announced long before the end of the
segment, so that others may work ahead. A long segment is split at its quietest frame.

Positions are sample indices of the stream at 16 kHz; ends are exclusive. The output is a function
of the input alone, so a successor that replays the last seconds of a ring, from any multiple of
``FRAME_SAMPLES`` that lies in silence, decides the same at the same positions. Every event says
with ``decided_at`` when it was known: a replayer drops what its predecessor has told already.
"""

import enum
import math
from collections import deque
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from appliance.vad.engine import FRAME_SAMPLES, SAMPLE_RATE_HZ

_FLOOR_DB = -120.0
_SMOOTHING_FRAMES = 5
"""160 ms: a pause between words is longer than the closure of a plosive inside one."""


@dataclass(frozen=True, slots=True)
class DetectorSettings:
    """When speech begins, pauses and ends. Times are of audio, not of the clock on the wall."""

    sure_threshold: float = 0.9
    """A frame at or above this probability is a voice and nothing else: music, coughs and applause
    in 30 recordings stayed below 0.8."""
    start_threshold: float = 0.5
    """A frame at or above this probability may begin speech or resume it."""
    stop_threshold: float = 0.35
    """A frame below this probability is silence."""
    onset_ms: int = 250
    """Speech needed for a new segment, weighted by probability."""
    onset_window_ms: int = 500
    """The onset's speech must fall in a window of this length."""
    short_word_ms: int = 96
    """An isolated burst shorter than the onset is a word from this weighted length on..."""
    short_word_peak: float = 0.9
    """...if its best frame is at least this certain. Bursts of noise stay below 0.2."""
    pre_roll_ms: int = 300
    """The segment begins this long before the first speech frame: the detector lags at onsets."""
    post_roll_ms: int = 200
    """Audio given to recognition after the last speech frame: soft endings score low."""
    gap_ms: int = 64
    """Silence inside what may be the beginning of speech, at most."""
    pause_ms: int = 32
    """Silence after which ``SpeechPaused`` is announced."""
    resume_ms: int = 64
    """Speech, weighted by probability, that resumes a paused segment."""
    end_ms: int = 800
    """Silence after which the segment ends whatever anybody else thinks."""
    max_segment_s: float = 28.0
    """A longer segment is split: Whisper hears 30 s at once."""
    split_search_s: float = 8.0
    """The split is at the quietest frame of this last stretch."""

    def __post_init__(self) -> None:
        if not 0.0 < self.stop_threshold <= self.start_threshold < 1.0:
            raise ValueError("0 < stop_threshold <= start_threshold < 1 must hold")
        if not 0 < self.pause_ms <= self.end_ms:
            raise ValueError("0 < pause_ms <= end_ms must hold")
        if not self.short_word_ms <= self.onset_ms <= self.onset_window_ms:
            raise ValueError("short_word_ms <= onset_ms <= onset_window_ms must hold")
        if self.split_search_s * 2 > self.max_segment_s:
            raise ValueError("split_search_s must be at most half of max_segment_s")


class State(enum.Enum):
    """What the detector believes right now; ``STARTING`` is the earliest hint of speech."""

    QUIET = "quiet"
    STARTING = "starting"
    SPEAKING = "speaking"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """Somebody speaks. ``start`` names the segment in all later events about it."""

    start: int
    """First sample of the segment, pre-roll included."""
    decided_at: int
    continuation: bool = False
    """The segment before was split here: the speaker never stopped."""


@dataclass(frozen=True, slots=True)
class SpeechPaused:
    """The speaker fell silent; the segment may go on or end."""

    start: int
    end: int
    """One past the last speech sample (frame resolution, 32 ms)."""
    audio_end: int
    """One past the last sample worth recognising: ``end`` plus post-roll, as far as heard."""
    decided_at: int
    voiced: int = 0
    """Samples of it that are surely a voice."""


@dataclass(frozen=True, slots=True)
class SpeechResumed:
    """The speaker goes on after a ``SpeechPaused``: what was concluded from it is void."""

    start: int
    resumed_at: int
    """First speech sample after the pause."""
    decided_at: int


@dataclass(frozen=True, slots=True)
class SpeechEnded:
    """The segment is complete: ``start`` to ``audio_end``."""

    start: int
    end: int
    audio_end: int
    decided_at: int
    reason: Literal["silence", "split", "flush"]
    voiced: int = 0
    """As in ``SpeechPaused``; a split's count in what follows it."""


SpeechEvent = SpeechStarted | SpeechPaused | SpeechResumed | SpeechEnded


def frame_level_db(frame: NDArray[np.float32]) -> float:
    """Return the RMS level of ``frame`` in dB relative to full scale, at least -120."""
    power = float(np.dot(frame, frame)) / len(frame)
    return max(_FLOOR_DB, 10.0 * math.log10(power)) if power > 0.0 else _FLOOR_DB


class _Frame(NamedTuple):
    begin: int
    end: int
    probability: float

    @property
    def mass(self) -> float:
        return (self.end - self.begin) * self.probability


def _samples(milliseconds: float) -> int:
    return round(milliseconds * SAMPLE_RATE_HZ / 1000)


class SpeechDetector:
    """Turns the frames of one stream into segments; feed it every frame in order."""

    def __init__(self, settings: DetectorSettings | None = None, position: int = 0) -> None:
        """Begin in silence at sample ``position``, before which no segment reaches back."""
        self._settings = settings or DetectorSettings()
        self._state = State.QUIET
        self._position = position
        self._earliest_start = position
        self._start = position
        self._speech_end = position
        self._paused = False
        self._voiced = 0
        self._evidence: deque[_Frame] = deque()
        """Frames that may be speech, not yet part of a segment."""
        self._levels: deque[tuple[int, float]] = deque()
        """Middle and level of each frame a split may choose."""

    @property
    def state(self) -> State:
        """What the detector believes after the last frame."""
        return self._state

    @property
    def open_segment(self) -> int | None:
        """The start of the segment that has not ended yet, if there is one."""
        return self._start if self._state in (State.SPEAKING, State.STOPPING) else None

    def step(self, position: int, probability: float, level_db: float) -> list[SpeechEvent]:
        """Take the frame of 512 samples that begins at ``position``; return what it decides.

        Frames that are missing before it (a reader was lapped) count as silence: nobody can
        recognise what they held.

        Raises:
            ValueError: the frame lies before one already seen.
        """
        if position < self._position:
            raise ValueError(f"frame at {position} comes after one that ends at {self._position}")
        events: list[SpeechEvent] = []
        if position > self._position:
            self._take(_Frame(self._position, position, 0.0), _FLOOR_DB, events)
        self._take(_Frame(position, position + FRAME_SAMPLES, probability), level_db, events)
        return events

    def flush(self) -> list[SpeechEvent]:
        """End an open segment now, because the stream ends here."""
        events: list[SpeechEvent] = []
        if self.open_segment is not None:
            self._end("flush", events)
        self._state = State.QUIET
        self._evidence.clear()
        return events

    def _take(self, frame: _Frame, level_db: float, events: list[SpeechEvent]) -> None:
        self._position = frame.end
        self._remember(frame, level_db)
        if self._state in (State.QUIET, State.STARTING):
            self._before_speech(frame, events)
        else:
            self._during_speech(frame, events)

    def _remember(self, frame: _Frame, level_db: float) -> None:
        self._levels.append(((frame.begin + frame.end) // 2, level_db))
        horizon = frame.end - _samples(self._settings.split_search_s * 1000)
        while self._levels and self._levels[0][0] < horizon:
            self._levels.popleft()
        if self._state is not State.SPEAKING and frame.probability >= self._settings.stop_threshold:
            self._evidence.append(frame)
            horizon = frame.end - _samples(self._settings.onset_window_ms)
            while self._evidence[0].begin < horizon:
                self._evidence.popleft()

    def _sure_samples(self, frame: _Frame) -> int:
        return frame.end - frame.begin if frame.probability >= self._settings.sure_threshold else 0

    def _mass_samples(self) -> float:
        return sum(frame.mass for frame in self._evidence)

    def _before_speech(self, frame: _Frame, events: list[SpeechEvent]) -> None:
        settings = self._settings
        if not self._evidence:
            return
        likely = any(f.probability >= settings.start_threshold for f in self._evidence)
        self._state = State.STARTING if likely else State.QUIET
        if likely and self._mass_samples() >= _samples(settings.onset_ms):
            self._begin(events)
        elif frame.end - self._evidence[-1].end >= _samples(settings.gap_ms):
            if self._is_short_word():
                self._begin(events)
                self._during_speech(frame, events)
            else:
                self._state = State.QUIET
                self._evidence.clear()

    def _is_short_word(self) -> bool:
        return (
            self._mass_samples() >= _samples(self._settings.short_word_ms)
            and max(f.probability for f in self._evidence) >= self._settings.short_word_peak
        )

    def _begin(self, events: list[SpeechEvent]) -> None:
        first = self._evidence[0].begin
        self._start = max(self._earliest_start, first - _samples(self._settings.pre_roll_ms))
        self._speech_end = self._evidence[-1].end
        self._voiced = sum(self._sure_samples(frame) for frame in self._evidence)
        self._evidence.clear()
        self._state = State.SPEAKING
        self._paused = False
        events.append(SpeechStarted(self._start, self._position))

    def _during_speech(self, frame: _Frame, events: list[SpeechEvent]) -> None:
        settings = self._settings
        self._voiced += self._sure_samples(frame)
        if self._state is State.SPEAKING and frame.probability < settings.stop_threshold:
            self._state = State.STOPPING
        elif self._state is State.STOPPING and frame.probability >= settings.start_threshold:
            self._try_resume(events)
        if self._state is State.SPEAKING:
            self._speech_end = frame.end
            if frame.end - self._start >= _samples(settings.max_segment_s * 1000):
                self._split(events)
            return
        silence = frame.end - self._speech_end
        if not self._paused and silence >= _samples(settings.pause_ms):
            self._paused = True
            events.append(
                SpeechPaused(
                    self._start,
                    self._speech_end,
                    self._audio_end(),
                    self._position,
                    self._voiced,
                )
            )
        if silence >= _samples(settings.end_ms):
            self._end("silence", events)
            self._state = State.QUIET

    def _try_resume(self, events: list[SpeechEvent]) -> None:
        """Go on at once within a short gap; after an announced pause only for real speech."""
        if self._paused:
            if self._mass_samples() < _samples(self._settings.resume_ms):
                return
            events.append(
                SpeechResumed(self._start, self._evidence[0].begin, self._position),
            )
        self._state = State.SPEAKING
        self._paused = False
        self._evidence.clear()

    def _audio_end(self) -> int:
        return min(self._speech_end + _samples(self._settings.post_roll_ms), self._position)

    def _end(self, reason: Literal["silence", "flush"], events: list[SpeechEvent]) -> None:
        """Close the segment; evidence that came after its audio may begin the next one."""
        audio_end = self._audio_end()
        events.append(
            SpeechEnded(
                self._start, self._speech_end, audio_end, self._position, reason, self._voiced
            )
        )
        self._earliest_start = audio_end

    def _split(self, events: list[SpeechEvent]) -> None:
        levels = np.array([level for _, level in self._levels])
        smoothed = np.convolve(
            np.pad(levels, _SMOOTHING_FRAMES // 2, mode="edge"),
            np.full(_SMOOTHING_FRAMES, 1.0 / _SMOOTHING_FRAMES),
            mode="valid",
        )
        cut = self._levels[int(np.argmin(smoothed))][0]
        events.append(SpeechEnded(self._start, cut, cut, self._position, "split"))
        events.append(SpeechStarted(cut, self._position, continuation=True))
        self._start = self._earliest_start = cut
