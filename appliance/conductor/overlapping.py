"""Speech over an answer: from the first suspicion to the verdict, and what follows from it. Pure.

tts lowers the loudspeaker by reflex; here the answer goes on, falls silent for a moment or ends,
and who speaks gets the floor or not.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from appliance.conductor.answering import Answering
from appliance.conductor.overlap import MOST_MS, OverlapJudge
from appliance.conductor.turn import Segment, Turn, TurnSettings, merge_spans
from appliance.conductor.words import is_stop, plain, takes_back
from appliance.messages import (
    NearEnd,
    OverlapKind,
    Pause,
    PlaybackDucked,
    Restore,
    SpeechContinued,
    SpeechEnded,
    SpeechEvent,
    SpeechPaused,
    SpeechResumed,
    Transcript,
)

PAUSE_AFTER_MS = 320
"""Speech over an answer that is still undecided then silences it until it is."""


class Overlapping(Answering, ABC):
    """The part of the state machine that lets itself be interrupted."""

    def __init__(self, session_id: str, settings: TurnSettings, *, life: int) -> None:
        """Nobody speaks; see `Answering`."""
        super().__init__(session_id, settings, life=life)
        self._near_end: NearEnd | None = None
        """A sound that may become speech."""
        self._ignored: str = ""
        """The utterance that was found to be none of the conversation's business ..."""
        self._ignored_for_good = False
        """... whatever follows in it: it is the appliance's own voice."""
        self._overlap: OverlapJudge | None = None
        self._overlap_segment: Segment | None = None
        self._paused_answer = False
        self._muted = False
        self._aside: Segment | None = None
        """A short sound over the answer, whose words are not known yet."""
        self._aside_onset_ns = 0

    @abstractmethod
    def _take_floor(self, segment: Segment) -> None:
        """What was said over an answer begins a turn of its own."""

    @abstractmethod
    def _reopen(self, turn: Turn) -> None:
        """The question goes on."""

    # --- speech over the answer ------------------------------------------------------------

    def _in_the_air(self) -> list[str]:
        """The pieces that may be heard at present."""
        turn = self._turn
        return [] if turn is None else [p.text for p in turn.pieces[: turn.played_pieces + 2]]

    def _overlaps(self, event: SpeechEvent) -> bool:
        overlap = self._overlap
        return overlap is not None and overlap.utterance_id == event.utterance_id

    def _on_near_end(self, message: NearEnd) -> None:
        self._near_end = message if message.active else None
        overlap = self._overlap
        if message.active or overlap is None or overlap.utterance_id:
            return
        overlap.active_ns = self._now_ns
        overlap.reason = "it never became speech"
        self._decide("noise")
        self._hear_aside(message)

    def _hear_aside(self, sound: NearEnd) -> None:
        """It was too short for speech, and the answer goes on; but it may have been "stop"."""
        turn = self._turn
        if turn is None or self._state != "speaking" or self._muted or not sound.spans:
            return
        if self._aside is not None and self._aside.request is not None:
            self._cancel(self._aside.request.request_id)  # asr hears the newest sound only
        self._aside = Segment(f"aside-{sound.onset_ns:x}", sound.spans, paused=True, ended=True)
        self._aside_onset_ns = sound.onset_ns
        self._transcribe(self._aside)

    def _words_aside(self, message: Transcript) -> bool:
        """Obey if a short sound was a wish for silence; False when these words are not its."""
        aside, turn = self._aside, self._turn
        if aside is None or aside.request is None:
            return False
        if aside.request.request_id != message.request_id:
            return False
        self._aside = None
        own = plain(" ".join(self._in_the_air()))
        wanted = is_stop(message.text) or takes_back(message.text)
        meant = wanted and f" {plain(message.text)} " not in f" {own} "
        if meant and turn is not None and self._state == "speaking" and self._overlap is None:
            aside.text, aside.speech_end_ns = message.text, self._now_ns
            self._overlap = OverlapJudge(
                self._aside_onset_ns, aside.utterance_id, active_ns=self._now_ns
            )
            self._overlap.reason = "asked for silence in a word too short for speech"
            self._overlap_segment = aside
            self._decide("interruption")
        return True

    def _on_ducked(self, message: PlaybackDucked) -> None:
        turn = self._turn
        if turn is None or message.utterance_id != turn.answer_id or not self._settings.barge_in:
            return
        if self._overlap is None:
            self._overlap = OverlapJudge(message.onset_ns, active_ns=self._now_ns)
        self._overlap.ducked_ns = self._overlap.ducked_ns or message.audible_ns

    def _begin_overlap(self, event: SpeechEvent) -> None:
        """Someone speaks over the answer: it becomes clear soon what that is."""
        turn = self._turn
        if not self._settings.barge_in or event.utterance_id == self._ignored or self._muted:
            if not self._settings.barge_in:
                self._ignored = event.utterance_id
            return
        onset_ns = event.speech_start_ns + self._settings.preroll_ms * 1_000_000
        if isinstance(event, SpeechResumed):
            onset_ns = self._now_ns  # what came before it was judged already
        overlap = self._overlap
        if overlap is None or overlap.utterance_id:
            overlap = self._overlap = OverlapJudge(onset_ns)
        overlap.utterance_id = event.utterance_id
        overlap.active_ns = self._now_ns
        known = turn.segment(event.utterance_id) if turn is not None else None
        if known is not None:
            overlap.onset_ns = self._now_ns
            overlap.continues_turn = True
            known.ended = False
            known.spans = merge_spans(known.spans, event.spans)
            self._overlap_segment = known
            return
        self._overlap_segment = Segment(event.utterance_id, event.spans)
        self._transcribe(self._overlap_segment, quick=True)

    def _resume_overlap(self) -> None:
        """Who speaks over the answer goes on after a pause."""
        if self._overlap is not None and self._overlap_segment is not None:
            self._overlap.active_ns = self._now_ns
            self._overlap_segment.paused = False
            self._overlap_segment.end_of_turn_probability = None

    def _hear_overlap(self, event: SpeechPaused | SpeechEnded) -> None:
        segment, overlap = self._overlap_segment, self._overlap
        if segment is None or overlap is None:
            return
        overlap.active_ns = max(overlap.onset_ns, event.speech_end_ns)
        segment.spans = merge_spans(segment.spans, event.spans)
        if not segment.paused:
            segment.paused = True
            self._transcribe(segment)
        segment.fell_silent(event)
        segment.ended = isinstance(event, SpeechEnded) and not event.more_follows

    def _words_over_answer(self, message: Transcript) -> bool:
        """Judge the words of an overlap; False when they are not its."""
        segment, overlap = self._overlap_segment, self._overlap
        if segment is None or overlap is None or segment.request is None:
            return False
        if segment.request.request_id != message.request_id:
            return False
        segment.text = "" if message.error else message.text
        spoken = self._in_the_air()
        final = segment.paused
        kind = overlap.words(
            segment.text,
            spoken,
            final=final and not message.error,
            avg_logprob=message.avg_logprob,
        )
        if kind is None and message.error:
            overlap.reason = "asr failed"
            kind = "interruption"  # better silent than deaf
        if kind is None and overlap.words(segment.text, spoken, final=True) != "backchannel":
            self._pause_answer()
        self._decide(kind)
        return True

    def _pause_answer(self) -> None:
        """It may well be an interruption: silence, until that is known."""
        turn = self._turn
        if turn is not None and not self._paused_answer and self._state == "speaking":
            self._paused_answer = True
            self._out.append(Pause(session_id=self._session_id, utterance_id=turn.answer_id))

    def _decide(self, kind: OverlapKind | None) -> None:
        """Act on a verdict, if there is one."""
        turn, overlap, segment = self._turn, self._overlap, self._overlap_segment
        if kind is None or turn is None or overlap is None:
            return
        self._overlap = self._overlap_segment = None
        self._paused_answer = False
        turn.overlaps.append(overlap.record(kind, self._now_ns))
        if kind != "interruption" or segment is None:
            self._ignored = overlap.utterance_id or self._ignored
            self._ignored_for_good = kind == "echo"
            self._out.append(Restore(session_id=self._session_id, utterance_id=turn.answer_id))
            if segment and segment.request and segment.text is None:
                self._cancel(segment.request.request_id)
            return
        if turn.generate and not turn.reply_complete:
            self._cancel(turn.generate.request_id)
        self._cancel(turn.answer_id)
        if overlap.continues_turn:
            self._take_back(turn, segment)
            return
        turn.reply_complete = True
        turn.waiting_since_ns = self._now_ns
        self._ending[turn.answer_id] = turn
        self._turn = None
        self._take_floor(segment)

    def _take_back(self, turn: Turn, segment: Segment) -> None:
        """The answer began in the middle of the question: the question goes on."""
        turn.utterance_ids.remove(turn.answer_id)
        turn.generate = None
        turn.answer_id, turn.pieces, turn.played_pieces, turn.audible_ns = "", [], 0, 0
        turn.mark("cut_off")
        self._reopen(turn)
        segment.ended = segment.paused = False
        segment.request = segment.text = None

    def _continue_overlap(self, event: SpeechContinued) -> None:
        """Speech over the answer lasts."""
        segment, overlap = self._overlap_segment, self._overlap
        if segment is None or overlap is None:
            return
        overlap.active_ns = self._now_ns
        segment.spans = merge_spans(segment.spans, event.spans)
        if overlap.continues_turn:
            overlap.reason = "the question went on"
            self._decide("interruption")
        else:
            self._decide(overlap.time())

    def _check_overlap(self) -> None:
        overlap = self._overlap
        if overlap is None:
            return
        waited_ms = (self._now_ns - overlap.onset_ns) / 1e6
        segment = self._overlap_segment
        if waited_ms > MOST_MS:
            ended = segment is not None and segment.paused
            if not ended:
                overlap.active_ns = self._now_ns
            self._decide(overlap.give_up(ended=ended))
            return
        unknown = segment is not None and segment.text is None and not overlap.continues_turn
        if unknown and waited_ms > PAUSE_AFTER_MS:
            self._pause_answer()
