"""The language model on llama.cpp, through the low-level interface of llama-cpp-python.

The high-level `llama_cpp.Llama` is not used: it cannot be interrupted while it evaluates a prompt,
does not offer `use_extra_bufts`, and parses special tokens inside what the user said.
"""

from __future__ import annotations

import codecs
import ctypes
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from appliance.llm.completeness import ending_tokens, last_word, probability_of
from appliance.llm.conversations import Conversations, Read, in_common
from appliance.llm.engine import (
    Finish,
    GenerationStats,
    LlmError,
    PromptTooLongError,
)
from appliance.llm.gguf import Vocabulary, lib, load_model
from appliance.llm.lookup import draft
from appliance.llm.prompt import trim_history
from appliance.llm.sampling import Sampler
from appliance.messages import ChatMessage

_BATCH_TOKENS = 128
"""Tokens evaluated per call: 64 are slower by a tenth, 512 take 100 MB more and gain little."""

_CANCEL_CHECK_NS = 2_000_000
"""How often `cancelled` is asked during an evaluation; llama.cpp offers it far more often."""

_ABORTED = 2
"""Return value of llama_decode when the abort callback stopped it (llama.h)."""

_WORDY_BYTES = 4
"""A token at least so long says enough to be looked up in the question on its own."""

_QUESTION_TOKENS = 64
"""Room that is kept for a question which is not known yet, so that reading ahead drops as much of
the conversation as the question itself will."""

_WORTH_KEEPING_TOKENS = 32
"""Reading fewer takes no longer than setting them aside."""


def _never() -> bool:
    return False


