"""The audio of the newest utterances, read from the ring piece by piece as it comes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from appliance.asr.streaming import LiveUtterance
from appliance.messages import Span

_KEPT = 2
"""The utterance that goes on, and the one before, which may still be asked for."""

ReadSpans = Callable[[Sequence[Span]], tuple[NDArray[np.float32], int]]
"""Gives the samples of spans, and how many blocks of them are lost."""


@dataclass
class Hearing:
    """An utterance so far."""

    live: LiveUtterance
    spans: tuple[Span, ...] = ()
    samples: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    lost_blocks: int = 0


def missing(have: Sequence[Span], wanted: Sequence[Span]) -> tuple[Span, ...] | None:
    """Return what of ``wanted`` comes after ``have``; None where it is not its continuation."""
    if not have:
        return tuple(wanted)
    count = len(have)
    if len(wanted) < count or tuple(wanted[: count - 1]) != tuple(have[:-1]):
        return None
    last, longer = have[-1], wanted[count - 1]
    if (last.epoch, last.first) != (longer.epoch, longer.first) or longer.last < last.last:
        return None
    rest = () if longer.last == last.last else (Span(last.epoch, last.last + 1, longer.last),)
    return (*rest, *wanted[count:])


class Hearings:
    """The newest utterances by id; older ones are forgotten."""

    def __init__(self, read: ReadSpans, begin: Callable[[], LiveUtterance]) -> None:
        """``begin`` makes what hears a new utterance."""
        self._read = read
        self._begin = begin
        self._kept: OrderedDict[str, Hearing] = OrderedDict()

    def extend(self, utterance_id: str, spans: Sequence[Span]) -> Hearing:
        """Return the utterance with the audio of ``spans``, of which only what is new is read.

        Spans that do not continue what is known begin it anew, and so does an empty id.
        """
        hearing = self._kept.get(utterance_id) or Hearing(self._begin())
        new = missing(hearing.spans, spans)
        if new is None:
            hearing, new = Hearing(self._begin()), tuple(spans)
        samples, lost = self._read(new)
        hearing.spans = tuple(spans)
        hearing.samples = np.concatenate((hearing.samples, samples))
        hearing.lost_blocks += lost
        if utterance_id:
            self._kept[utterance_id] = hearing
            self._kept.move_to_end(utterance_id)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return hearing

    def forget(self) -> None:
        """Begin every utterance anew."""
        self._kept.clear()
