"""The latency ledger: where the time between the user's last word and the first answer went.

Every contribution is the interval between two consecutive marks on one clock, so they sum to the
voice-to-voice latency by construction. Names follow LiveKit and Pipecat where those have one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

SPEECH_STAGES = (
    "end_of_turn_delay",  # the talker's last sample -> the turn was taken for complete
    "transcription_delay",  # -> the words were there (0 when they already were)
    "understanding",  # -> mind knew what is to become of them
    "action",  # -> what was asked for was done
    "llm_queue",  # -> llm took it up, having answered whoever came before
    "llm_ttft",  # -> first token
    "text_aggregation",  # -> first speakable clause
    "tts_queue",  # -> the text reached tts
    "tts_ttfb",  # -> its first audio was handed to the device
    "playback_latency",  # -> the first audible sample left the loudspeaker
)


@dataclass
class Ledger:
    """Marks of one turn; each stage ends where the next begins."""

    start_ns: int
    """When the talker fell silent."""
    speech_end_ns: int = 0
    """When speech ended by all that was heard, reverberation too; 0: at the start."""
    _marks: dict[str, int] = field(default_factory=dict)

    def mark(self, stage: str, end_ns: int) -> None:
        """Note when a stage ended. Only the first mark of a stage counts."""
        if stage not in SPEECH_STAGES:
            raise ValueError(f"unknown stage {stage!r}")
        self._marks.setdefault(stage, end_ns)

    def contributions_ms(self) -> dict[str, float]:
        """Milliseconds by stage, in order; stages that did not happen are left out.

        A stage that ended before its predecessor (work done ahead) contributes nothing; time
        never counts twice.
        """
        result = {}
        reached_ns = self.start_ns
        for stage in SPEECH_STAGES:
            if (end_ns := self._marks.get(stage)) is None:
                continue
            result[stage] = max(0, end_ns - reached_ns) / 1e6
            reached_ns = max(reached_ns, end_ns)
        return result

    def total_ms(self) -> float:
        """From the start to the last mark."""
        return (max([self.start_ns, *self._marks.values()]) - self.start_ns) / 1e6
