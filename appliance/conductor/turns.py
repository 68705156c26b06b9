"""The turn state machine: idle, listening, thinking, speaking. Pure: messages in, messages out.

One owner of the floor. A pause may be the end of the user's turn: the answer is prepared in it, and
given when the sound of the last words and the length of the silence say that the turn is over.
Until something of the answer was heard, going on reopens the turn; from then on whoever speaks is
judged (`OverlapJudge`): an interruption cancels the answer and takes the floor, anything else lets
it go on. The history holds only what was really played. docs/conversation.md has the diagram.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import ClassVar

from appliance.conductor import phrases
from appliance.conductor.answering import MOST_RETRIES, SERVANTS, Answering
from appliance.conductor.listening import Listening
from appliance.conductor.overlap import OverlapJudge
from appliance.conductor.overlapping import PAUSE_AFTER_MS, Overlapping
from appliance.conductor.turn import Segment, Source, Turn, TurnSettings, merge_spans
from appliance.messages import (
    Cancel,
    Considered,
    Done,
    EndOfTurn,
    FloorState,
    Heartbeat,
    Message,
    MuteState,
    NearEnd,
    Outcome,
    PartialTranscript,
    PiecePlayed,
    PlaybackDucked,
    PlaybackEnded,
    PlaybackStarted,
    QuestionRead,
    ReplyChunk,
    Ringing,
    Span,
    SpeechAside,
    SpeechContinued,
    SpeechEnded,
    SpeechEvent,
    SpeechPaused,
    SpeechResumed,
    SpeechStarted,
    Transcript,
    WakeWord,
)

__all__ = ["LISTENING_BOUND_MS", "MOST_RETRIES", "SERVANTS", "TurnSettings", "TurnTaker"]

LISTENING_BOUND_MS = 40_000
"""Longest wait for the next word from vad within a turn: more than its longest segment."""
_INTERRUPTED_BOUND_MS = 1_500
"""Longest wait for how much of an interrupted answer was played."""
_QUEUE_BOUND_MS = 60_000
"""Longest that other sessions' work excuses the wait for an answer."""
_ONSET_NS = 300_000_000
"""By so much speech began before vad told that it went on."""
_REST_MS = 4_000
"""Silence after which nobody is about to go on: time for what can wait."""
_CONVERSATION_MS = 15 * 60 * 1_000
"""After so long in silence another conversation begins, and nothing is kept of the last one."""
_SLOW_MS = 700
"""Without a word of the answer for so long, it is going to be slow."""


