"""The half of the state machine that listens: segments, pauses, and the end of the turn. Pure.

A pause may be the end of the user's turn: it is transcribed, the answer prepared in it, and given
when the sound of the last words and the length of the silence say that the turn is over. Until
something of the answer was heard, going on reopens the turn.
"""

from __future__ import annotations

from appliance.conductor import phrases
from appliance.conductor.attention import Attention
from appliance.conductor.bearings import APART_DEG, Bearings
from appliance.conductor.endpointing import Endpointing
from appliance.conductor.ledger import Ledger
from appliance.conductor.misheard import Misheard
from appliance.conductor.overlapping import Overlapping
from appliance.conductor.turn import Segment, Turn, TurnSettings, merge_spans
from appliance.conductor.words import is_stop, is_unfinished, same_words
from appliance.messages import (
    Company,
    Considered,
    EndOfTurn,
    PartialTranscript,
    Prepare,
    QuestionRead,
    ReplyChunk,
    SpeechAside,
    SpeechContinued,
    SpeechEnded,
    SpeechEvent,
    SpeechPaused,
    SpeechResumed,
    SpeechStarted,
    Transcript,
)
from appliance.vad.direction import apart_deg

_SPEAKING_AGAIN_MS = 400
"""A commit waits so long for a sound in the pause to become speech, or not."""
_UNDERSTOOD_PROBABILITY = 0.95
"""That a sentence is complete which is a whole command."""
_TAKEN_OVER_MS = 700
"""So long before it is noticed somebody began to speak from another bearing."""
_PREPARED_WORDS = 2
"""llm reads the question so many words at a time while it is being asked. Words that prove wrong
cost it the time to read them again; it has nothing else to do."""
_ENDS = (".", "!", "?", "。", "！", "？")
"""Where the recogniser takes a sentence for complete, llm reads all that comes before an answer."""


