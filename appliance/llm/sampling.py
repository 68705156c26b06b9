"""Which token comes next: the model's choice, within a grammar where there is one."""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import NDArray

from appliance.llm.engine import LlmError
from appliance.llm.gguf import Vocabulary, lib

_REPEAT_PENALTY = 1.05
_REPEAT_WINDOW = 64
_TOP_K = 40
_TOP_P = 0.9

_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
"""As llama_token_data (llama.h)."""
_LIKELY = 128
"""Tokens that a grammar is asked about first: asking about all 150 000 takes much longer than the
model itself."""


class Sampler:
    """Takes tokens from a context's logits.

    Args:
        vocabulary: of the model.
        temperature: 0 takes the likeliest token each time (deterministic).
        seed: of the choice, when the temperature is above 0.
    """

    def __init__(self, vocabulary: Vocabulary, temperature: float, seed: int) -> None:
        self._vocabulary = vocabulary
        self._grammar: object = None
        self._chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        stages = [
            lib.llama_sampler_init_penalties(
                vocabulary.size, _REPEAT_WINDOW, _REPEAT_PENALTY, 0.0, 0.0
            )
        ]
        if temperature > 0:
            stages += [
                lib.llama_sampler_init_top_k(_TOP_K),
                lib.llama_sampler_init_top_p(_TOP_P, 1),
                lib.llama_sampler_init_temp(temperature),
                lib.llama_sampler_init_dist(seed),
            ]
        else:
            stages.append(lib.llama_sampler_init_greedy())
        for stage in stages:
            lib.llama_sampler_chain_add(self._chain, stage)

    def begin(self, grammar: str = "") -> None:
        """A new answer begins.

        Args:
            grammar: GBNF that it must follow; empty: any text.

        Raises:
            LlmError: the grammar is none.
        """
        lib.llama_sampler_reset(self._chain)
        self._free_grammar()
        if grammar:
            self._grammar = lib.llama_sampler_init_grammar(
                self._vocabulary.handle, grammar.encode(), b"root"
            )
            if not self._grammar:
                raise LlmError("llama.cpp cannot read the grammar of the answer")

    def sample(self, context: object, index: int) -> int | None:
        """The next token, by the logits at `index` of the context's last batch.

        Returns:
            None when no token at all fits the grammar.
        """
        if not self._grammar:
            return int(lib.llama_sampler_sample(self._chain, context, index))
        shape = (self._vocabulary.size,)
        logits = np.ctypeslib.as_array(lib.llama_get_logits_ith(context, index), shape=shape)
        # mostly the model's own choice fits, and then the grammar has only one token to judge
        token = self._choose(self._every(logits))
        assert token is not None
        if not self._allowed(_candidates(np.array([token]), logits)).size:
            likely = np.argpartition(logits, -_LIKELY)[-_LIKELY:]
            allowed = self._allowed(_candidates(likely, logits))
            if not allowed.size:
                allowed = self._allowed(self._every(logits))
            token = self._choose(allowed)
        if token is not None:
            lib.llama_sampler_accept(self._grammar, token)
            lib.llama_sampler_accept(self._chain, token)
        return token

    def close(self) -> None:
        """Free it; it is unusable afterwards."""
        self._free_grammar()
        lib.llama_sampler_free(self._chain)

    def _free_grammar(self) -> None:
        if self._grammar:
            lib.llama_sampler_free(self._grammar)
        self._grammar = None

    def _every(self, logits: NDArray[np.float32]) -> NDArray[np.void]:
        return _candidates(np.arange(self._vocabulary.size), logits)

    def _allowed(self, candidates: NDArray[np.void]) -> NDArray[np.void]:
        """Those that the grammar lets come next."""
        lib.llama_sampler_apply(self._grammar, ctypes.byref(_array(candidates)))
        allowed: NDArray[np.void] = candidates[np.isfinite(candidates["logit"])]
        return allowed

    def _choose(self, candidates: NDArray[np.void]) -> int | None:
        if not candidates.size:
            return None
        array = _array(candidates)
        lib.llama_sampler_apply(self._chain, ctypes.byref(array))
        return int(array.data[array.selected].id)


def _candidates(tokens: NDArray[np.integer], logits: NDArray[np.float32]) -> NDArray[np.void]:
    candidates = np.zeros(tokens.size, _CANDIDATE)
    candidates["id"] = tokens
    candidates["logit"] = logits[tokens]
    return candidates


def _array(candidates: NDArray[np.void]) -> lib.llama_token_data_array:
    data = candidates.ctypes.data_as(lib.llama_token_data_p)
    return lib.llama_token_data_array(data, candidates.size, -1, False)
