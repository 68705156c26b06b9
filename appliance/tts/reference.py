"""The far-end reference: what the loudspeaker plays, as blocks of the speaker ring."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterable

from appliance.audio.blocks import BLOCK_SAMPLES, RATE_HZ
from appliance.capture.framer import BlockFramer
from appliance.ipc.audio_ring import RingWriter
from appliance.messages import BlocksReady
from appliance.tts.playback import PlayedBlock


def stream_id(utterance_id: str) -> int:
    """Under which stream id an utterance's blocks stand in the speaker ring."""
    return zlib.crc32(utterance_id.encode())


class FarEnd:
    """Dates, resamples and names what is handed to the loudspeaker.

    A block is written at hand-over, some 30 ms before it is heard: an echo canceller must have the
    reference before the echo.
    """

    def __init__(self, writer: RingWriter) -> None:
        self._writer = writer
        self._framer: BlockFramer | None = None
        self._next_frame = -1
        self._stream_id = 0
        self._starts: deque[tuple[int, int]] = deque()
        """(position, stream id) of first audible samples that lie ahead of what was written."""

    def take(self, played: Iterable[PlayedBlock], rate_hz: int) -> BlocksReady | None:
        """Take what was handed to the device, at its rate; returns what to publish, if anything."""
        before = self._writer.sequence
        for block in played:
            self._write(block, rate_hz)
        return self._writer.announcement() if self._writer.sequence > before else None

    def _write(self, block: PlayedBlock, rate_hz: int) -> None:
        if self._framer is None or block.first_frame != self._next_frame:
            self._framer = BlockFramer(rate_hz, first_frame=block.first_frame)
            while self._starts:  # began at the very end of the stretch before
                self._stream_id = self._starts.popleft()[1]
        self._next_frame = block.first_frame + len(block.samples)
        for frame, utterance_id in block.started:
            self._starts.append((frame * RATE_HZ // rate_hz, stream_id(utterance_id)))
        for dated in self._framer.push(block.samples[:, None], block.dac_ns):
            end = dated.position + BLOCK_SAMPLES
            while self._starts and self._starts[0][0] < end:
                self._stream_id = self._starts.popleft()[1]
            self._writer.write(
                dated.samples[0], dated.first_sample_ns, self._stream_id, dated.position
            )
