"""Facts told, forty turns of other talk, a restart of mind, and then a question in other words."""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice, product
from pathlib import Path
from typing import Any

from appliance.bench.mind_brain import Brain
from appliance.config import PROJECT_ROOT
from appliance.llm.prompt import opening
from appliance.messages import Accepted, ChatMessage, ForgetFacts
from appliance.mind.perspective import for_speech

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_FOLDER = PROJECT_ROOT / "tests" / "data" / "mind"
PAIRS = _FOLDER / "facts.toml"
UNSEEN = _FOLDER / "facts_unseen.toml"
"""Written before the last rules were made."""
TURNS_BETWEEN = 40
AT_A_TIME = 10
SAMPLE = 40
"""Questions of those that go to llm with the fact, that it is really asked."""
_TALK = {
    "en": (
        *("What time is it?", "Why is the sky blue?", "Set a timer for two hours", "Thank you"),
        *("What is 12 times 13?", "Who wrote Hamlet?", "Volume 60 percent", "Hello"),
        *("How many feet are in a mile?", "Tell me about Portugal.", "Cancel all timers"),
        *("What's the weather like?", "Add bread to my shopping list", "How do whales sleep?"),
    ),
    "zh": (
        "现在几点？",
        "天空为什么是蓝色的？",
        "十二乘以十三等于多少",
        "谢谢",
        "法国的首都是哪里？",
    ),
}
_WORD = re.compile(r"[^\W_]+")
_EMPTY_WORDS = (
    "the a an is are was were my our your i me we you of to in on at for and with that this it by "
    "do does did have has had be been not no as from every there"
)
_EMPTY = frozenset(_EMPTY_WORDS.split())


@dataclass(frozen=True)
class Recalled:
    """One fact and what came of its question."""

    fact: str
    question: str
    how: str
    """``told``: mind says the fact; ``given``: llm gets it; ``other``: mind says something else;
    ``lost``: neither."""
    answer: str = ""


def pairs(language: str, path: Path = PAIRS) -> list[tuple[str, str]]:
    """All facts of a language with their questions."""
    tables = tomllib.loads(path.read_text("utf-8"))[language]
    return [(f, q) for table in tables.values() for f, q in table.get("pairs", ())]


def measure(brain: Brain, seed: int, *, quick: bool) -> tuple[dict[str, float], dict[str, Any]]:
    """Both languages, ten facts in memory at a time and all at once; llm answers a sample."""
    rng = random.Random(seed)  # noqa: S311 - a bench, not a secret
    figures: dict[str, float] = {}
    details: dict[str, Any] = {}
    for language, path in product(("en", "zh"), (PAIRS, UNSEEN)):
        told = pairs(language, path)[: 20 if quick else None]
        shuffled = rng.sample(told, len(told))
        groups = [shuffled[n : n + AT_A_TIME] for n in range(0, len(told), AT_A_TIME)]
        few = [one for group in groups for one in _round(brain, group, language)]
        many = _round(brain, told, language)
        passed = _ask_llm(brain, rng, few, language) if language == "en" else {}
        share = passed.get("llm_said_it_share", 1.0)
        unseen = "unseen_" if path == UNSEEN else ""
        for name, found in (("ten_at_a_time", few), ("all_at_once", many)):
            direct = sum(one.how == "told" for one in found)
            given = sum(one.how == "given" for one in found)
            prefix = f"recall_{language}_{unseen}{name}"
            figures[f"{prefix}_facts"] = len(found)
            figures[f"{prefix}_told_by_mind"] = direct
            figures[f"{prefix}_given_to_llm"] = given
            figures[f"{prefix}_reached_share"] = round((direct + given * share) / len(found), 3)
            missed = [asdict(one) for one in found if one.how in ("other", "lost")]
            details[prefix] = missed
        if passed:
            figures[f"recall_llm_{unseen}asked"] = passed["asked"]
            figures[f"recall_llm_{unseen}said_it_share"] = round(share, 3)
            details[f"recall_llm_{unseen}answers"] = passed["answers"]
    return figures, details


def _round(brain: Brain, told: Sequence[tuple[str, str]], language: str) -> list[Recalled]:
    """Tell some facts, talk of other things, restart mind, ask."""
    mind = brain.mind
    mind.request(ForgetFacts(ids=()), Accepted)
    remember = "记住{}" if language == "zh" else "Remember that {}"
    for fact, _ in told:
        mind.say(remember.format(fact))
    for text in islice(cycle(_TALK[language]), TURNS_BETWEEN):
        mind.say(text)
    mind.kill()
    mind.start()
    return [_asked(brain, fact, question) for fact, question in told]


def _asked(brain: Brain, fact: str, question: str) -> Recalled:
    considered = brain.mind.consider(question)
    if for_speech(fact).strip(".。") in considered.reply:
        return Recalled(fact, question, "told", considered.reply)
    if considered.intent:
        return Recalled(fact, question, "other", considered.reply)
    given = _plain(for_speech(fact)) in _plain(considered.facts) or (
        _plain(fact) in _plain(considered.facts)
    )
    return Recalled(fact, question, "given" if given else "lost", considered.facts)


def _plain(text: str) -> str:
    return "".join(_WORD.findall(text.casefold()))


def _ask_llm(
    brain: Brain, rng: random.Random, found: Sequence[Recalled], language: str
) -> dict[str, Any]:
    """Whether llm says the fact it is given: a word of it that is not in the question."""
    given = [one for one in found if one.how == "given"]
    chosen = rng.sample(given, min(SAMPLE, len(given)))
    llm, answers = brain.config.llm, []
    for one in chosen:
        text, _ = brain.mind.generate(
            (
                *opening(llm.system_prompt, llm.model, language),
                ChatMessage("user", f"{one.question}\n{one.answer}"),
            ),
            max_tokens=llm.max_tokens,
        )
        answers.append({"fact": one.fact, "question": one.question, "answer": text})
    said = sum(_says(a["answer"], a["fact"], a["question"]) for a in answers)
    share = said / len(answers) if answers else 1.0
    return {"asked": len(answers), "llm_said_it_share": share, "answers": answers}


def _says(answer: str, fact: str, question: str) -> bool:
    words = [{w.casefold() for w in _WORD.findall(text)} for text in (fact, question, answer)]
    news = words[0] - words[1] - _EMPTY
    return bool(news & words[2]) or not news