class TurnTaker(Listening):
    """The state machine of one session: who has the floor."""

    def __init__(self, session_id: str, settings: TurnSettings, *, life: int) -> None:
        """Start idle; see `Answering`."""
        super().__init__(session_id, settings, life=life)
        self._others_speak = False
        self.expects_slow_answer = False
        """Whether the last answers were slow; set by whoever keeps the figures."""
        self._announcement = ""
        """What is to be said as soon as nobody has the floor."""
        self._told_ns = 0
        """By when vad knew what it told last."""
        self._announced: set[str] = set()
        """What rings and was told of."""

    # --- entry points ----------------------------------------------------------------------

    @property
    def state(self) -> FloorState:
        """Who has the floor."""
        return self._state

    def open_spans(self) -> tuple[Span, ...]:
        """Names of the audio of the turn that is still owed an answer; for the checkpoint."""
        turn = self._turn
        if turn is None or turn.source != "speech":
            return ()
        if turn.committed and (turn.deed_pending or (turn.considered and turn.considered.acts)):
            return ()  # better unanswered than done twice
        return merge_spans((), itertools.chain(*(s.spans for s in turn.segments)))

    def due_ns(self) -> int | None:
        """When `tick` has something to decide, if that is known."""
        turn = self._turn
        due = []
        if turn is not None and turn.commit_at_ns and self._state == "listening":
            due.append(turn.commit_at_ns)
        if turn is not None and turn.consider_by_ns:
            due.append(turn.consider_by_ns)
        if self._overlap is not None and not self._paused_answer:
            due.append(self._overlap.onset_ns + PAUSE_AFTER_MS * 1_000_000)
        return min(due, default=None)

    def step(self, message: Message, now_ns: int) -> list[Message]:
        """Take one message; return what to publish."""
        handler = self._handlers.get(type(message))
        if handler is None or self._was_told(message, now_ns):
            return []
        return self._collect(now_ns, lambda: handler(self, message))

    def _was_told(self, message: Message, now_ns: int) -> bool:
        """Whether a vad that was restarted tells again what its predecessor has told."""
        if not isinstance(message, SpeechEvent) or not message.decided_ns:
            return False
        if message.decided_ns < self._told_ns:
            return True
        self._told_ns = min(message.decided_ns, now_ns)
        return False

    def tick(self, now_ns: int) -> list[Message]:
        """Let time pass: ends turns, and gives up on what has been owed for too long."""
        return self._collect(now_ns, self._check_time)

    def ask(self, text: str, now_ns: int) -> tuple[str, list[Message]]:
        """A question as text. Returns the turn's id, empty when the floor is taken."""
        return self._begin_text("text", now_ns, lambda turn: self._answer(turn, text))

    def say(self, text: str, now_ns: int) -> tuple[str, list[Message]]:
        """Say a text. Returns the turn's id, empty when the floor is taken."""
        return self._begin_text("say", now_ns, lambda turn: self._say_text(turn, text))

    def _say_text(self, turn: Turn, text: str) -> None:
        turn.released = turn.over = True
        self._enter("thinking")
        self._say(turn, text)

    def _on_ringing(self, message: Ringing) -> None:
        if not set(message.ids) <= self._announced:  # it is repeated while it rings
            self._announcement = message.text
        elif not message.ids:
            self._announcement = ""
        self._announced = set(message.ids)

    def _announce(self) -> None:
        """Nobody has the floor: say what rings, or see to the conversation."""
        text, self._announcement = self._announcement, ""
        if text:
            self._say_text(self._begin("say", self._now_ns), text)
            return
        silence_ms = (self._now_ns - self._state_since_ns) / 1e6
        if silence_ms > _CONVERSATION_MS:
            self._history.forget()
        elif silence_ms > _REST_MS and not self._others_speak:
            self._summarise()

    def attend(self, for_ms: int, now_ns: int) -> None:
        """Take what is said from now on as meant, wake word or not."""
        self._attention.wanted(now_ns + for_ms * 1_000_000)

    def recover(self, spans: tuple[Span, ...], now_ns: int) -> list[Message]:
        """Take up a turn that a predecessor left unanswered: hear it again, and apologise."""

        def begin() -> None:
            turn = self._begin("speech", now_ns)
            turn.mark("conductor_restarted")
            segment = Segment(utterance_id=turn.id, spans=spans, ended=True)
            turn.segments.append(segment)
            self._out.append(Cancel(session_id=self._session_id, id="*"))
            self._apologise(turn, phrases.ONE_MOMENT)
            self._transcribe(segment)
            self._enter("thinking")

        return self._collect(now_ns, begin)

    def leave(self, now_ns: int) -> list[Message]:
        """Who speaks here has gone: drop all that is under way."""

        def end() -> None:
            self._out.append(Cancel(session_id=self._session_id, id="*"))
            for ending in self._ending.values():
                self._publish_record(ending, "interrupted", self._whole_pieces(ending))
            if (turn := self._turn) is not None:
                turn.mark("session_closed")
                played = self._whole_pieces(turn)
                self._close("interrupted" if played else "lost", played)

        return self._collect(now_ns, end)

    def others_speak(self, speak: bool, now_ns: int) -> list[Message]:
        """Whether llm is needed in another session: what only serves this one later can wait."""
        self._others_speak = speak
        return self._collect(now_ns, self._stop_summary) if speak else []

    def waits_in_turn(self, stage: str, now_ns: int) -> None:
        """Asr or llm works for another session meanwhile: it is not stuck, and comes to this."""
        turn = self._turn
        if turn is None or self._state != "thinking" or not self._owes(turn, stage):
            return
        if now_ns - turn.ledger.start_ns < _QUEUE_BOUND_MS * 1_000_000:
            turn.waiting_since_ns = now_ns

    def _collect(self, now_ns: int, action: Callable[[], None]) -> list[Message]:
        self._now_ns = now_ns
        self._out = []
        action()
        self._tell_company()
        return self._out

    def _begin_text(
        self, source: Source, now_ns: int, action: Callable[[Turn], None]
    ) -> tuple[str, list[Message]]:
        if self._turn is not None:
            return "", []
        out = self._collect(now_ns, lambda: action(self._begin(source, now_ns)))
        return self._turn.id if self._turn else "", out

    # --- who is meant ----------------------------------------------------------------------

    def _on_wake_word(self, message: WakeWord) -> None:
        self._attention.called(message.end_ns)

    def _on_mute(self, message: MuteState) -> None:
        self._muted = message.hardware or message.software
        turn = self._turn
        if self._muted and turn is not None and self._state == "listening":
            self._drop_answer(turn)
            self._close("muted")

    # --- the answer is heard ---------------------------------------------------------------

    def _on_playback_started(self, message: PlaybackStarted) -> None:
        turn = self._turn
        if turn is None or message.utterance_id not in turn.utterance_ids:
            return
        turn.waiting_since_ns = self._now_ns
        if message.utterance_id != turn.answer_id:
            return
        if not turn.audible_ns:
            turn.audible_ns = message.audible_ns
            turn.ledger.mark("tts_queue", message.received_ns)
            turn.ledger.mark("tts_ttfb", message.synthesised_ns)
            turn.ledger.mark("playback_latency", message.audible_ns)
        self._enter("speaking")

    def _on_piece_played(self, message: PiecePlayed) -> None:
        turn = self._turn
        if turn and message.utterance_id == turn.answer_id:
            turn.played_pieces = message.index + 1
            turn.waiting_since_ns = self._now_ns

    def _on_playback_ended(self, message: PlaybackEnded) -> None:
        if interrupted := self._ending.pop(message.utterance_id, None):
            self._finish(interrupted, "interrupted", self._played(interrupted, message))
            self._go_on_deferred()
            return
        turn = self._turn
        if turn is None or message.utterance_id not in turn.utterance_ids:
            return
        if message.utterance_id != turn.answer_id:
            if not turn.answer_id and turn.reply_complete and not turn.deed_pending:
                self._attention.answered(message.ended_ns)
                # the apology was all there was to say
                self._close("nothing_said" if "not_caught" in turn.marks else "lost")
            return
        if message.error:
            turn.mark("tts_failed")
        played = self._played(turn, message)
        outcome: Outcome = "interrupted" if message.interrupted else "answered"
        overlap, segment = self._overlap, self._overlap_segment
        self._overlap = self._overlap_segment = None
        self._paused_answer = False
        self._attention.answered(message.ended_ns)
        if outcome == "answered" and overlap is None and turn.was_listened_to(message.ended_ns):
            self._bearings.answered(turn.direction_deg, self._now_ns)
        self._finish(turn, "lost" if message.error and not played else outcome, played)
        if overlap is not None and segment is not None:
            self._go_on_after(overlap, segment)
        elif not self._settings.barge_in:
            self._heard_until_ns = max(self._heard_until_ns, message.ended_ns)

    def _go_on_after(self, overlap: OverlapJudge, segment: Segment) -> None:
        """Who still speaks when the answer is over has the floor."""
        if overlap.continues_turn:
            if segment.ended:
                return  # a short sound after the question
            # the question was answered: only what came after it counts
            self._attention.taken_over(overlap.utterance_id, overlap.onset_ns - _ONSET_NS)
            segment = Segment(overlap.utterance_id, (), voiced_before_ms=segment.voiced_ms)
        self._take_floor(segment)

    @staticmethod
    def _whole_pieces(turn: Turn) -> str:
        return " ".join(piece.text for piece in turn.pieces[: turn.played_pieces])

    @staticmethod
    def _played(turn: Turn, message: PlaybackEnded) -> str:
        before = [piece.text for piece in turn.pieces[: turn.resumed_at]]
        return " ".join(" ".join([*before, message.played_text]).split())

    # --- time ------------------------------------------------------------------------------

    def _check_time(self) -> None:
        if self._ending and all(
            self._now_ns - turn.waiting_since_ns > _INTERRUPTED_BOUND_MS * 1_000_000
            for turn in self._ending.values()
        ):
            self._settle_interrupted()
        turn = self._turn
        if turn is None:
            self._announce()
            return
        if turn.consider_by_ns and self._now_ns >= turn.consider_by_ns:
            self._ask_llm_alone(turn)
        self._commit_if_due(turn)
        self._check_overlap()
        self._check_bounds(turn)

    def _check_bounds(self, turn: Turn) -> None:
        if turn is not self._turn:
            return
        waited_ms = (self._now_ns - turn.waiting_since_ns) / 1e6
        settings = self._settings
        if self._state == "listening":
            if waited_ms > LISTENING_BOUND_MS:
                turn.mark("listening_timeout")  # the microphone was lost: do not wait for the end
                self._commit(turn)
        elif self._owes(turn, "asr") and not turn.reply_complete:
            if waited_ms > settings.asr_timeout_ms:
                self._give_up(turn, phrases.CANNOT_HEAR, "asr_timeout")
        elif turn.deed_pending:
            if waited_ms > settings.llm_timeout_ms:
                self._give_up(turn, phrases.NOT_SURE, "mind_timeout")
        elif self._owes(turn, "llm") and not turn.pieces:
            if waited_ms > settings.llm_timeout_ms:
                self._give_up(turn, phrases.CANNOT_THINK, "llm_timeout")
            elif settings.acknowledge and self.expects_slow_answer and waited_ms > _SLOW_MS:
                self._apologise(turn, phrases.LET_ME_SEE)
        elif waited_ms > settings.tts_timeout_ms + self._speaking_time_ms(turn):
            turn.mark("tts_timeout")
            for utterance_id in turn.utterance_ids:
                self._cancel(utterance_id)
            self._close("lost")

    @staticmethod
    def _speaking_time_ms(turn: Turn) -> int:
        """A generous guess of how long the pieces not yet played take to say."""
        ms_per_character = 100
        return ms_per_character * sum(len(p.text) for p in turn.pieces[turn.played_pieces :])

    _handlers: ClassVar[dict[type[Message], Callable[..., None]]] = {
        SpeechStarted: Listening._on_started,
        SpeechContinued: Listening._on_continued,
        SpeechPaused: Listening._on_paused,
        SpeechResumed: Listening._on_resumed,
        SpeechEnded: Listening._on_ended,
        EndOfTurn: Listening._on_end_of_turn,
        NearEnd: Overlapping._on_near_end,
        WakeWord: _on_wake_word,
        SpeechAside: Listening._on_aside,
        MuteState: _on_mute,
        Transcript: Listening._on_transcript,
        PartialTranscript: Listening._on_partial,
        QuestionRead: Listening._on_question_read,
        ReplyChunk: Listening._on_reply,
        Considered: Listening._on_considered,
        Done: Answering._on_done,
        Ringing: _on_ringing,
        PlaybackStarted: _on_playback_started,
        PlaybackDucked: Overlapping._on_ducked,
        PiecePlayed: _on_piece_played,
        PlaybackEnded: _on_playback_ended,
        Heartbeat: Answering._on_heartbeat,
    }
