"""What the conductor remembers of one turn. Plain data."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from appliance.conductor.ledger import Ledger
from appliance.messages import Generate, ReplyChunk, Span, Speak, Transcribe

Outcome = Literal["answered", "interrupted", "nothing_said", "lost"]
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
    system_prompt: str


@dataclass
class Segment:
    """One stretch of speech of a turn, and its words once they are known."""

    utterance_id: str
    spans: tuple[Span, ...]
    speech_end_ns: int = 0
    ended: bool = False
    request: Transcribe | None = None
    text: str | None = None


@dataclass
class Turn:
    """One exchange: what was said, what is being answered."""

    id: str
    source: Source
    ledger: Ledger
    segments: list[Segment] = field(default_factory=list)
    transcript: str = ""
    generate: Generate | None = None
    held: list[ReplyChunk] = field(default_factory=list)
    """What llm wrote in a pause, before it was certain that the turn is over."""
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
    successors: dict[str, set[int]] = field(default_factory=dict)
    """Lives of each process that began while the process owed this turn something."""

    def mark(self, what: str) -> None:
        """Note, once, what made this turn other than a plain one."""
        if what not in self.marks:
            self.marks.append(what)


def merge_spans(old: Iterable[Span], new: Iterable[Span]) -> tuple[Span, ...]:
    """Names for all the audio that either names, per writer life and in the lives' order."""
    merged: dict[int, Span] = {}
    for span in itertools.chain(old, new):
        seen = merged.get(span.epoch, span)
        merged[span.epoch] = Span(
            span.epoch, min(seen.first, span.first), max(seen.last, span.last)
        )
    return tuple(merged[epoch] for epoch in sorted(merged))
