"""Guess the next tokens from the question: answers often repeat its words. Pure.

Prompt-lookup decoding (Saxena 2023): the model checks several guessed tokens in one evaluation,
which costs far less than one evaluation each, and keeps those it would have chosen itself. The
answer is the same with and without it.
"""

from __future__ import annotations

from collections.abc import Sequence

DRAFT_TOKENS = 3
"""One guess right pays for three that are wrong."""


def draft(history: Sequence[int], question: Sequence[int], wordy: frozenset[int]) -> list[int]:
    """Tokens that may come next.

    Args:
        history: tokens so far, the newest last.
        question: tokens to look in.
        wordy: tokens of the question that say enough to be looked up on their own.

    Returns:
        What followed the last two tokens in the question or, if the newest token is wordy, what
        followed that; at most `DRAFT_TOKENS`, empty when nothing is found.
    """
    for length in (2, 1):
        end = list(history[-length:])
        if len(end) < length or (length == 1 and end[0] not in wordy):
            continue
        for start in range(len(question) - length - 1, -1, -1):
            if list(question[start : start + length]) == end:
                return list(question[start + length : start + length + DRAFT_TOKENS])
    return []
