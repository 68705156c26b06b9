"""Requests of the panel to the other processes. Each waits in a thread, never in a loop."""

from __future__ import annotations

import asyncio
from pathlib import Path

from appliance.errors import ApplianceError
from appliance.ipc.bus import Client, WireError
from appliance.messages import Accepted, Refused, Request

_ANSWER_WITHIN_MS = 3_000
_AT_ONCE = 4


class Unavailable(ApplianceError):  # noqa: N818 a state, not a mistake
    """The process that is asked does not answer."""


class Refusal(ApplianceError):  # noqa: N818 an answer, not a mistake
    """It says no."""


class Talk:
    """The way to conductor, capture and mind.

    Args:
        runtime_dir: where their sockets are.
    """

    def __init__(self, runtime_dir: Path) -> None:
        self._runtime_dir = runtime_dir
        self._turn = asyncio.Semaphore(_AT_ONCE)

    async def request(self, process: str, message: Request, instance: int = 0) -> str:
        """Send a request; returns the id of the turn that it became, if any.

        Raises:
            Refusal: the process says no.
            Unavailable: nobody answers, or too many are waiting.
        """
        answer = await self.ask(process, message, instance)
        return answer.turn_id if isinstance(answer, Accepted) else ""

    async def ask(self, process: str, message: Request, instance: int = 0) -> Request:
        """Send a request; returns the answer.

        Raises:
            Refusal: the process says no.
            Unavailable: nobody answers, or too many are waiting.
        """
        if self._turn.locked():
            raise Unavailable("Too many requests at once; try again in a moment.")
        async with self._turn:
            return await asyncio.to_thread(self._ask, process, message, instance)

    def _ask(self, process: str, message: Request, instance: int) -> Request:
        client = Client(self._runtime_dir, process, instance)
        try:
            client.send(message)
            answer = client.receive(_ANSWER_WITHIN_MS)
        except WireError as error:
            raise Unavailable(f"{process} answers something else: {error}") from None
        finally:
            client.close()
        if isinstance(answer, Refused):
            raise Refusal(f"{process} refuses: {answer.reason}")
        if answer is None:
            raise Unavailable(f"{process} does not answer; is it running?")
        return answer
