"""Audio of what is said often, so that it need not be synthesised again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator

from appliance.tts.engine import Rendered, TtsEngine

_MOST_WORDS = 6
_MOST_BYTES = 4 << 20
"""45 s of audio at 22.05 kHz."""


_Key = tuple[str, float]
"""Text and speed."""


class CachedEngine:
    """A `TtsEngine` that remembers short texts: those used last, and those it was prepared for.

    Args:
        engine: does the work.
        most_bytes: of audio that is remembered unprepared.
    """

    def __init__(self, engine: TtsEngine, *, most_bytes: int = _MOST_BYTES) -> None:
        self._engine = engine
        self._most_bytes = most_bytes
        self._recent: OrderedDict[_Key, tuple[Rendered, ...]] = OrderedDict()
        self._prepared: dict[_Key, tuple[Rendered, ...]] = {}
        self._bytes = 0

    @property
    def rate_hz(self) -> int:
        """See `TtsEngine.rate_hz`."""
        return self._engine.rate_hz

    @property
    def language(self) -> str:
        """See `TtsEngine.language`."""
        return self._engine.language

    @property
    def problem(self) -> str:
        """See `TtsEngine.problem`."""
        return self._engine.problem

    def knows(self, text: str, speed: float = 1.0) -> bool:
        """Whether a text's audio is there already."""
        key = text, speed
        return key in self._prepared or key in self._recent

    def synthesise(
        self, text: str, *, cancelled: Callable[[], bool], speed: float = 1.0
    ) -> Iterator[Rendered]:
        """See `TtsEngine.synthesise`; what is known comes at once."""
        key = text, speed
        known = self._prepared.get(key) or self._recent.get(key)
        if known is None:
            yield from self._record(key, cancelled)
            return
        if key in self._recent:
            self._recent.move_to_end(key)
        for rendered in known:
            if cancelled():
                return
            yield rendered

    def prepare(self, text: str, *, cancelled: Callable[[], bool]) -> bool:
        """Synthesise a text and keep it for good.

        Returns:
            False if it was cancelled or interrupted before the end.

        Raises:
            TtsError: the engine failed.
        """
        rendered = tuple(self._engine.synthesise(text, cancelled=cancelled))
        if not rendered or not rendered[-1].ends_sentence or cancelled():
            return False
        self._prepared[text, 1.0] = rendered
        return True

    def interrupt(self) -> None:
        """See `TtsEngine.interrupt`."""
        self._engine.interrupt()

    def close(self) -> None:
        """See `TtsEngine.close`."""
        self._engine.close()

    def _record(self, key: _Key, cancelled: Callable[[], bool]) -> Iterator[Rendered]:
        recorded = []
        text, speed = key
        for rendered in self._engine.synthesise(text, cancelled=cancelled, speed=speed):
            recorded.append(rendered)
            yield rendered
        complete = recorded and recorded[-1].ends_sentence and not cancelled()
        if not complete or len(text.split()) > _MOST_WORDS:
            return
        self._recent[key] = tuple(recorded)
        self._bytes += _size(self._recent[key])
        while self._bytes > self._most_bytes:
            self._bytes -= _size(self._recent.popitem(last=False)[1])


def _size(audio: tuple[Rendered, ...]) -> int:
    return sum(rendered.samples.nbytes for rendered in audio)
