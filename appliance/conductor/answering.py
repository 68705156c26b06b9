"""What the other processes owe to a turn, and how a turn ends. Pure.

Only the conductor asks asr, mind, llm and tts for work, so it alone knows what is still owed to the
user when one of them dies: the request is made again as soon as the successor is there, with a
short spoken apology when the user would otherwise hear silence.
"""

from __future__ import annotations

from appliance.conductor import phrases
from appliance.conductor.asking import Asking
from appliance.conductor.turn import Turn
from appliance.messages import (
    ChatMessage,
    Considered,
    DialogueWords,
    Done,
    Heartbeat,
    Outcome,
    Release,
    ReplyChunk,
    TurnRecord,
)

MOST_RETRIES = 2
"""Lives of one process that a turn may cost: a request that kills whoever takes it must end."""

SERVANTS = ("asr", "mind", "llm", "tts")
"""The processes that owe the conductor answers."""

_PIECES_AHEAD = 1
"""So many pieces of an answer are synthesised before the turn is over: more would only keep the
processor from hearing the user go on."""
_OF_THE_CONVERSATION = ("", "cache")
"""Answers that llm is told later. Of what mind did it must not learn to claim that it does it."""


class Answering(Asking):
    """The part of the state machine that takes what the other processes deliver."""

    def _answer(self, turn: Turn, text: str) -> None:
        """The question is certain: answer it, with what was prepared if that fits."""
        turn.transcript = text
        turn.waiting_since_ns = self._now_ns
        self._enter("thinking")
        turn.over = True
        if turn.asked != text:
            self._ask(turn, text)
        if turn.considered is not None:
            self._settle(turn)
        elif turn.consider is None:
            self._let_out(turn)

    def _settle(self, turn: Turn) -> None:
        """The turn is over and mind's opinion known: have it done, and say it."""
        considered = turn.considered
        assert considered is not None
        turn.ledger.mark("understanding", considered.finished_ns)
        if considered.grammar and not turn.first_reply and not turn.held:
            turn.released = True
            return  # whether llm calls for something is not known yet
        call = next((chunk.call for chunk in turn.held if chunk.call), "")
        self._commit_to_mind(turn, call)
        if not turn.deed_pending:
            self._let_out(turn)

    def _let_out(self, turn: Turn) -> None:
        """What was held back of the answer is wanted."""
        self._release(turn)
        if self._llm_loads and turn.generate and not turn.reply_complete:
            self._apologise(turn, phrases.ONE_MOMENT)
        if turn.first_reply is not None:
            self._note_reply(turn, turn.first_reply)
        held, turn.held = turn.held, []
        for chunk in held:
            self._on_reply(chunk)

    def _on_considered(self, message: Considered) -> None:
        turn = self._turn
        if turn is None or turn.consider is None or turn.considered is not None:
            return
        if message.request_id != turn.consider.request_id:
            return
        turn.considered = message
        turn.consider_by_ns = 0
        turn.waiting_since_ns = self._now_ns
        if not message.intent:
            self._generate(turn)
        elif message.reply and not (message.acts and turn.over):
            turn.released = turn.over
            self._say(turn, message.reply)
        if turn.over:
            self._settle(turn)

    def _ask_llm_alone(self, turn: Turn) -> None:
        """Mind says nothing in time."""
        turn.consider, turn.consider_by_ns = None, 0
        turn.mark("mind_late")
        turn.released = turn.over
        self._generate(turn)

    def _on_done(self, message: Done) -> None:
        turn = self._turn
        if turn is None or turn.consider is None or not turn.deed_pending:
            return
        if message.request_id != turn.consider.request_id:
            return
        turn.deed_pending = False
        turn.waiting_since_ns = self._now_ns
        turn.ledger.mark("action", self._now_ns)
        if turn.pieces and " ".join(p.text for p in turn.pieces) != " ".join(message.reply.split()):
            self._cancel(turn.answer_id)  # it went otherwise than foreseen
            turn.utterance_ids.remove(turn.answer_id)
            turn.answer_id, turn.pieces = "", []
        turn.held = []
        if turn.pieces:
            self._release(turn)
            return
        turn.released = turn.reply_complete = True
        if message.reply:
            self._say(turn, message.reply)
        else:
            self._close("answered")

    def _on_reply(self, chunk: ReplyChunk) -> None:
        if chunk.request_id == self._summary_id:
            self._note_summary(chunk)
            return
        turn = self._turn
        if turn is None or turn.generate is None or turn.reply_complete:
            return
        if chunk.request_id != turn.generate.request_id:
            return
        if not turn.released and (chunk.error or chunk.call or len(turn.pieces) >= _PIECES_AHEAD):
            turn.held.append(chunk)  # not a word of it is spoken before the turn is over
            return
        turn.waiting_since_ns = self._now_ns
        if chunk.error:
            self._give_up(turn, phrases.CANNOT_THINK, "llm_failed")
        else:
            self._take_reply(turn, chunk)

    def _take_reply(self, turn: Turn, chunk: ReplyChunk) -> None:
        """Speak a piece of the answer, or have the tool called that llm asks for."""
        if turn.released:
            self._note_reply(turn, chunk)
            self._commit_to_mind(turn, chunk.call)
        turn.first_reply = turn.first_reply or chunk
        if chunk.call and turn.deed_pending:
            turn.reply_complete = True
            return
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

    def _note_summary(self, chunk: ReplyChunk) -> None:
        self._summary = f"{self._summary} {chunk.text}".strip()
        if not (chunk.last or chunk.error):
            return
        self._summary_id = ""
        if self._summary and not chunk.error:
            self._history.summarised(self._summary)
            self._read_ahead()
        else:  # asked again at once it would fail again, and again
            self._history.let_fall()

    @staticmethod
    def _note_reply(turn: Turn, chunk: ReplyChunk) -> None:
        turn.ledger.mark("llm_queue", chunk.started_ns or chunk.received_ns)
        turn.ledger.mark("llm_ttft", chunk.first_token_ns)
        turn.ledger.mark("text_aggregation", chunk.finished_ns)

    # --- the end of a turn -----------------------------------------------------------------

    def _finish(self, turn: Turn, outcome: Outcome, played: str) -> None:
        """The answer is over; what was heard of it is remembered."""
        intent = turn.considered.intent if turn.considered else ""
        if turn.transcript and played and intent in _OF_THE_CONVERSATION:
            self._history.remember(turn.transcript, played)
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
        self._deferred = False
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
                speech_end_ns=turn.ledger.speech_end_ns or turn.ledger.start_ns,
                audible_ns=turn.audible_ns,
                voice_to_voice_ms=turn.ledger.total_ms() if turn.audible_ns else 0.0,
                contributions_ms=turn.ledger.contributions_ms(),
                marks=tuple(turn.marks),
                overlaps=tuple(turn.overlaps),
                end_of_turn_probability=turn.end_of_turn_probability,
                talker_end_ns=turn.ledger.start_ns,
            )
        )

    # --- when things go wrong --------------------------------------------------------------

    def _on_heartbeat(self, beat: Heartbeat) -> None:
        if beat.process == "llm":
            self._llm_loads = beat.state == "starting"
        if beat.process == "mind":
            self._mind_ready = beat.state in ("ready", "degraded")
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
        deferred, self._deferred = self._deferred, False
        if deferred and self._turn is not None:
            self._generate(self._turn)

    def _owes(self, turn: Turn, process: str) -> bool:
        """Whether this process has taken on something for the turn and not delivered it."""
        match process:
            case "asr":
                return any(s.request and s.text is None for s in turn.segments)
            case "mind":
                return turn.deed_pending or bool(turn.consider_by_ns) or self._uncommitted(turn)
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
            case "mind":
                self._go_on_without_mind(turn)
            case "llm":
                assert turn.generate is not None
                self._out.append(turn.generate)
            case "tts":
                self._speak_again(turn)

    def _go_on_without_mind(self, turn: Turn) -> None:
        """It died: what it had begun may have been done or not, and must not be done twice."""
        if turn.deed_pending:
            self._give_up(turn, phrases.NOT_SURE, "mind_failed")
        elif turn.consider_by_ns:
            self._ask_llm_alone(turn)
        elif self._uncommitted(turn):
            self._ask(turn, turn.asked)  # its successor knows nothing of what it would have done

    @staticmethod
    def _uncommitted(turn: Turn) -> bool:
        """Whether mind would do something, and was not told yet to do it."""
        return turn.considered is not None and turn.considered.acts and not turn.committed

    def _stop_asking(self, turn: Turn, process: str) -> None:
        """Whatever this turn wants of the process seems to kill it."""
        match process:
            case "asr":
                self._give_up(turn, phrases.CANNOT_HEAR, "asr_failed")
            case "mind":
                self._go_on_without_mind(turn)
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
        rest = turn.pieces[turn.resumed_at :]
        self._out.extend(rest)
        if turn.released and rest and rest[0].hold:
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
        turn.reply_complete = turn.over = True
        turn.apology_id = ""
        self._enter("thinking")
        self._apologise(turn, text)