class LlamaCppEngine:
    """`LlmEngine` for any GGUF file whose chat template llama.cpp recognises.

    Args:
        model_path: the GGUF file.
        model_name: its name in the manifest, for error messages.
        n_ctx: context in tokens, prompt and answer together.
        n_threads: threads while generating.
        n_threads_batch: threads while evaluating a prompt.
        temperature: 0 takes the likeliest token each time (deterministic).
        seed: of the sampler, when the temperature is above 0.

    Raises:
        LlmError: the file is missing or llama.cpp cannot load it.
    """

    def __init__(
        self,
        model_path: Path,
        model_name: str,
        *,
        n_ctx: int = 2048,
        n_threads: int = 2,
        n_threads_batch: int = 2,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> None:
        self._n_ctx = n_ctx
        self._stats = GenerationStats()
        self._evaluated: list[int] = []  # the tokens whose keys and values the context holds
        self._ready: list[int] = []  # the prompt whose last logits there are, to be sampled from
        self._session_id = ""  # whose conversation they are; nobody's is not kept
        self._conversations = Conversations()
        self._cancelled: Callable[[], bool] = _never
        self._next_check_ns = 0
        self._abort = False
        self._context: object = None

        self._model = load_model(model_path, model_name)
        try:
            self._vocabulary = Vocabulary(self._model, model_path)
        except LlmError:
            lib.llama_model_free(self._model)
            raise
        params = lib.llama_context_default_params()
        params.n_ctx = n_ctx
        params.n_batch = params.n_ubatch = min(_BATCH_TOKENS, n_ctx)
        params.n_threads = n_threads
        params.n_threads_batch = n_threads_batch
        params.no_perf = True
        # The context keeps only the address; the object must live as long as the context does.
        self._abort_callback = lib.ggml_abort_callback(self._should_abort)
        params.abort_callback = self._abort_callback
        self._context = lib.llama_init_from_model(self._model, params)
        if not self._context:
            lib.llama_model_free(self._model)
            raise LlmError(
                f"not enough memory for {model_name} with a context of {n_ctx} tokens: "
                "choose a smaller model ([llm] model) or context ([llm] n_ctx)"
            )
        self._memory = lib.llama_get_memory(self._context)
        self._sampler = Sampler(self._vocabulary, temperature, seed)
        self._endings = ending_tokens(self._vocabulary.tokens, self._vocabulary.ends)
        self._complete: float | None = None

    @property
    def stats(self) -> GenerationStats:
        """See `LlmEngine.stats`."""
        return self._stats

    def warm(
        self,
        messages: Sequence[ChatMessage],
        cancelled: Callable[[], bool] = _never,
        *,
        session_id: str = "",
        opening: int = 0,
        max_tokens: int = 0,
        whole: bool = False,
    ) -> None:
        """See `LlmEngine.warm`."""
        started_ns = time.monotonic_ns()
        kept = self._fit(messages, max_tokens, opening)
        tokens = self._vocabulary.chat(kept, reply_follows=whole)
        self._switch(session_id, tokens)
        if whole:
            cached = self._evaluate(tokens, cancelled, self._end_of_question(kept, tokens))
        elif self._evaluated[: len(tokens)] == tokens:
            cached = len(tokens)
        else:
            cached = self._evaluate(tokens, cancelled)
        self._stats = GenerationStats(
            prompt_tokens=len(tokens),
            cached_tokens=cached,
            ttft_ms=(time.monotonic_ns() - started_ns) / 1e6,
            finish="stop",
        )

    def generate(
        self,
        messages: Sequence[ChatMessage],
        *,
        max_tokens: int,
        cancelled: Callable[[], bool],
        session_id: str = "",
        opening: int = 0,
        grammar: str = "",
    ) -> Iterator[str]:
        """See `LlmEngine.generate`."""
        started_ns = time.monotonic_ns()
        self._stats = GenerationStats()
        self._sampler.begin(grammar)
        kept = self._fit(messages, max_tokens, opening)
        tokens = self._vocabulary.chat(kept, reply_follows=True)
        self._switch(session_id, tokens)
        piece_of = self._vocabulary.piece
        cached = self._evaluate(tokens, cancelled, self._end_of_question(kept, tokens))
        self._stats = GenerationStats(
            prompt_tokens=len(tokens), cached_tokens=cached, question_complete=self._complete
        )
        decoder = codecs.getincrementaldecoder("utf-8")(errors="ignore")
        generated = 0
        first_ns = 0
        finish: Finish = "length"
        question = self._vocabulary.tokens(messages[-1].text.strip())
        wordy = frozenset(t for t in question if len(piece_of(t).strip()) >= _WORDY_BYTES)
        answer: list[int] = []
        guessed: list[int] = []
        checked = -1  # index of the logits that the next token is sampled from
        while generated < max_tokens:
            if self._abort or cancelled():
                finish = "cancelled"
                break
            token = self._sampler.sample(self._context, checked)
            now_ns = time.monotonic_ns()
            first_ns = first_ns or now_ns
            if token is None or self._vocabulary.is_end(token):
                finish = "stop"
                break
            generated += 1
            answer.append(token)
            self._stats = replace(
                self._stats,
                generated_tokens=generated,
                ttft_ms=(first_ns - started_ns) / 1e6,
                tokens_per_s=(generated - 1) / max(1e-9, (now_ns - first_ns) / 1e9),
            )
            if piece := decoder.decode(piece_of(token)):
                yield piece
            if guessed and guessed[0] == token:
                del guessed[0]
                checked += 1
                continue
            self._forget(len(guessed))
            guessed = draft(answer, question, wordy)[: max_tokens - generated]  # as much as fits
            if generated < max_tokens:
                self._decode([token, *guessed], cancelled, all_logits=True)
                checked = 0
                if self._abort:
                    guessed = []  # nothing of it was evaluated
        self._forget(len(guessed))
        self._stats = replace(self._stats, finish=finish)

    def keep_only(self, session_ids: Collection[str]) -> None:
        """See `LlmEngine.keep_only`."""
        self._conversations.keep_only(session_ids)
        if self._session_id not in session_ids:
            self._session_id = ""

    def close(self) -> None:
        """See `LlmEngine.close`."""
        if self._context:
            self._sampler.close()
            lib.llama_free(self._context)
            lib.llama_model_free(self._model)
            self._context = None

    def _fit(
        self, messages: Sequence[ChatMessage], max_tokens: int, opening: int
    ) -> list[ChatMessage]:
        """The messages, old ones dropped so that question and answer fit behind them."""
        asked = len(self._vocabulary.tokens(messages[-1].text.strip())) if messages else 0
        needed = 0

        def fits(kept: Sequence[ChatMessage], room: int) -> bool:
            nonlocal needed
            needed = len(self._vocabulary.chat(kept, reply_follows=True)) + max_tokens
            return needed + room <= self._n_ctx

        for room in (max(0, _QUESTION_TOKENS - asked), 0):
            kept = trim_history(messages, partial(fits, room=room), opening)
            if kept:
                return kept
        raise PromptTooLongError(_too_long(needed, self._n_ctx))

    def _switch(self, session_id: str, tokens: list[int]) -> None:
        """Bring back what was read of another conversation, unless `tokens` go on from here."""
        if session_id == self._session_id:
            return
        there = in_common(self._evaluated, tokens)
        kept = self._conversations.take(session_id)  # first: it makes room for what leaves
        if self._session_id and len(self._evaluated) - there >= _WORTH_KEEPING_TOKENS:
            self._conversations.set_aside(self._session_id, self._read())
        self._session_id = session_id
        if kept is not None and in_common(kept.tokens, tokens) > there:
            self._restore(kept)

    def _read(self) -> Read:
        size = lib.llama_state_seq_get_size(self._context, 0)
        state = np.empty(size, np.uint8)
        size = lib.llama_state_seq_get_data(self._context, _bytes(state), size, 0)
        return Read(tuple(self._evaluated), state[:size])

    def _restore(self, read: Read) -> None:
        done = lib.llama_state_seq_set_data(self._context, _bytes(read.state), read.state.nbytes, 0)
        if done:
            self._evaluated = list(read.tokens)
        else:  # not worth a failure: it is read again
            lib.llama_memory_seq_rm(self._memory, 0, -1, -1)
            self._evaluated = []

    def _evaluate(
        self, tokens: list[int], cancelled: Callable[[], bool], word: int | None = None
    ) -> int:
        """Bring the context to exactly `tokens`, unless cancelled; returns how many it held.

        The last token is evaluated because its logits are what is sampled from, and so is the one
        at `word`, after which the question may be complete; unless just that was done last.
        """
        self._abort = False
        if tokens == self._ready == self._evaluated:
            return len(tokens)
        self._complete = None
        known = tokens[: len(tokens) - 1 if word is None else word]
        cached = in_common(self._evaluated, known)
        lib.llama_memory_seq_rm(self._memory, 0, cached, -1)
        del self._evaluated[cached:]
        for start in range(cached, len(tokens), _BATCH_TOKENS):
            batch = tokens[start : start + _BATCH_TOKENS]
            at = word - start if word is not None and word >= start else None
            self._decode(batch, cancelled, also=at)
            if self._abort:
                break
            if at is not None and at < len(batch):
                self._complete = probability_of(self._endings, self._logits(at))
        if not self._abort:
            self._ready = tokens
        return cached

    def _end_of_question(self, messages: Sequence[ChatMessage], tokens: list[int]) -> int | None:
        """The index of the question's last word: what is remarked in further lines is no part."""
        asked = messages[-1].text.strip().partition("\n")[0]
        question = ChatMessage(messages[-1].role, asked)
        alone = self._vocabulary.chat((*messages[:-1], question), reply_follows=True)
        at = last_word(alone, self._vocabulary.is_end, self._vocabulary.piece)
        return at if at is not None and at < in_common(alone, tokens) else None

    def _forget(self, count: int) -> None:
        """Take back the last tokens that were evaluated: they were guessed wrong."""
        if count:
            del self._evaluated[-count:]
            lib.llama_memory_seq_rm(self._memory, 0, len(self._evaluated), -1)

    def _decode(
        self,
        tokens: list[int],
        cancelled: Callable[[], bool],
        *,
        all_logits: bool = False,
        also: int | None = None,
    ) -> None:
        """Evaluate one batch after what the context holds; on cancellation it is left as it was.

        Logits are kept of the last token, of the one at `also`, or of each.
        """
        array = (lib.llama_token * len(tokens))(*tokens)
        batch = lib.llama_batch_get_one(array, len(tokens))
        if all_logits or also is not None:
            last = len(tokens) - 1
            wanted = (ctypes.c_int8 * len(tokens))(
                *(all_logits or index in (also, last) for index in range(len(tokens)))
            )
            batch.logits = wanted
        self._cancelled = cancelled
        self._abort = False
        self._ready = []
        status = lib.llama_decode(self._context, batch)
        if status == 0:
            self._evaluated += tokens
            self._abort = False  # asked to stop after the last operation: the work is done
            return
        lib.llama_memory_seq_rm(self._memory, 0, len(self._evaluated), -1)
        if status != _ABORTED:
            raise LlmError(f"llama.cpp could not evaluate the prompt (status {status})")

    def _should_abort(self, _data: object) -> bool:
        now_ns = time.monotonic_ns()
        if not self._abort and now_ns >= self._next_check_ns:
            self._next_check_ns = now_ns + _CANCEL_CHECK_NS
            self._abort = self._cancelled()
        return self._abort

    def _logits(self, index: int) -> NDArray[np.float32]:
        shape = (self._vocabulary.size,)
        return np.ctypeslib.as_array(lib.llama_get_logits_ith(self._context, index), shape=shape)


def _bytes(state: NDArray[np.uint8]) -> object:
    return state.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))


def _too_long(n_tokens: int, n_ctx: int) -> str:
    return (
        f"the question and its answer need {n_tokens} tokens and the context holds {n_ctx}: "
        "ask for less, or raise [llm] n_ctx"
    )
