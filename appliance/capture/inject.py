"""Audio that clients want heard in place of the microphone: queued, paced, acknowledged. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from appliance.audio.blocks import BLOCK_SAMPLES, RATE_HZ, Samples
from appliance.messages import InjectAudio, InjectProgress, Span

QUEUE_LIMIT_SAMPLES = 10 * RATE_HZ
"""A client that ignores its credit is cut off beyond this."""
_REPORT_SAMPLES = RATE_HZ // 10


@dataclass
class _Client:
    id: bytes
    queue: deque[Samples] = field(default_factory=deque)
    queued: int = 0
    consumed: int = 0
    reported: int = 0
    last: bool = False
    span: Span | None = None


class Injector:
    """One client at a time speaks; the next one waits until its predecessor has ended."""

    def __init__(self) -> None:
        self._clients: deque[_Client] = deque()

    def accept(self, client_id: bytes, request: InjectAudio) -> bool:
        """Queue a client's audio. Returns False when it is not valid or there is too much of it."""
        if len(request.samples) % 4:
            return False
        samples = np.frombuffer(request.samples, np.float32)
        client = next((c for c in self._clients if c.id == client_id), None)
        if client is None:
            client = _Client(client_id)
            self._clients.append(client)
        if client.queued + len(samples) > QUEUE_LIMIT_SAMPLES or not np.isfinite(samples).all():
            self._clients.remove(client)
            return False
        if len(samples):
            client.queue.append(samples)
            client.queued += len(samples)
        client.last = client.last or request.last
        return True

    def replace(self, block: Samples) -> Samples:
        """The block to hear instead of the microphone's; the same one when nobody injects."""
        if not self._clients:
            return block
        client = self._clients[0]
        if client.queued < BLOCK_SAMPLES and not client.last:
            return np.zeros_like(block)  # its next piece is on the way: neither gap nor room noise
        out = np.zeros(BLOCK_SAMPLES, np.float32)
        filled = 0
        while filled < BLOCK_SAMPLES and client.queue:
            piece = client.queue[0]
            n = min(len(piece), BLOCK_SAMPLES - filled)
            out[filled : filled + n] = piece[:n]
            filled += n
            if n < len(piece):
                client.queue[0] = piece[n:]
            else:
                client.queue.popleft()
        client.queued -= filled
        client.consumed += filled
        return out

    def note(self, epoch: int, sequence: int) -> tuple[bytes, InjectProgress] | None:
        """Note the block's name after it was written; returns a report when one is due."""
        if not self._clients:
            return None
        client = self._clients[0]
        if client.consumed == 0:
            return None
        first = client.span.first if client.span and client.span.epoch == epoch else sequence
        client.span = Span(epoch, first, sequence)
        finished = client.last and not client.queue
        if not finished and client.consumed - client.reported < _REPORT_SAMPLES:
            return None
        client.reported = client.consumed
        if finished:
            self._clients.popleft()
        return client.id, InjectProgress(
            consumed=client.consumed, finished=finished, span=client.span
        )
