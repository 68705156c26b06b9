"""The conductor's side towards llm and tts: what they are asked, what they owe. Pure.

Only the conductor asks asr, llm and tts for work, so it alone knows what is still owed to the user
when one of them dies: the request is made again as soon as the successor is there, with a short
spoken apology when the user would otherwise hear silence.

An answer may be written and synthesised ahead, in a pause that may be the end of the turn. None of
it is played before the turn is over, and all of it is thrown away when the user goes on.
"""

from __future__ import annotations

import itertools

from appliance.conductor import phrases
from appliance.conductor.ledger import Ledger
from appliance.conductor.turn import Segment, Source, Turn, TurnSettings
from appliance.messages import (
    Cancel,
    ChatMessage,
    DialogueWords,
    Floor,
    FloorState,
    Generate,
    Heartbeat,
    Message,
    Outcome,
    Prepare,
    Release,
    ReplyChunk,
    Speak,
    Transcribe,
    TurnRecord,
)

MOST_RETRIES = 2
"""Lives of one process that a turn may cost: a request that kills whoever takes it must end."""

SERVANTS = ("asr", "llm", "tts")
"""The processes that owe the conductor answers."""

_PIECES_AHEAD = 1
"""So many pieces of an answer are synthesised before the turn is over: more would only keep the
processor from hearing the user go on."""


