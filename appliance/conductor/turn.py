"""What the conductor remembers of one turn. Plain data."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from appliance.conductor.ledger import Ledger
from appliance.messages import (
    ChatMessage,
    Consider,
    Considered,
    Generate,
    Overlap,
    ReplyChunk,
    Span,
    Speak,
    SpeechEnded,
    SpeechPaused,
    Transcribe,
)

_LISTENED_NS = 1_000_000_000
"""Nobody can be said to have listened to less."""
Source = Literal["speech", "text", "say"]


@dataclass(frozen=True, kw_only=True)
class TurnSettings:
    """What the state machine needs to know of the configuration."""

    asr_timeout_ms: int
    llm_timeout_ms: int
    tts_timeout_ms: int
    preroll_ms: int
    history_turns: int
    think_ahead: bool
    max_tokens: int
    opening: tuple[ChatMessage, ...]
    """What llm is told at the beginning of every conversation."""
    language: str = "en"
    """Of the appliance's own words."""
    history_tokens: int = 700
    """Of the conversation, about, that llm is told word by word."""
    fallback_ms: int = 800
    end_of_turn_ms: int = 200
    end_of_turn_probability: float = 0.5
    barge_in: bool = True
    wake_word: bool = False
    """Whether only who calls it first is listened to."""
    follow_up_ms: int = 8_000
    acknowledge: bool = False


@dataclass
class Segment:
    """One stretch of speech of a turn, and its words once they are known."""

    utterance_id: str
    spans: tuple[Span, ...]
    speech_end_ns: int = 0
    talker_end_ns: int = 0
    """As in `SpeechPaused`."""
    paused: bool = False
    ended: bool = False
    voiced_ms: float = 0.0
    """How much of it was surely a voice."""
    voiced_before_ms: float = 0.0
    """How much of vad's stretch was, before this begins."""
    end_of_turn_probability: float | None = None
    """As judged while it was spoken over an answer."""
    request: Transcribe | None = None
    text: str | None = None

    def fell_silent(self, event: SpeechPaused | SpeechEnded) -> None:
        """Note when, and how much of a voice there was until then."""
        self.speech_end_ns = event.speech_end_ns
        self.talker_end_ns = event.talker_end_ns
        self.voiced_ms = max(0.0, event.voiced_ms - self.voiced_before_ms)


@dataclass
class Turn:
    """One exchange: what was said, what is being answered."""

    id: str
    source: Source
    ledger: Ledger
    segments: list[Segment] = field(default_factory=list)
    transcript: str = ""
    direction_deg: float | None = None
    """Where its talker is, if that is known."""
    commit_at_ns: int = 0
    """When the turn is over if nobody says more; 0 while that is not known."""
    end_of_turn_probability: float | None = None
    """By the sound of the last words."""
    words_end_probability: float | None = None
    """By the words: that the sentence ends there."""
    prepared: str = ""
    """Beginning of the question that llm has read already."""
    asked: str = ""
    """The question for which an answer is prepared or given."""
    consider: Consider | None = None
    considered: Considered | None = None
    """What mind knows of it."""
    consider_by_ns: int = 0
    """When llm is asked without mind; 0 while mind is not waited for."""
    over: bool = False
    """Whether the user's part is over: what was considered is meant."""
    committed: bool = False
    """Whether mind was told so."""
    deed_pending: bool = False
    """Whether mind is doing something that the answer tells of."""
    generate: Generate | None = None
    first_reply: ReplyChunk | None = None
    held: list[ReplyChunk] = field(default_factory=list)
    """What llm wrote in a pause, before it was certain that the turn is over."""
    released: bool = False
    """Whether tts may play the answer."""
    reply_complete: bool = False
    pieces: list[Speak] = field(default_factory=list)
    """All that tts was asked to say of the answer, in order."""
    played_pieces: int = 0
    resumed_at: int = 0
    """First piece that the present life of tts was given."""
    answer_id: str = ""
    apology_id: str = ""
    utterance_ids: list[str] = field(default_factory=list)
    audible_ns: int = 0
    waiting_since_ns: int = 0
    """Since when the stage in hand has owed something."""
    marks: list[str] = field(default_factory=list)
    overlaps: list[Overlap] = field(default_factory=list)
    successors: dict[str, set[int]] = field(default_factory=dict)
    """Lives of each process that began while the process owed this turn something."""

    def mark(self, what: str) -> None:
        """Note, once, what made this turn other than a plain one."""
        if what and what not in self.marks:
            self.marks.append(what)

    def was_listened_to(self, ended_ns: int) -> bool:
        """Whether nobody spoke over its answer, and that was long enough to tell."""
        return ended_ns - self.audible_ns > _LISTENED_NS and all(
            overlap.kind in ("noise", "echo") for overlap in self.overlaps
        )

    def words(self) -> str | None:
        """All that was said so far; None while some of it is still being transcribed."""
        texts = [segment.text for segment in self.segments]
        if any(text is None for text in texts):
            return None
        return " ".join(text for text in texts if text).strip()

    def segment(self, utterance_id: str) -> Segment | None:
        """The stretch of speech of that name."""
        found = (s for s in self.segments if s.utterance_id == utterance_id)
        return next(found, None)


def merge_spans(old: Iterable[Span], new: Iterable[Span]) -> tuple[Span, ...]:
    """Names for all the audio that either names, per writer life and in the lives' order."""
    merged: dict[int, Span] = {}
    for span in itertools.chain(old, new):
        seen = merged.get(span.epoch, span)
        merged[span.epoch] = Span(
            span.epoch, min(seen.first, span.first), max(seen.last, span.last)
        )
    return tuple(merged[epoch] for epoch in sorted(merged))
