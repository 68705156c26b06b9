"""The conductor's side towards asr, mind, llm and tts: what they are asked to do. Pure.

A question goes to mind first, which answers within milliseconds what needs no language model, and
tells what llm should know for the rest. Without mind, llm is asked alone.

An answer may be considered, written and synthesised ahead, in a pause that may be the end of the
turn. None of it is done, remembered or played before the turn is over, and all of it is thrown
away when the user goes on.
"""

from __future__ import annotations

import itertools

from appliance.conductor import phrases
from appliance.conductor.history import SUMMARY_TOKENS, History
from appliance.conductor.ledger import Ledger
from appliance.conductor.turn import Segment, Source, Turn, TurnSettings
from appliance.conductor.words import same_words
from appliance.messages import (
    Cancel,
    ChatMessage,
    Commit,
    Consider,
    Floor,
    FloorState,
    Generate,
    Message,
    Prepare,
    Release,
    Speak,
    Transcribe,
)
from appliance.speech_text.sentences import SentenceSplitter

CONSIDER_BOUND_MS = 150
"""Longest wait for mind; then llm is asked alone."""


class Asking:
    """What all parts of the state machine share, and what they ask of other processes.

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
        self._state_since_ns = 0
        self._turn: Turn | None = None
        self._ending: dict[str, Turn] = {}
        """Interrupted turns by their answer, until tts has said how much of it was played."""
        self._deferred = False
        """Whether the question waits for what was played of the answer before it."""
        self._history = History(settings.history_turns, settings.history_tokens)
        self._summary_id, self._summary = "", ""
        """The request for a summary of what has left the history, and what was written of it."""
        self._mind_ready = self._llm_loads = False
        self._lives: dict[str, int] = {}
        self._out: list[Message] = []
        self._now_ns = 0

    def use_history(self, turns: int) -> None:
        """Let answers refer to so many earlier turns from now on."""
        self._history.shorten(turns)

    def _begin(self, source: Source, start_ns: int) -> Turn:
        self._stop_summary()
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

    # --- an answer ---------------------------------------------------------------------------

    def _ask(self, turn: Turn, text: str) -> None:
        """Have a question answered; what was prepared for another one is dropped."""
        self._drop_answer(turn)
        turn.asked = text
        if not self._mind_ready:
            self._generate(turn)
            return
        turn.consider = Consider(
            session_id=self._session_id,
            request_id=next(self._ids),
            text=text,
            in_dialogue=bool(self._history),
            turn_id=turn.id,
        )
        turn.consider_by_ns = self._now_ns + CONSIDER_BOUND_MS * 1_000_000
        self._out.append(turn.consider)

    def _commit_to_mind(self, turn: Turn, call: str = "") -> None:
        """What mind considered is meant."""
        if turn.consider is None or turn.considered is None or turn.committed:
            return
        turn.committed = True
        turn.mark(turn.considered.intent)
        turn.deed_pending = turn.considered.acts or bool(call)
        turn.waiting_since_ns = self._now_ns
        self._out.append(
            Commit(
                session_id=self._session_id,
                request_id=turn.consider.request_id,
                call=call,
                turn_id=turn.id,
            )
        )

    def _generate(self, turn: Turn) -> None:
        if self._ending:
            self._deferred = True
            return
        considered = turn.considered
        question = (considered.question if considered else "") or turn.asked
        if turn.prepared and same_words(question, turn.prepared):
            question = turn.prepared  # as llm has read it
        facts = considered.facts if considered else ""
        turn.generate = Generate(
            session_id=self._session_id,
            request_id=next(self._ids),
            messages=(
                *self._conversation(),
                # facts after the question: its words were read ahead while it was spoken
                ChatMessage("user", f"{question}\n{facts}" if facts else question),
            ),
            max_tokens=self._settings.max_tokens,
            grammar=considered.grammar if considered else "",
        )
        self._out.append(turn.generate)

    def _drop_answer(self, turn: Turn) -> None:
        """Nothing of an answer prepared so far is wanted."""
        self._deferred = False
        if turn.generate and not turn.reply_complete:
            self._cancel(turn.generate.request_id)
        if turn.answer_id:
            self._cancel(turn.answer_id)
            turn.utterance_ids.remove(turn.answer_id)
        turn.asked = ""
        turn.consider = turn.considered = None
        turn.consider_by_ns = 0
        turn.committed = turn.deed_pending = False
        turn.generate = turn.first_reply = None
        turn.held, turn.pieces = [], []
        turn.answer_id = ""
        turn.released = turn.reply_complete = False

    def _say(self, turn: Turn, text: str) -> None:
        """Speak a whole text as the answer."""
        splitter = SentenceSplitter(first_clause_words=0, first_phrase_words=0)
        sentences = [*splitter.push(text), *splitter.flush()] or [text]
        for sentence in sentences[:-1]:
            self._speak(turn, sentence, last=False)
        self._speak(turn, sentences[-1], last=True)
        turn.reply_complete = True

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

    def _release(self, turn: Turn) -> None:
        """Let tts play what it holds of the answer."""
        turn.released = True
        if turn.answer_id:
            self._out.append(Release(session_id=self._session_id, utterance_id=turn.answer_id))

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
                text=phrases.said(text, self._settings.language),
                last=True,
            )
        )

    # --- the conversation --------------------------------------------------------------------

    def _conversation(self) -> tuple[ChatMessage, ...]:
        """What llm is told before the question."""
        return *self._settings.opening, *self._history.messages()

    def _read_ahead(self, *since: ChatMessage) -> None:
        """Let llm read the conversation, and what is about to become part of it, while idle."""
        self._out.append(
            Prepare(session_id=self._session_id, messages=(*self._conversation(), *since))
        )

    def _summarise(self) -> None:
        """Nobody speaks: have llm write down what has left the history."""
        messages = self._history.to_summarise()
        if not messages or self._summary_id:
            return
        self._summary_id, self._summary = next(self._ids), ""
        self._out.append(
            Generate(
                session_id=self._session_id,
                request_id=self._summary_id,
                messages=messages,
                max_tokens=SUMMARY_TOKENS,
                spoken=False,
            )
        )

    def _stop_summary(self) -> None:
        """Llm is needed for somebody; the summary can wait."""
        if self._summary_id:
            self._cancel(self._summary_id)
            self._summary_id = ""

    # --- small things ------------------------------------------------------------------------

    def _cancel(self, request_id: str) -> None:
        self._out.append(Cancel(session_id=self._session_id, id=request_id))

    def _enter(self, state: FloorState) -> None:
        if state == self._state:
            return
        self._state, self._state_since_ns = state, self._now_ns
        self._out.append(
            Floor(
                session_id=self._session_id,
                state=state,
                turn_id=self._turn.id if self._turn else "",
                since_ns=self._now_ns,
            )
        )