class Answering:
    """What both halves of the state machine share, and the half that answers.

    Args:
        session_id: whose conversation this is.
        settings: bounds and prompt.
        life: makes the ids of this process's life different from its predecessor's.
    """

    def __init__(self, session_id: str, settings: TurnSettings, *, life: int) -> None:
        self._session_id = session_id
        self._settings = settings
        self._ids = (f"{life:x}.{n}" for n in itertools.count(1))
        self._state: FloorState = "idle"
        self._turn: Turn | None = None
        self._ending: dict[str, Turn] = {}
        """Interrupted turns by their answer, until tts has said how much of it was played."""
        self._deferred = ""
        """A question that waits for what was played of the answer before it."""
        self._history: list[ChatMessage] = []
        self._most_turns = settings.history_turns
        self._lives: dict[str, int] = {}
        self._out: list[Message] = []
        self._now_ns = 0

    def use_history(self, turns: int) -> None:
        """Let answers refer to so many earlier turns from now on."""
        self._most_turns = turns
        self._forget()

    # --- asking for an answer --------------------------------------------------------------

    def _begin(self, source: Source, start_ns: int) -> Turn:
        self._turn = Turn(id=next(self._ids), source=source, ledger=Ledger(start_ns))
        self._turn.waiting_since_ns = self._now_ns
        return self._turn

    def _transcribe(self, segment: Segment, *, quick: bool = False) -> None:
        if segment.request and segment.text is None:
            self._cancel(segment.request.request_id)
        segment.text = None
        segment.request = Transcribe(
            session_id=self._session_id,
            request_id=next(self._ids),
            spans=segment.spans,
            utterance_id=segment.utterance_id,
            quick=quick,
        )
        self._out.append(segment.request)

    def _answer(self, turn: Turn, text: str) -> None:
        """The question is certain: answer it, with what was written ahead if that fits."""
        turn.transcript = text
        turn.waiting_since_ns = self._now_ns
        self._enter("thinking")
        if turn.generate is None or turn.generate.messages[-1].text != text:
            self._drop_answer(turn)
            turn.released = True
            self._generate(turn, text)
            return
        turn.released = True
        if turn.answer_id:
            self._out.append(Release(session_id=self._session_id, utterance_id=turn.answer_id))
            if turn.first_reply is not None:
                self._note_reply(turn, turn.first_reply)
        held, turn.held = turn.held, []
        for chunk in held:
            self._on_reply(chunk)

    def _generate(self, turn: Turn, text: str) -> None:
        if self._ending:
            self._deferred = text
            return
        turn.generate = Generate(
            session_id=self._session_id,
            request_id=next(self._ids),
            messages=(*self._conversation(), ChatMessage("user", text)),
            max_tokens=self._settings.max_tokens,
        )
        self._out.append(turn.generate)

    def _conversation(self) -> tuple[ChatMessage, ...]:
        """What llm is told before the question."""
        return *self._settings.opening, *self._history

    def _remember(self, question: str, answer: str) -> None:
        """An exchange is part of the conversation."""
        self._history += [ChatMessage("user", question), ChatMessage("assistant", answer)]
        self._forget()

    def _forget(self) -> None:
        """Keep the history within its bound.

        Half of it goes at once: if every exchange pushed out the oldest, the beginning of the
        prompt would change each time, and llm would have to read all of it anew.
        """
        if len(self._history) > 2 * self._most_turns:
            kept = 2 * (self._most_turns // 2)
            self._history = self._history[-kept:] if kept else []

    def _read_ahead(self, *since: ChatMessage) -> None:
        """Let llm read the conversation, and what is about to become part of it, while idle."""
        self._out.append(
            Prepare(session_id=self._session_id, messages=(*self._conversation(), *since))
        )

    def _drop_answer(self, turn: Turn) -> None:
        """Nothing of an answer written so far is wanted."""
        self._deferred = ""
        if turn.generate and not turn.reply_complete:
            self._cancel(turn.generate.request_id)
        if turn.answer_id:
            self._cancel(turn.answer_id)
            turn.utterance_ids.remove(turn.answer_id)
        turn.generate = turn.first_reply = None
        turn.held, turn.pieces = [], []
        turn.answer_id = ""
        turn.released = turn.reply_complete = False

    def _on_reply(self, chunk: ReplyChunk) -> None:
        turn = self._turn
        if turn is None or turn.generate is None or turn.reply_complete:
            return
        if chunk.request_id != turn.generate.request_id:
            return
        if not turn.released and (chunk.error or len(turn.pieces) >= _PIECES_AHEAD):
            turn.held.append(chunk)  # not a word of it is spoken before the turn is over
            return
        turn.waiting_since_ns = self._now_ns
        if chunk.error:
            self._give_up(turn, phrases.CANNOT_THINK, "llm_failed")
            return
        if turn.released:
            self._note_reply(turn, chunk)
        turn.first_reply = turn.first_reply or chunk
        if chunk.index < len(turn.pieces):
            return  # a restarted llm says again what tts has got already
        if chunk.last and not chunk.text and not turn.pieces:
            if turn.released:
                self._give_up(turn, phrases.NO_ANSWER, "empty_answer")
            else:
                turn.held.append(chunk)
            return
        turn.reply_complete = chunk.last
        self._speak(turn, chunk.text, last=chunk.last)
        if chunk.last and turn.released:
            answer = " ".join(piece.text for piece in turn.pieces)
            self._read_ahead(
                ChatMessage("user", turn.transcript), ChatMessage("assistant", answer.strip())
            )

    @staticmethod
    def _note_reply(turn: Turn, chunk: ReplyChunk) -> None:
        turn.ledger.mark("llm_queue", chunk.started_ns or chunk.received_ns)
        turn.ledger.mark("llm_ttft", chunk.first_token_ns)
        turn.ledger.mark("text_aggregation", chunk.finished_ns)

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
            hold=not turn.released,
        )
        turn.pieces.append(piece)
        turn.waiting_since_ns = self._now_ns
        self._out.append(piece)

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

    # --- the end of a turn -----------------------------------------------------------------

    def _finish(self, turn: Turn, outcome: Outcome, played: str) -> None:
        """The answer is over; what was heard of it is remembered."""
        if turn.transcript and played:
            self._remember(turn.transcript, played)
            self._read_ahead()
        if played:
            self._out.append(DialogueWords(session_id=self._session_id, text=played))
        if turn is self._turn:
            self._close(outcome, played)
        else:
            self._publish_record(turn, outcome, played)

    def _close(self, outcome: Outcome, reply: str = "") -> None:
        turn = self._turn
        assert turn is not None
        if turn.generate and not turn.reply_complete:  # llm must be free for the next question
            self._cancel(turn.generate.request_id)
        self._deferred = ""
        self._publish_record(turn, outcome, reply)
        self._turn = None
        self._enter("idle")

    def _publish_record(self, turn: Turn, outcome: Outcome, reply: str) -> None:
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
                overlaps=tuple(turn.overlaps),
                end_of_turn_probability=turn.end_of_turn_probability,
            )
        )

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
        if beat.process == "tts":
            self._settle_interrupted()
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

    def _settle_interrupted(self) -> None:
        """Nobody will say any more how much of these answers was played: whole pieces count."""
        for turn in self._ending.values():
            played = " ".join(piece.text for piece in turn.pieces[: turn.played_pieces])
            self._finish(turn, "interrupted", played)
        self._ending.clear()
        self._go_on_deferred()

    def _go_on_deferred(self) -> None:
        text, self._deferred = self._deferred, ""
        if text and self._turn is not None:
            self._generate(self._turn, text)

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
        if turn.released and turn.pieces[turn.resumed_at].hold:
            self._out.append(Release(session_id=self._session_id, utterance_id=turn.answer_id))

    def _give_up(self, turn: Turn, text: str, why: str) -> None:
        """Nothing more will come of this turn: say so, and close it when that has been heard."""
        turn.mark(why)
        if turn.generate and not turn.reply_complete:
            self._cancel(turn.generate.request_id)
        for segment in turn.segments:
            if segment.request and segment.text is None:
                self._cancel(segment.request.request_id)
                segment.text = ""
        turn.waiting_since_ns = self._now_ns
        if turn.pieces and turn.released:
            turn.reply_complete = True
            if not turn.pieces[-1].last:
                self._speak(turn, "", last=True)  # what was begun is played to its end
            return
        self._drop_answer(turn)
        turn.reply_complete = True
        turn.apology_id = ""
        self._enter("thinking")
        self._apologise(turn, text)

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
