"""Has the user finished, by the words: how likely the model finds it that the sentence ends there.

The model reads the question anyway. After its last word, before any punctuation (which is the
recogniser's guess, made of a pause), it knows what may come next: the probability of a full stop,
a question mark or the end of the message is that of a complete sentence. Needs no training; in
LiveKit's turn detector (https://github.com/livekit/agents) a model trained for it is asked the
same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

_ENDINGS = (
    "\n",
    "\n\n",
    *(mark + after for mark in (".", "?", "!") for after in ("", '"', "\n", "\n\n")),
)


def ending_tokens(
    tokens_of: Callable[[str], Sequence[int]], ends: Sequence[int]
) -> NDArray[np.int64]:
    """The tokens with which a sentence or a message is over.

    Args:
        tokens_of: tokenises plain text.
        ends: those that end a message; negative where a model has none.
    """
    single = {tokens[0] for text in _ENDINGS if len(tokens := list(tokens_of(text))) == 1}
    return np.array(sorted(single | {end for end in ends if end >= 0}))


def last_word(
    prompt: Sequence[int], is_end: Callable[[int], bool], piece: Callable[[int], bytes]
) -> int | None:
    """The index of the last token of the newest message that is more than punctuation.

    Args:
        prompt: a conversation as tokens, the newest message followed by the token for its end.
        is_end: whether a token ends a message.
        piece: the text of a token.

    Returns:
        None when the message has no words, or no end.
    """
    ends = [index for index, token in enumerate(prompt) if is_end(token)]
    if not ends:
        return None
    first = ends[-2] + 1 if len(ends) > 1 else 0
    for index in range(ends[-1] - 1, first - 1, -1):
        text = piece(prompt[index]).decode(errors="replace")
        if any(symbol.isalnum() or symbol == "\ufffd" for symbol in text):
            return index
    return None


def probability_of(tokens: NDArray[np.int64], logits: NDArray[np.floating]) -> float:
    """That the next token is one of ``tokens``, by the model's ``logits`` (vocabulary,)."""
    odds = np.exp(logits.astype(np.float64) - logits.max())
    return float(odds[tokens].sum() / odds.sum())
