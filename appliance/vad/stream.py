"""From ring blocks to speech messages: what the vad process does, without process or ring."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from appliance.audio.blocks import BLOCK_SAMPLES, RATE_HZ, Samples
from appliance.ipc.audio_ring import Block
from appliance.messages import (
    Company,
    Message,
    NearEnd,
    SpeechAside,
    SpeechContinued,
    SpeechEnded,
    SpeechEvent,
    SpeechPaused,
    SpeechResumed,
    SpeechStarted,
)
from appliance.vad import detector as detection
from appliance.vad.detector import SpeechDetector, State
from appliance.vad.direction import apart_deg
from appliance.vad.engine import FRAME_SAMPLES, VoiceDetector
from appliance.vad.near_end import NearEndReflex
from appliance.vad.talker_end import talker_end
from appliance.vad.timeline import Timeline
from appliance.vad.turn_audio import TurnAudio

ANNOUNCED_BLOCKS = 2
"""So many of the newest blocks an announcement's direction is about."""
CONTINUED_SAMPLES = RATE_HZ // 3
"""`SpeechContinued` comes so often while speech lasts."""
_LATELY_SAMPLES = RATE_HZ // 2
"""`SpeechContinued` says where this much of the newest speech came from."""
_ASIDE_SAMPLES = RATE_HZ // 2
"""So much speech makes a `SpeechAside`."""
_ASIDE_SPEECH = 0.5
_SAME_DEG = 30.0
"""So near to each other, two directions are one."""
_BEFORE_SEGMENT_SAMPLES = RATE_HZ // 2
"""So much before a segment tells what the noise is like."""
_BEFORE_ONSET_SAMPLES = RATE_HZ // 5
"""The reflex lags at soft onsets."""


def without_stale(messages: Sequence[Message]) -> list[Message]:
    """Of a backlog that is told at once, what is still news, in order.

    What was said is told whole; that somebody seemed to speak, or went on, only as it is now.
    """
    kept: list[Message] = []
    reflex_told = speech_told = False
    for message in reversed(messages):
        match message:
            case NearEnd() if reflex_told:
                continue
            case SpeechContinued() if speech_told:
                continue
        reflex_told |= isinstance(message, NearEnd)
        speech_told |= isinstance(message, SpeechEvent)
        kept.append(message)
    return kept[::-1]


