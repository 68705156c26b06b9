"""The turn state machine: idle, listening, thinking, speaking. Pure: messages in, messages out.

One owner of the floor. It alone asks asr, llm and tts for work, so it alone knows what is still
owed to the user when one of them dies: the request is made again as soon as the successor is
there, with a short spoken apology when the user would otherwise hear silence.

Speech is ignored while the appliance speaks and until playback has drained, although the vad hears
it: answers cannot be interrupted yet. The history holds only what was really played.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable
from typing import ClassVar

from appliance.conductor import phrases
from appliance.conductor.ledger import Ledger
from appliance.conductor.turn import Outcome, Segment, Source, Turn, TurnSettings, merge_spans
from appliance.llm.sentences import SentenceSplitter
from appliance.messages import (
    Cancel,
    ChatMessage,
    Floor,
    FloorState,
    Generate,
    Heartbeat,
    Message,
    PiecePlayed,
    PlaybackEnded,
    PlaybackStarted,
    Prepare,
    ReplyChunk,
    Span,
    Speak,
    SpeechEnded,
    SpeechEvent,
    SpeechPaused,
    SpeechResumed,
    SpeechStarted,
    Transcribe,
    Transcript,
    TurnRecord,
)

LISTENING_BOUND_MS = 40_000
"""Longest wait for the next word from vad within a turn: more than its longest segment."""

MOST_RETRIES = 2
"""Lives of one process that a turn may cost: a request that kills whoever takes it must end."""

SERVANTS = ("asr", "llm", "tts")
"""The processes that owe the conductor answers."""


class TurnTaker:
    """The state machine of one session."""

    def __init__(self, session_id: str, settings: TurnSettings, *, life: int) -> None:
        """Start idle.

        Args:
            session_id: whose conversation this is.
            settings: bounds and prompt.
            life: makes the ids of this process's life different from its predecessor's.
        """
        self._session_id = session_id
        self._settings = settings
        self._ids = (f"{life:x}.{n}" for n in itertools.count(1))
        self._state: FloorState = "idle"
        self._turn: Turn | None = None
        self._history: deque[ChatMessage] = deque(maxlen=2 * settings.history_turns)
        self._heard_until_ns = 0
        """Speech before this was answered already, or was the appliance's own voice."""
        self._ignored: str = ""
        """The utterance that began while the appliance spoke."""
        self._lives: dict[str, int] = {}
        self._out: list[Message] = []
        self._now_ns = 0

    # --- entry points ----------------------------------------------------------------------

    @property
    def state(self) -> FloorState:
        """Who has the floor."""
        return self._state

    def open_spans(self) -> tuple[Span, ...]:
        """Names of the audio of the turn that is still owed an answer; for the checkpoint."""
        if self._turn is None or self._turn.source != "speech":
            return ()
        return merge_spans((), itertools.chain(*(s.spans for s in self._turn.segments)))

    def step(self, message: Message, now_ns: int) -> list[Message]:
        """Take one message; return what to publish."""
        handler = self._handlers.get(type(message))
        if handler is None:
            return []
        return self._collect(now_ns, lambda: handler(self, message))

    def tick(self, now_ns: int) -> list[Message]:
        """Let time pass: gives up on what has been owed for too long."""
        return self._collect(now_ns, self._check_bounds)

    def ask(self, text: str, now_ns: int) -> tuple[str, list[Message]]:
        """A question as text. Returns the turn's id, empty when the floor is taken."""
        return self._begin_text("text", now_ns, lambda turn: self._answer(turn, text))

    def say(self, text: str, now_ns: int) -> tuple[str, list[Message]]:
        """Say a text. Returns the turn's id, empty when the floor is taken."""

        def speak(turn: Turn) -> None:
            turn.reply_complete = True
            self._enter("thinking")
            splitter = SentenceSplitter(first_clause_words=0, first_phrase_words=0)
            sentences = [*splitter.push(text), *splitter.flush()] or [text]
            for sentence in sentences[:-1]:
                self._speak(turn, sentence, last=False)
            self._speak(turn, sentences[-1], last=True)

        return self._begin_text("say", now_ns, speak)

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

    def _collect(self, now_ns: int, action: Callable[[], None]) -> list[Message]:
        self._now_ns = now_ns
        self._out = []
        action()
        return self._out

    def _begin_text(
        self, source: Source, now_ns: int, action: Callable[[Turn], None]
    ) -> tuple[str, list[Message]]:
        if self._turn is not None:
            return "", []
        out = self._collect(now_ns, lambda: action(self._begin(source, now_ns)))
        return self._turn.id if self._turn else "", out

    # --- speech ----------------------------------------------------------------------------

    def _begin(self, source: Source, start_ns: int) -> Turn:
        self._turn = Turn(id=next(self._ids), source=source, ledger=Ledger(start_ns))
        self._turn.waiting_since_ns = self._now_ns
        return self._turn

    def _heard(self, event: SpeechEvent) -> Segment | None:
        """The segment an event belongs to; None when it is none of the user's business now."""
        onset_ns = event.speech_start_ns + self._settings.preroll_ms * 1_000_000
        if event.utterance_id == self._ignored or onset_ns < self._heard_until_ns:
            return None
        if self._state == "speaking":
            self._ignored = event.utterance_id
            return None
        turn = self._turn
        if turn is not None and turn.source != "speech":
            return None
        if turn is None:
            turn = self._begin("speech", event.speech_start_ns)
            self._out.append(Prepare(session_id=self._session_id, messages=self._conversation()))
        elif self._state == "thinking" and not self._knows(turn, event):
            self._reopen(turn)
        turn.waiting_since_ns = self._now_ns
        segment = turn.segments[-1] if turn.segments else None
        if segment is None or (segment.ended and segment.utterance_id != event.utterance_id):
            segment = Segment(event.utterance_id, event.spans)
            turn.segments.append(segment)
        elif segment.ended:
            return None  # vad was restarted and tells again what was heard already
        else:
            segment.utterance_id = event.utterance_id
            segment.spans = merge_spans(segment.spans, event.spans)
        if self._state == "idle":
            self._enter("listening")
        return segment

    @staticmethod
    def _knows(turn: Turn, event: SpeechEvent) -> bool:
        return any(s.utterance_id == event.utterance_id for s in turn.segments)

    def _reopen(self, turn: Turn) -> None:
        """The user goes on although the turn seemed over: nothing was spoken yet, so it is not."""
        self._forget_generation(turn)
        if turn.answer_id:
            self._cancel(turn.answer_id)
        turn.reply_complete = False
        turn.pieces = []
        turn.answer_id = ""
        turn.mark("reopened")
        turn.ledger = Ledger(turn.ledger.start_ns)
        self._enter("listening")

    def _forget_generation(self, turn: Turn) -> None:
        if turn.generate and not turn.reply_complete:
            self._cancel(turn.generate.request_id)
        turn.generate = None
        turn.held = []

    def _on_started(self, event: SpeechStarted) -> None:
        self._heard(event)

    def _on_resumed(self, event: SpeechResumed) -> None:
        segment = self._heard(event)
        if segment and segment.request:
            self._cancel(segment.request.request_id)
            segment.request = segment.text = None
            if self._turn:
                self._forget_generation(self._turn)

    def _on_paused(self, event: SpeechPaused) -> None:
        segment = self._heard(event)
        if segment:
            segment.spans = merge_spans(segment.spans, event.spans)
            segment.speech_end_ns = event.speech_end_ns
            self._transcribe(segment)

    def _on_ended(self, event: SpeechEnded) -> None:
        segment = self._heard(event)
        turn = self._turn
        if segment is None or turn is None:
            return
        if segment.request is None or segment.speech_end_ns != event.speech_end_ns:
            segment.spans = merge_spans(segment.spans, event.spans)
            self._transcribe(segment)
        segment.speech_end_ns = event.speech_end_ns
        segment.ended = True
        if event.more_follows:
            return
        turn.ledger = Ledger(event.speech_end_ns)
        turn.ledger.mark("end_of_turn_delay", self._now_ns)
        self._enter("thinking")
        self._answer_when_transcribed(turn)

    def _transcribe(self, segment: Segment) -> None:
        if segment.request:
            self._cancel(segment.request.request_id)
        segment.text = None
        segment.request = Transcribe(
            session_id=self._session_id, request_id=next(self._ids), spans=segment.spans
        )
        self._out.append(segment.request)

    # --- the answer ------------------------------------------------------------------------

    def _on_transcript(self, message: Transcript) -> None:
        turn = self._turn
        if turn is None:
            return
        for segment in turn.segments:
            if segment.request and segment.request.request_id == message.request_id:
                break
        else:
            return
        if message.error:
            self._give_up(turn, phrases.CANNOT_HEAR, "asr_failed")
            return
        segment.text = message.text
        if message.lost_blocks:
            turn.mark("audio_lost")
        if self._state == "thinking":
            self._answer_when_transcribed(turn)
        elif self._settings.think_ahead and (text := self._words(turn)):
            self._generate(turn, text)

    @staticmethod
    def _words(turn: Turn) -> str | None:
        """All that was said so far; None while some of it is still being transcribed."""
        texts = [segment.text for segment in turn.segments]
        if any(text is None for text in texts):
            return None
        return " ".join(text for text in texts if text).strip()

    def _answer_when_transcribed(self, turn: Turn) -> None:
        text = self._words(turn)
        if text is None:
            return
        turn.ledger.mark("transcription_delay", self._now_ns)
        if not text:
            self._close("nothing_said")
            return
        self._answer(turn, text)

    def _answer(self, turn: Turn, text: str) -> None:
        """The question is certain: answer it, with what was written ahead if that fits."""
        turn.transcript = text
        turn.waiting_since_ns = self._now_ns
        self._enter("thinking")
        if turn.generate is None or turn.generate.messages[-1].text != text:
            self._generate(turn, text)
        held, turn.held = turn.held, []
        for chunk in held:
            self._on_reply(chunk)

    def _generate(self, turn: Turn, text: str) -> None:
        self._forget_generation(turn)
        turn.generate = Generate(
            session_id=self._session_id,
            request_id=next(self._ids),
            messages=(*self._conversation(), ChatMessage("user", text)),
            max_tokens=self._settings.max_tokens,
        )
        self._out.append(turn.generate)

    def _conversation(self) -> tuple[ChatMessage, ...]:
        """What llm is told before the question."""
        return ChatMessage("system", self._settings.system_prompt), *self._history

    def _on_reply(self, chunk: ReplyChunk) -> None:
        turn = self._turn
        if turn is None or turn.generate is None or turn.reply_complete:
            return
        if chunk.request_id != turn.generate.request_id:
            return
        if self._state == "listening":
            turn.held.append(chunk)  # not a word of it is spoken before the turn is over
            return
        turn.waiting_since_ns = self._now_ns
        if chunk.error:
            self._give_up(turn, phrases.CANNOT_THINK, "llm_failed")
            return
        turn.ledger.mark("llm_queue", chunk.received_ns)
        turn.ledger.mark("llm_ttft", chunk.first_token_ns)
        turn.ledger.mark("text_aggregation", chunk.finished_ns)
        turn.reply_complete = chunk.last
        if chunk.index < len(turn.pieces):
            return  # a restarted llm says again what tts has got already
        if chunk.last and not chunk.text and not turn.pieces:
            self._give_up(turn, phrases.NO_ANSWER, "empty_answer")
            return
        self._speak(turn, chunk.text, last=chunk.last)

    def _speak(self, turn: Turn, text: str, *, last: bool) -> None:
        if not turn.answer_id:
            turn.answer_id = next(self._ids)
            turn.utterance_ids.append(turn.answer_id)
        piece = Speak(
            session_id=self._session_id,
            utterance_id=turn.answer_id,
            index=len(turn.pieces),
            text=text,
            last=last,
        )
        turn.pieces.append(piece)
        turn.waiting_since_ns = self._now_ns
        self._out.append(piece)

    def _on_playback_started(self, message: PlaybackStarted) -> None:
        turn = self._turn
        if turn is None or message.utterance_id not in turn.utterance_ids:
            return
        turn.waiting_since_ns = self._now_ns
        if message.utterance_id == turn.answer_id and not turn.audible_ns:
            turn.audible_ns = message.audible_ns
            turn.ledger.mark("tts_queue", message.received_ns)
            turn.ledger.mark("tts_ttfb", message.synthesised_ns)
            turn.ledger.mark("playback_latency", message.audible_ns)
        if message.utterance_id == turn.answer_id:
            self._enter("speaking")

    def _on_piece_played(self, message: PiecePlayed) -> None:
        turn = self._turn
        if turn and message.utterance_id == turn.answer_id:
            turn.played_pieces = message.index + 1
            turn.waiting_since_ns = self._now_ns

    def _on_playback_ended(self, message: PlaybackEnded) -> None:
        turn = self._turn
        if turn is None or message.utterance_id not in turn.utterance_ids:
            return
        self._heard_until_ns = max(self._heard_until_ns, message.ended_ns)
        if message.utterance_id != turn.answer_id:
            if not turn.answer_id and turn.reply_complete:
                self._close("lost")  # the apology was all there was to say
            return
        if message.error:
            turn.mark("tts_failed")
        before = [piece.text for piece in turn.pieces[: turn.resumed_at]]
        played = " ".join(" ".join([*before, message.played_text]).split())
        outcome: Outcome = "interrupted" if message.interrupted else "answered"
        self._finish(turn, "lost" if message.error and not played else outcome, played)

    def _finish(self, turn: Turn, outcome: Outcome, played: str) -> None:
        """The answer is over; what was heard of it is remembered."""
        if turn.transcript and played:
            self._history.append(ChatMessage("user", turn.transcript))
            self._history.append(ChatMessage("assistant", played))
        self._close(outcome, played)

    # --- when things go wrong --------------------------------------------------------------

    def _on_heartbeat(self, beat: Heartbeat) -> None:
        known = self._lives.get(beat.process)
        if known == beat.life or beat.process not in SERVANTS:
            return
        if known is None:  # the first word of a process that was there before us
            self._lives[beat.process] = beat.life
            return
        if beat.state != "starting":
            self._lives[beat.process] = beat.life
        turn = self._turn
        if turn is None or not self._owes(turn, beat.process):
            return
        turn.waiting_since_ns = self._now_ns
        turn.mark(f"{beat.process}_restarted")
        lives = turn.successors.setdefault(beat.process, set())
        lives.add(beat.life)
        if len(lives) > MOST_RETRIES:
            self._stop_asking(turn, beat.process)
        elif beat.state != "starting":
            self._ask_again(turn, beat.process)
        elif beat.process in ("asr", "llm") and self._state == "thinking":
            self._apologise(turn, phrases.ONE_MOMENT)

    def _owes(self, turn: Turn, process: str) -> bool:
        """Whether this process has taken on something for the turn and not delivered it."""
        match process:
            case "asr":
                return any(s.request and s.text is None for s in turn.segments)
            case "llm":
                return turn.generate is not None and not turn.reply_complete
            case "tts":
                return bool(turn.pieces or turn.apology_id)
        return False

    def _ask_again(self, turn: Turn, process: str) -> None:
        turn.waiting_since_ns = self._now_ns
        match process:
            case "asr":
                self._out.extend(s.request for s in turn.segments if s.request and s.text is None)
            case "llm":
                assert turn.generate is not None
                self._out.append(turn.generate)
            case "tts":
                self._speak_again(turn)

    def _stop_asking(self, turn: Turn, process: str) -> None:
        """Whatever this turn wants of the process seems to kill it."""
        match process:
            case "asr":
                self._give_up(turn, phrases.CANNOT_HEAR, "asr_failed")
            case "llm":
                self._give_up(turn, phrases.CANNOT_THINK, "llm_failed")
            case "tts":
                turn.mark("tts_failed")
                self._close("lost")

    def _speak_again(self, turn: Turn) -> None:
        """A new tts knows nothing: apologise and say what has not been heard to its end."""
        turn.apology_id = ""
        if turn.pieces and turn.pieces[-1].last and turn.played_pieces == len(turn.pieces):
            self._heard_until_ns = self._now_ns
            self._finish(turn, "answered", " ".join(piece.text for piece in turn.pieces))
            return  # it died after the last word
        if not turn.pieces:
            if turn.reply_complete:
                self._close("lost")
            return
        if turn.audible_ns:
            self._apologise(turn, phrases.WHERE_WAS_I)
        turn.resumed_at = turn.played_pieces
        self._out.extend(turn.pieces[turn.resumed_at :])

    def _apologise(self, turn: Turn, text: str) -> None:
        """Say something rather than nothing; once a turn."""
        if turn.apology_id:
            return
        turn.apology_id = next(self._ids)
        turn.utterance_ids.append(turn.apology_id)
        turn.mark("apology")
        self._out.append(
            Speak(
                session_id=self._session_id,
                utterance_id=turn.apology_id,
                index=0,
                text=text,
                last=True,
            )
        )

    def _give_up(self, turn: Turn, text: str, why: str) -> None:
        """Nothing more will come of this turn: say so, and close it when that has been heard."""
        turn.mark(why)
        if turn.generate and not turn.reply_complete:
            self._cancel(turn.generate.request_id)
        for segment in turn.segments:
            if segment.request and segment.text is None:
                self._cancel(segment.request.request_id)
                segment.text = ""
        turn.reply_complete = True
        turn.waiting_since_ns = self._now_ns
        if turn.pieces and not turn.pieces[-1].last:
            self._speak(turn, "", last=True)  # what was begun is played to its end
            return
        turn.apology_id = ""
        self._enter("thinking")
        self._apologise(turn, text)

    def _check_bounds(self) -> None:
        turn = self._turn
        if turn is None:
            return
        waited_ms = (self._now_ns - turn.waiting_since_ns) / 1e6
        settings = self._settings
        if self._state == "listening":
            if waited_ms > LISTENING_BOUND_MS:
                self._answer_what_was_heard(turn)
        elif self._owes(turn, "asr") and not turn.reply_complete:
            if waited_ms > settings.asr_timeout_ms:
                self._give_up(turn, phrases.CANNOT_HEAR, "asr_timeout")
        elif self._owes(turn, "llm") and not turn.pieces:
            if waited_ms > settings.llm_timeout_ms:
                self._give_up(turn, phrases.CANNOT_THINK, "llm_timeout")
        elif waited_ms > settings.tts_timeout_ms + self._speaking_time_ms(turn):
            turn.mark("tts_timeout")
            for utterance_id in turn.utterance_ids:
                self._cancel(utterance_id)
            self._close("lost")

    def _answer_what_was_heard(self, turn: Turn) -> None:
        """The end of the speech never came (the microphone was lost): do not wait for it."""
        turn.mark("listening_timeout")
        for segment in turn.segments:
            segment.ended = True
            if segment.request is None:
                self._transcribe(segment)
        turn.waiting_since_ns = self._now_ns
        self._enter("thinking")
        self._answer_when_transcribed(turn)

    @staticmethod
    def _speaking_time_ms(turn: Turn) -> int:
        """A generous guess of how long the pieces not yet played take to say."""
        ms_per_character = 100
        return ms_per_character * sum(len(p.text) for p in turn.pieces[turn.played_pieces :])

    # --- small things ----------------------------------------------------------------------

    def _cancel(self, request_id: str) -> None:
        self._out.append(Cancel(session_id=self._session_id, id=request_id))

    def _enter(self, state: FloorState) -> None:
        if state == self._state:
            return
        self._state = state
        self._out.append(
            Floor(
                session_id=self._session_id,
                state=state,
                turn_id=self._turn.id if self._turn else "",
                since_ns=self._now_ns,
            )
        )

    def _close(self, outcome: Outcome, reply: str = "") -> None:
        turn = self._turn
        assert turn is not None
        if turn.segments:
            newest_ns = max(segment.speech_end_ns for segment in turn.segments)
            self._heard_until_ns = max(self._heard_until_ns, newest_ns)
        self._forget_generation(turn)  # llm must be free for the next question
        self._out.append(
            TurnRecord(
                session_id=self._session_id,
                turn_id=turn.id,
                source=turn.source,
                outcome=outcome,
                transcript=turn.transcript,
                reply=reply,
                utterance_ids=tuple(turn.utterance_ids),
                speech_end_ns=turn.ledger.start_ns,
                audible_ns=turn.audible_ns,
                voice_to_voice_ms=turn.ledger.total_ms() if turn.audible_ns else 0.0,
                contributions_ms=turn.ledger.contributions_ms(),
                marks=tuple(turn.marks),
            )
        )
        self._turn = None
        self._enter("idle")

    _handlers: ClassVar[dict[type[Message], Callable[..., None]]] = {
        SpeechStarted: _on_started,
        SpeechPaused: _on_paused,
        SpeechResumed: _on_resumed,
        SpeechEnded: _on_ended,
        Transcript: _on_transcript,
        ReplyChunk: _on_reply,
        PlaybackStarted: _on_playback_started,
        PiecePlayed: _on_piece_played,
        PlaybackEnded: _on_playback_ended,
        Heartbeat: _on_heartbeat,
    }
