"""The scenarios of the conversation bench, each played trial by trial on a `Stage`."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import TypeVar

from appliance.audio.blocks import RATE_HZ
from appliance.bench.conversation_measures import words_heard
from appliance.bench.conversation_stage import Mark, Stage
from appliance.bench.conversation_trials import (
    Alone,
    Asked,
    Endured,
    Interrupted,
    Passing,
    asked,
    interrupted,
    passing,
)
from appliance.bench.dialogue_texts import LONG_ANSWER, SHORTER_ANSWER
from appliance.bench.dialogues import Saying
from appliance.messages import NearEnd, PlaybackDucked, PlaybackEnded, SpeechStarted

logger = logging.getLogger(__name__)

INTO_ANSWER_MS = (300.0, 1_000.0, 2_500.0, 4_500.0)
"""When an answer is spoken over, from its first audible sample."""
GENERATED_EVERY = 3
"""One of so many interrupted answers is the language model's own."""
_TELEVISION_LEAD_MS = 3_000.0
_BACK_BOUND_S = 60.0
_ALONE_SLOWDOWN = 3.0
_T = TypeVar("_T")


def warm_up(stage: Stage, question: Saying) -> None:
    """Ten seconds of speech, from which the echo canceller learns the room, and one question."""
    mark = stage.mark()
    stage.have_said(SHORTER_ANSWER)
    _spoken(stage, mark)
    _ask(stage, question)


def ask_all(stage: Stage, questions: Sequence[Saying]) -> list[Asked]:
    """Ask one question after the other, each when the answer before is over."""
    return list(_played("question", (_ask(stage, question) for question in questions)))


def interrupt_all(
    stage: Stage, sayings: Sequence[Saying], long_questions: Sequence[Saying]
) -> list[Interrupted]:
    """Talk into long answers, which are recited or, every third, generated."""
    points, questions = cycle(INTO_ANSWER_MS), cycle(long_questions)

    def trials() -> Iterator[Interrupted | None]:
        for number, saying in enumerate(sayings):
            generated = number % GENERATED_EVERY == GENERATED_EVERY - 1
            mark = stage.mark()
            stage.say(saying, after_answer=True, delay_ms=next(points))
            if generated:
                stage.say(next(questions))
            else:
                stage.have_said(LONG_ANSWER)
            near = stage.said(saying, mark)
            stage.settle(mark)
            over = stage.spoken_over(near, mark, generated=generated) if near else None
            yield interrupted(saying, over) if over else None

    return list(_played("interruption", trials()))


def sound_over(stage: Stage, sayings: Sequence[Saying]) -> list[Passing]:
    """Make sounds over recited answers that shall go on."""
    points = cycle(INTO_ANSWER_MS)

    def trials() -> Iterator[Passing | None]:
        for saying in sayings:
            mark = stage.mark()
            stage.say(saying, after_answer=True, delay_ms=next(points))
            stage.have_said(SHORTER_ANSWER)
            near = stage.said(saying, mark)
            stage.settle(mark)
            over = stage.spoken_over(near, mark) if near else None
            yield passing(saying, over) if over else None

    return list(_played("sound", trials()))


def ask_beside_television(
    stage: Stage, questions: Sequence[Saying], programmes: Sequence[Saying]
) -> list[Asked]:
    """Ask while somebody else talks at another bearing, from before the question until after it."""

    def trials() -> Iterator[Asked | None]:
        for question, programme in zip(questions, programmes, strict=True):
            mark = stage.mark()
            stage.television_says(programme)
            yield _ask(stage, question, delay_ms=_TELEVISION_LEAD_MS)
            stage.said(programme, mark)
            stage.settle(mark)

    return list(_played("television", trials()))


def leave_alone(stage: Stage, minutes: float) -> Alone:
    """Let the appliance talk with nobody there, for so long.

    When it keeps interrupting itself, the time that this takes is bounded.
    """
    mark = stage.mark()
    spoken_s = 0.0
    deadline = time.monotonic() + _ALONE_SLOWDOWN * 60 * minutes + _BACK_BOUND_S
    while spoken_s < 60 * minutes and time.monotonic() < deadline:
        before = stage.mark()
        stage.have_said(LONG_ANSWER)
        _spoken(stage, before)
        events = stage.events(before)
        starts = [event.at_ns for event in events if event.kind == "answer_started"]
        ends = [event.at_ns for event in events if event.kind == "answer_ended"]
        spoken_s += sum(end - start for start, end in zip(starts, ends, strict=False)) / 1e9
        logger.info("alone: %.0f of %.0f s", spoken_s, 60 * minutes)

    def count(kind: type[PlaybackDucked | PlaybackEnded | SpeechStarted | NearEnd]) -> int:
        return len(stage.log.since(mark.messages, kind))

    ended = stage.log.since(mark.messages, PlaybackEnded)
    near_ends = stage.log.since(mark.messages, NearEnd)
    return Alone(
        minutes=round(spoken_s / 60, 2),
        ducks=count(PlaybackDucked),
        stops=sum(message.interrupted for message in ended),
        speech_started=count(SpeechStarted),
        near_ends=sum(message.active for message in near_ends),
        turns_of_nobody=sum(turn.source == "speech" for turn in stage.turns(mark)),
    )


def endure(stage: Stage, sound: Saying, *, beside: Saying | None = None) -> Endured:
    """Play a long sound to the appliance, and another one from elsewhere at the same time if there
    is one, and wait until it listens again."""
    mark = stage.mark()
    if beside is not None:
        stage.television_says(beside)
    stage.say(sound)
    near = stage.said(sound, mark)
    back = stage.settle(timeout_s=_BACK_BOUND_S)
    turns = stage.turns(mark)
    end_ns = near.end_ns if near else time.monotonic_ns()
    return Endured(
        f"two people: {sound.name}" if beside else sound.name,
        round(len(sound.samples) / RATE_HZ, 1),
        dict(Counter(turn.outcome for turn in turns)),
        words_heard(sound.text, " ".join(turn.transcript for turn in turns)),
        round((time.monotonic_ns() - end_ns) / 1e9, 1) if back else None,
    )


def _ask(stage: Stage, question: Saying, delay_ms: float = 0.0) -> Asked | None:
    mark = stage.mark()
    stage.say(question, delay_ms=delay_ms)
    near = stage.said(question, mark)
    stage.settle(mark)
    return asked(question, near, stage.events(mark), stage.turns(mark)) if near else None


def _spoken(stage: Stage, mark: Mark) -> None:
    """Wait until what was to be said since a mark has been heard to its end."""
    stage.log.wait(lambda: bool(stage.log.since(mark.messages, PlaybackEnded)), _BACK_BOUND_S)
    stage.settle()


def _played(kind: str, trials: Iterator[_T | None]) -> Iterator[_T]:
    """The trials that took place: where there was an answer to talk into, for example."""
    for number, trial in enumerate(trials, start=1):
        if trial is None:
            logger.warning("%s %d did not take place", kind, number)
            continue
        logger.info("%s %d", kind, number)
        logger.debug("%s", trial)
        yield trial