class Listening(Overlapping):
    """The part of the state machine that hears the user's turn to its end."""

    def __init__(self, session_id: str, settings: TurnSettings, *, life: int) -> None:
        """Nothing was said; see `Answering`."""
        super().__init__(session_id, settings, life=life)
        self._endpointing = Endpointing(
            end_of_turn_ms=settings.end_of_turn_ms,
            fallback_ms=settings.fallback_ms,
            threshold=settings.end_of_turn_probability,
        )
        self._heard_until_ns = 0
        """Speech before this was answered already."""
        self._attention = Attention(
            wake_word=settings.wake_word, follow_up_ms=settings.follow_up_ms
        )
        self._misheard = Misheard()
        self._bearings = Bearings()
        self._company_told = Company(session_id=session_id, partner_deg=None, engaged=False)

    # --- the user's turn -------------------------------------------------------------------

    def _heard(self, event: SpeechEvent) -> Segment | None:
        """The segment an event belongs to; None when it is none of the user's business now."""
        turn = self._turn
        onset_ns = event.speech_start_ns + self._settings.preroll_ms * 1_000_000
        known = turn is not None and turn.segment(event.utterance_id) is not None
        if isinstance(event, SpeechResumed) and not known and onset_ns < self._heard_until_ns:
            # "Stop." was obeyed at the pause; what follows in the same breath is new
            onset_ns = self._now_ns
            from_ns = onset_ns - self._settings.preroll_ms * 1_000_000
            self._attention.taken_over(event.utterance_id, from_ns)
        if onset_ns < self._heard_until_ns and not known:
            return None
        if event.utterance_id == self._ignored or self._muted:
            return None
        if self._state == "speaking" or (turn is not None and turn.source != "speech"):
            return None
        if turn is None:
            if not self._attention.is_meant(onset_ns):
                return None
            turn = self._begin("speech", event.speech_start_ns)
            self._read_ahead()
        elif self._state == "thinking" and turn.segment(event.utterance_id) is None:
            self._reopen(turn)
        self._note_talker(turn, event)
        turn.waiting_since_ns = self._now_ns
        segment = turn.segments[-1] if turn.segments else None
        if segment is None or (segment.ended and segment.utterance_id != event.utterance_id):
            segment = Segment(event.utterance_id, self._attention.meant_spans(event))
            turn.segments.append(segment)
        elif segment.ended:
            return None  # vad was restarted and tells again what was heard already
        else:
            segment.utterance_id = event.utterance_id
            segment.spans = merge_spans(segment.spans, self._attention.meant_spans(event))
        if self._state == "idle":
            self._enter("listening")
        return segment

    def _note_talker(self, turn: Turn, event: SpeechEvent) -> None:
        """Know whose turn it is; the partner takes over from anybody else who talks."""
        direction_deg = event.direction_deg
        if direction_deg is None or self._bearings.is_background(direction_deg, self._now_ns):
            return  # it was heard beside the talker
        if turn.direction_deg is None:
            turn.direction_deg = direction_deg
            return
        if (
            apart_deg(direction_deg, turn.direction_deg) < APART_DEG
            or isinstance(event, SpeechPaused | SpeechEnded)
            or not self._bearings.is_partner(direction_deg, self._now_ns)
            or self._bearings.is_partner(turn.direction_deg, self._now_ns)
        ):
            return
        self._drop_answer(turn)
        for segment in turn.segments:
            if segment.request and segment.text is None:
                self._cancel(segment.request.request_id)
        turn.mark("taken_over")
        turn.segments, turn.prepared, turn.commit_at_ns = [], "", 0
        turn.direction_deg = direction_deg
        self._attention.taken_over(event.utterance_id, self._now_ns - _TAKEN_OVER_MS * 1_000_000)

    def _on_aside(self, message: SpeechAside) -> None:
        self._bearings.aside(
            message.direction_deg,
            message.voiced_ms,
            self._now_ns,
            learn=self._state in ("listening", "thinking"),
        )

    def _tell_company(self) -> None:
        """Say who is in the conversation, if that has changed."""
        turn, now_ns = self._turn, self._now_ns
        engaged = (
            turn is not None
            and self._state in ("listening", "thinking")
            and self._bearings.is_partner(turn.direction_deg, now_ns)
        )
        company = Company(
            session_id=self._session_id,
            partner_deg=self._bearings.partner_deg(now_ns),
            engaged=engaged,
            background_deg=self._bearings.background_deg(now_ns),
        )
        if company != self._company_told:
            self._company_told = company
            self._out.append(company)

    def _reopen(self, turn: Turn) -> None:
        """The user goes on although the turn seemed over: nothing was heard yet, so it is not."""
        self._drop_answer(turn)
        if turn.apology_id:
            self._cancel(turn.apology_id)
        turn.mark("reopened")
        turn.over = False
        turn.commit_at_ns = 0
        turn.ledger = Ledger(turn.ledger.start_ns)
        self._enter("listening")

    def _on_started(self, event: SpeechStarted) -> None:
        if self._state == "speaking":
            self._begin_overlap(event)
            return
        self._goes_on(self._heard(event))

    def _on_continued(self, event: SpeechContinued) -> None:
        if self._overlaps(event):
            self._continue_overlap(event)
        elif self._turn is not None and self._turn.segment(event.utterance_id):
            self._heard(event)
        elif self._state == "speaking" and self._turn is not None and self._turn.source != "speech":
            self._begin_overlap(event)  # it began while an announcement was being synthesised

    def _on_resumed(self, event: SpeechResumed) -> None:
        turn = self._turn
        if event.utterance_id == self._ignored and not self._ignored_for_good:
            self._ignored = ""  # what follows an "okay" or a cough is judged anew
        if self._state == "speaking":
            if self._overlaps(event):
                self._resume_overlap()
            else:
                self._begin_overlap(event)
            return
        if turn is not None and self._state == "thinking" and turn.source == "speech":
            segment = turn.segment(event.utterance_id)
            if segment is not None:  # the turn was over too soon
                self._reopen(turn)
                segment.ended = False
        self._goes_on(self._heard(event))

    def _goes_on(self, segment: Segment | None) -> None:
        """The user speaks again: the pause was none, and what was prepared in it is void."""
        turn = self._turn
        if segment is None or turn is None:
            return
        if turn.commit_at_ns or segment.paused:
            pause_from_ns = max(s.speech_end_ns for s in turn.segments)
            self._endpointing.spoke_on((self._now_ns - pause_from_ns) / 1e6)
        turn.commit_at_ns = 0
        turn.end_of_turn_probability = turn.words_end_probability = None
        segment.paused = False
        if segment.request:
            if segment.text is None:
                self._cancel(segment.request.request_id)
            segment.request = segment.text = None
        if turn.asked or turn.answer_id:
            self._drop_answer(turn)

    def _on_partial(self, message: PartialTranscript) -> None:
        overlap = self._overlap
        if overlap is not None and overlap.utterance_id == message.utterance_id:
            text = f"{message.stable} {message.tail}"
            self._decide(overlap.words(text, self._in_the_air(), final=False))
            return
        turn = self._turn
        if turn is None or self._state != "listening" or not self._settings.think_ahead:
            return
        *earlier, segment = turn.segments
        if segment.utterance_id != message.utterance_id or segment.text is not None:
            return
        before = [s.text for s in earlier]
        words = f"{message.stable} {message.tail}".strip()
        text = " ".join([*(text for text in before if text), words])
        if words and None not in before and not segment.paused:  # else all words are about to come
            self._read_words(turn, text)

    def _read_words(self, turn: Turn, text: str) -> None:
        """Have llm read a question that is being asked."""
        whole = text.endswith(_ENDS) and not is_unfinished(text)
        if whole:
            new = not same_words(turn.prepared, text)
        else:  # the last may be half a word
            text = text.rpartition(" ")[0].rstrip(".,!?…。，！？ ")
            new = len(text.split()) >= len(turn.prepared.split()) + _PREPARED_WORDS
        if not new:
            return
        turn.prepared = text
        self._out.append(
            Prepare(
                session_id=self._session_id,
                messages=self._conversation(),
                question=text,
                whole=whole,
            )
        )

    def _on_paused(self, event: SpeechPaused) -> None:
        if self._overlaps(event):
            self._hear_overlap(event)
            return
        segment = self._heard(event)
        turn = self._turn
        if segment is None or turn is None:
            return
        segment.spans = merge_spans(segment.spans, self._attention.meant_spans(event))
        segment.fell_silent(event)
        segment.paused = True
        turn.commit_at_ns = 0
        turn.end_of_turn_probability = turn.words_end_probability = None
        self._transcribe(segment)

    def _on_end_of_turn(self, message: EndOfTurn) -> None:
        turn, over = self._turn, self._overlap_segment
        if over is not None and over.utterance_id == message.utterance_id:
            if over.paused and over.speech_end_ns == message.speech_end_ns:
                over.end_of_turn_probability = message.probability
            return
        if turn is None or self._state != "listening":
            return
        segment = turn.segment(message.utterance_id)
        if segment is None or segment is not turn.segments[-1]:
            return
        if not segment.paused or segment.speech_end_ns != message.speech_end_ns:
            return
        turn.end_of_turn_probability = message.probability
        self._plan_commit(turn)

    def _on_ended(self, event: SpeechEnded) -> None:
        if self._overlaps(event):
            self._hear_overlap(event)
            return
        segment = self._heard(event)
        turn = self._turn
        if segment is None or turn is None:
            return
        if segment.request is None or segment.speech_end_ns != event.speech_end_ns:
            if event.more_follows:  # cut before what was heard last, which is in the next one
                segment.spans = self._attention.meant_spans(event)
            else:
                segment.spans = merge_spans(segment.spans, self._attention.meant_spans(event))
            self._transcribe(segment)  # what is planned for the silence stands
        segment.fell_silent(event)
        segment.ended = segment.paused = True
        if event.more_follows:
            segment.paused = False
            return
        if self._state == "listening" and turn.commit_at_ns <= self._now_ns:
            self._commit(turn)

    def _plan_commit(self, turn: Turn) -> None:
        """Set when the turn is over, by what is known of its sound and its words.

        As long as llm reads the words the answer cannot begin: until then its opinion is waited
        for, though no longer than for a turn without any opinion.
        """
        segment = turn.segments[-1]
        if self._state != "listening" or not segment.paused:
            return
        sound, words = turn.end_of_turn_probability, turn.words_end_probability
        unfinished = is_unfinished(turn.words() or "")
        if sound is None and words is None and not unfinished:
            return
        silence_ms = self._endpointing.silence_needed_ms(sound, words, unfinished=unfinished)
        if words is None and self._settings.think_ahead:
            silence_ms = max(silence_ms, self._settings.fallback_ms)
        turn.commit_at_ns = segment.speech_end_ns + silence_ms * 1_000_000
        self._commit_if_due(turn)

    def _on_reply(self, chunk: ReplyChunk) -> None:
        turn = self._turn
        self._take_opinion(chunk.request_id, chunk.question_complete)
        super()._on_reply(chunk)
        if turn is not None and turn is self._turn and turn.segments:
            self._plan_commit(turn)

    def _on_question_read(self, message: QuestionRead) -> None:
        self._take_opinion(message.request_id, message.complete)
        if self._turn is not None and self._turn.segments:
            self._plan_commit(self._turn)

    def _take_opinion(self, request_id: str, complete: float | None) -> None:
        turn = self._turn
        if turn is not None and turn.generate and turn.generate.request_id == request_id:
            turn.words_end_probability = complete

    def _on_considered(self, message: Considered) -> None:
        super()._on_considered(message)
        turn = self._turn
        if turn is not None and turn.considered is message and message.intent and turn.segments:
            turn.words_end_probability = _UNDERSTOOD_PROBABILITY
            self._plan_commit(turn)

    def _commit_if_due(self, turn: Turn) -> None:
        if not turn.commit_at_ns or self._state != "listening":
            return
        due_ns = turn.commit_at_ns
        near_end = self._near_end
        if near_end is not None and near_end.onset_ns > turn.segments[-1].speech_end_ns:
            due_ns = max(due_ns, near_end.onset_ns + _SPEAKING_AGAIN_MS * 1_000_000)
        if self._now_ns >= due_ns:
            self._commit(turn)

    def _commit(self, turn: Turn) -> None:
        """The user's turn is over."""
        turn.commit_at_ns = 0
        for segment in turn.segments:
            segment.ended = True
            if segment.request is None:
                self._transcribe(segment)
        self._endpointing.turn_over()
        turn.waiting_since_ns = self._now_ns
        last = max(turn.segments, key=lambda segment: segment.speech_end_ns)
        silent_ns = last.speech_end_ns or turn.ledger.start_ns
        turn.ledger = Ledger(last.talker_end_ns or silent_ns, speech_end_ns=silent_ns)
        turn.ledger.mark("end_of_turn_delay", self._now_ns)
        self._enter("thinking")
        self._answer_when_transcribed(turn)

    def _on_transcript(self, message: Transcript) -> None:
        if self._overlap_segment is not None and self._words_over_answer(message):
            return
        turn = self._turn
        if self._words_aside(message) or turn is None:
            return
        for segment in turn.segments:
            if segment.request and segment.request.request_id == message.request_id:
                break
        else:
            return
        if message.error and self._state == "listening":
            segment.request = None  # asked for again when the turn is over
            return
        if message.error:
            self._give_up(turn, phrases.CANNOT_HEAR, "asr_failed")
            return
        segment.text = message.text
        if message.lost_blocks:
            turn.mark("audio_lost")
        if self._state == "thinking":
            self._answer_when_transcribed(turn)
        elif self._settings.think_ahead:
            self._think_ahead(turn)

    def _think_ahead(self, turn: Turn) -> None:
        """The turn may be over: prepare its answer."""
        text = turn.words()
        if not text:
            return
        if is_stop(text):
            turn.words_end_probability = 1.0
            self._plan_commit(turn)
            return
        if turn.asked != text:
            self._ask(turn, text)
        self._plan_commit(turn)

    def _answer_when_transcribed(self, turn: Turn) -> None:
        text = turn.words()
        if text is None:
            return
        turn.ledger.mark("transcription_delay", self._now_ns)
        turn.transcript = text
        self._heard_until_ns = max(
            self._heard_until_ns, *(segment.speech_end_ns for segment in turn.segments)
        )
        if text:
            self._misheard.understood()
        if not text:
            self._nothing_heard(turn)
        elif is_stop(text):
            self._drop_answer(turn)
            self._close("stopped")
        else:
            self._answer(turn, text)

    def _nothing_heard(self, turn: Turn) -> None:
        """There was speech without words: somebody is told, if it was surely somebody."""
        voiced_ms = sum(segment.voiced_ms for segment in turn.segments)
        if self._misheard.shall_say(voiced_ms, interrupted="barge_in" in turn.marks):
            self._give_up(turn, phrases.NOT_CAUGHT, "not_caught")
        else:
            self._close("nothing_said")

    def _take_floor(self, segment: Segment) -> None:
        """What was said over an answer begins a turn of its own."""
        turn = self._begin("speech", self._now_ns)
        turn.mark("barge_in")
        if self._muted:
            self._close("muted")
            return
        turn.segments.append(segment)
        self._enter("listening")
        if not segment.ended:
            words = segment.text if segment.paused and self._settings.think_ahead else ""
            if words and not is_stop(words):
                turn.end_of_turn_probability = segment.end_of_turn_probability
                self._think_ahead(turn)
            return
        if segment.request is None:
            self._transcribe(segment)
        self._commit(turn)