class SpeechStream:
    """One session's stream: feed it blocks in order, publish what it returns."""

    def __init__(
        self,
        session_id: str,
        detector: SpeechDetector,
        voice: VoiceDetector,
        reflex: NearEndReflex | None = None,
    ) -> None:
        self._session_id = session_id
        self._detector = detector
        self._voice = voice
        self._reflex = reflex or NearEndReflex()
        self._timeline = Timeline()
        self._turn = TurnAudio()
        self._belief = 0.0
        """Integral of the near-end belief over the samples of the frame so far."""
        self._frame = np.zeros(FRAME_SAMPLES, np.float32)
        self._filled = 0
        self._frame_begin = 0
        self._pause: tuple[int, int] = (0, 0)
        """Where the latest pause began for the detector, and when for its talker."""
        self._told_at = 0
        """Where the segment's latest message was sent."""
        self._company = Company(session_id=session_id, partner_deg=None, engaged=False)
        self._aside_samples = 0
        """Of speech aside that nobody was told of."""
        self._frame_aside = False
        self._far_end_met = False
        """Whether the loudspeaker played since the reflex's alarm."""

    def step(
        self,
        blocks: Sequence[Block],
        *,
        direction_deg: float | None = None,
        far_end_active: bool = False,
        aside: bool = False,
    ) -> list[Message]:
        """Take new blocks, in order; blocks that are missing between them count as silence.

        Args:
            blocks: as the ring's reader gives them.
            direction_deg: where the newest of them came from, as announced.
            far_end_active: whether the loudspeaker played meanwhile, as announced.
            aside: whether only others than the partner were heard, as announced.
        """
        unwanted = aside and self._is_unwanted(direction_deg)
        messages: list[Message] = []
        first_announced = len(blocks) - ANNOUNCED_BLOCKS
        for index, block in enumerate(blocks):
            level_db = detection.frame_level_db(block.samples)
            number = self._timeline.add(
                block, level_db, direction_deg if index >= first_announced else None
            )
            position = number * BLOCK_SAMPLES
            self._turn.add(position, block.samples, far_end_active=far_end_active)
            was_active = self._reflex.active
            near_end = 0.0 if unwanted else block.near_end
            self._reflex.take_block(position, level_db, near_end, far_end_active=far_end_active)
            self._frame_aside = unwanted
            speech = self._take(position, block, near_end)
            self._far_end_met = far_end_active or (was_active and self._far_end_met)
            if self._reflex.active is not was_active:
                messages.append(self._near_end(position + BLOCK_SAMPLES))
            messages += speech
        return messages

    def company(self, message: Company) -> None:
        """Know from now on who is in the conversation, and leave the others out."""
        self._company = message

    def _is_unwanted(self, direction_deg: float | None) -> bool:
        """Whether what comes from elsewhere than the partner is not for the appliance."""
        company = self._company
        if direction_deg is None:
            return False
        if company.engaged and company.partner_deg is not None:
            return apart_deg(direction_deg, company.partner_deg) > _SAME_DEG
        return any(apart_deg(direction_deg, deg) <= _SAME_DEG for deg in company.background_deg)

    def turn_so_far(self) -> Samples:
        """The sound of the turn up to the newest block, (n,), its last 8 s at most."""
        return self._turn.so_far()

    def _take(self, position: int, block: Block, near_end: float) -> list[Message]:
        samples = block.samples
        messages: list[Message] = []
        if self._filled and position != self._frame_begin + self._filled:
            self._filled = 0  # what a loss cut off cannot be judged
        taken = 0
        while taken < len(samples):
            if self._filled == 0:
                self._frame_begin = position + taken
                self._belief = 0.0
            n = min(FRAME_SAMPLES - self._filled, len(samples) - taken)
            self._frame[self._filled : self._filled + n] = samples[taken : taken + n]
            self._filled += n
            self._belief += n * near_end
            taken += n
            if self._filled == FRAME_SAMPLES:
                self._filled = 0
                messages += self._judge_frame()
        return messages

    def _judge_frame(self) -> list[Message]:
        # what an echo canceller leaves still sounds like speech, but nobody speaks
        sounds = self._voice.probability(self._frame)
        probability = sounds * self._belief / FRAME_SAMPLES
        level_db = detection.frame_level_db(self._frame)
        begin, end = self._frame_begin, self._frame_begin + FRAME_SAMPLES
        self._reflex.take_frame(begin, end, probability)
        events = self._detector.step(begin, probability, level_db)
        messages = [self._message(event) for event in events]
        if self._frame_aside and sounds >= _ASIDE_SPEECH:
            messages += self._note_aside(end)
        start = self._detector.open_segment
        if events:
            self._told_at = end
        elif (
            start is not None
            and self._detector.state is State.SPEAKING
            and end - self._told_at >= CONTINUED_SAMPLES
        ):
            self._told_at = end
            messages.append(
                SpeechContinued(
                    session_id=self._session_id,
                    utterance_id=self._timeline.utterance_id(start),
                    spans=self._timeline.spans(start, end),
                    speech_start_ns=self._timeline.time_ns(start),
                    decided_ns=self._timeline.time_ns(end),
                    direction_deg=self._timeline.direction_deg(
                        max(start, end - _LATELY_SAMPLES), end
                    ),
                )
            )
        return messages

    def _note_aside(self, end: int) -> list[Message]:
        """Somebody speaks who is not listened to: tell of it now and then."""
        self._aside_samples += FRAME_SAMPLES
        if self._aside_samples < _ASIDE_SAMPLES:
            return []
        voiced_ms, self._aside_samples = self._aside_samples * 1000 / RATE_HZ, 0
        direction_deg = self._timeline.direction_deg(max(0, end - _ASIDE_SAMPLES), end)
        if direction_deg is None:
            return []
        return [
            SpeechAside(
                session_id=self._session_id, direction_deg=direction_deg, voiced_ms=voiced_ms
            )
        ]

    def _near_end(self, end: int) -> NearEnd:
        begin = max(0, self._reflex.onset - _BEFORE_ONSET_SAMPLES)
        return NearEnd(
            session_id=self._session_id,
            active=self._reflex.active,
            onset_ns=self._timeline.time_ns(self._reflex.onset),
            far_end_active=self._far_end_met,
            spans=() if self._reflex.active else self._timeline.spans(begin, end),
        )

    def _message(self, event: detection.SpeechEvent) -> Message:
        line, session_id = self._timeline, self._session_id
        utterance_id, start_ns = line.utterance_id(event.start), line.time_ns(event.start)
        decided_ns = line.time_ns(event.decided_at)
        match event:
            case detection.SpeechStarted():
                self._turn.begin(event.start)
                return SpeechStarted(
                    session_id=session_id,
                    utterance_id=utterance_id,
                    spans=line.spans(event.start, event.decided_at),
                    speech_start_ns=start_ns,
                    decided_ns=decided_ns,
                    direction_deg=line.direction_deg(event.start, event.decided_at),
                )
            case detection.SpeechPaused():
                speech_end_ns = line.speech_end_ns(event.start, event.end)
                self._pause = event.end, self._talker_end_ns(event.start, speech_end_ns)
                return SpeechPaused(
                    session_id=session_id,
                    utterance_id=utterance_id,
                    spans=line.spans(event.start, event.audio_end),
                    speech_start_ns=start_ns,
                    decided_ns=decided_ns,
                    direction_deg=line.direction_deg(event.start, event.end),
                    speech_end_ns=speech_end_ns,
                    voiced_ms=event.voiced * 1000 / RATE_HZ,
                    talker_end_ns=self._pause[1],
                )
            case detection.SpeechResumed():
                return SpeechResumed(
                    session_id=session_id,
                    utterance_id=utterance_id,
                    spans=line.spans(event.start, event.decided_at),
                    speech_start_ns=start_ns,
                    decided_ns=decided_ns,
                    direction_deg=line.direction_deg(event.start, event.decided_at),
                )
            case detection.SpeechEnded():
                self._turn.end(event.end)
                paused_at, talker_end_ns = self._pause
                return SpeechEnded(
                    session_id=session_id,
                    utterance_id=utterance_id,
                    spans=line.spans(event.start, event.audio_end),
                    speech_start_ns=start_ns,
                    decided_ns=decided_ns,
                    direction_deg=line.direction_deg(event.start, event.end),
                    speech_end_ns=line.speech_end_ns(event.start, event.end),
                    voiced_ms=event.voiced * 1000 / RATE_HZ,
                    more_follows=event.reason == "split",
                    talker_end_ns=talker_end_ns if paused_at == event.end else 0,
                )

    def _talker_end_ns(self, start: int, speech_end_ns: int) -> int:
        """When who spoke from ``start`` fell silent: before the room did; 0 if nobody can tell."""
        heard = self._turn.since(max(0, start - _BEFORE_SEGMENT_SAMPLES))
        end = talker_end(heard)
        if end is None:
            return 0
        return min(self._timeline.time_ns(self._turn.newest - len(heard) + end), speech_end_ns)
