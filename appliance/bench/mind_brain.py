"""Mind and llm together, as the conductor uses them: parts of the mind bench that need a model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from appliance import config as configuration
from appliance.bench.mind_process import MindProcess
from appliance.config import Config
from appliance.llm.prompt import opening
from appliance.messages import ChatMessage

_SENTENCE = re.compile(r"(?<=[.!?。！？])\s*")
_DENIES = re.compile(
    r"\b(?:not|no|never|cannot|can't|don't|won't|unable|isn't|couldn't|wouldn't|haven't|if you"
    r"|you (?:can|could|may|should|need|will need|would)|all i can do is|can only talk)\b"
    r"|不能|无法|不会|没有|没法|做不到",
    re.IGNORECASE,
)
_CLAIMS = re.compile(
    r"\b(?:I|we)(?:'ve| have|'ll| will|'m| am| would| can| just)\b"
    r"|^(?:sure|okay|ok|yes|certainly|of course|alright|done|no problem)\b"
    r"|\bI (?:just )?\w+ed\b|^\w+ing\b"
    r"|\b(?:has|have) been\b|\b(?:is|are) (?:now|on|off|playing|locked|closed|open|set)\b"
    r"|我(?:已经|已|会|正在|马上|这就|来|可以)|^(?:好的|当然|没问题)|已经?为你|正在",
    re.IGNORECASE,
)


def claimed(answer: str) -> str:
    """The sentence in which an answer agrees to do or says it has done what it cannot; or empty.

    For answers to requests that cannot be met. Much stricter than what llm filters: whoever agrees
    claims, and only a sentence that denies, or says what the user may do, is let through.
    """
    return next(
        (s for s in _SENTENCE.split(answer) if _CLAIMS.search(s.strip()) and not _DENIES.search(s)),
        "",
    )


@dataclass
class Brain:
    """Both processes and what has been said."""

    mind: MindProcess
    config: Config
    history: list[ChatMessage] = field(default_factory=list)

    def answer(self, text: str, *, alone: bool = True) -> tuple[str, str]:
        """What is said to a question, and by whom: an intent's name, ``cache`` or ``llm``.

        Args:
            text: the question.
            alone: as the first of a conversation.
        """
        history: Sequence[ChatMessage] = () if alone else tuple(self.history)
        considered = self.mind.consider(text, in_dialogue=bool(history))
        if considered.intent:
            done = self.mind.commit(considered)
            reply, who = considered.reply if done is None else done, considered.intent
        else:
            question = considered.question or text
            asked = f"{question}\n{considered.facts}" if considered.facts else question
            llm = self.config.llm
            reply, call = self.mind.generate(
                (
                    *opening(llm.system_prompt, llm.model, self.config.asr.language),
                    *history,
                    ChatMessage("user", asked),
                ),
                max_tokens=llm.max_tokens,
                grammar=considered.grammar,
            )
            done = self.mind.commit(considered, call)
            reply, who = done if done is not None else reply, "llm"
        self.mind.record(text, reply, "" if who == "llm" else who)
        if who in ("llm", "cache"):
            self.history += [ChatMessage("user", text), ChatMessage("assistant", reply)]
        return reply, who


@contextmanager
def open_brain(llm: str) -> Iterator[Brain]:
    """Start both, with nothing remembered; everything is gone afterwards."""
    config = configuration.load()
    config = config.model_copy(update={"llm": config.llm.model_copy(update={"model": llm})})
    with TemporaryDirectory(prefix="va-") as folder:
        runtime_dir = Path(folder) / "run"
        runtime_dir.mkdir()
        environment = {"APPLIANCE_LLM__MODEL": llm}
        with MindProcess(runtime_dir, Path(folder) / "mind", environment) as mind:
            mind.start()
            mind.start_llm()
            yield Brain(mind, config)
