"""The language model on llama.cpp, through the low-level interface of llama-cpp-python.

The high-level `llama_cpp.Llama` is not used: it cannot be interrupted while it evaluates a prompt,
does not offer `use_extra_bufts`, and parses special tokens inside what the user said.
"""

from __future__ import annotations

import codecs
import ctypes
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

# llama.cpp's threads meet after every operation. By default OpenMP spins there for milliseconds,
# and as soon as other processes want the cores a token takes several times as long: spin briefly,
# then sleep. Where a thread is kept on its core, it is there when the others need it
# (docs/decisions/0005-language-model.md). Both are read once, when the library is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
os.environ.setdefault("OMP_PROC_BIND", "true" if len(os.sched_getaffinity(0)) <= 2 else "false")

import llama_cpp.llama_cpp as lib
import numpy as np
from numpy.typing import NDArray

from appliance.llm.completeness import ending_tokens, last_word, probability_of
from appliance.llm.engine import (
    Finish,
    GenerationStats,
    LlmError,
    PromptTooLongError,
)
from appliance.llm.lookup import draft
from appliance.llm.prompt import trim_history
from appliance.messages import ChatMessage

logger = logging.getLogger(__name__)

os.sched_setaffinity(0, range(os.cpu_count() or 1))  # loading the library bound this thread too

_BATCH_TOKENS = 128
"""Tokens evaluated per call: 64 are slower by a tenth, 512 take 100 MB more and gain little."""

_CANCEL_CHECK_NS = 2_000_000
"""How often `cancelled` is asked during an evaluation; llama.cpp offers it far more often."""

_ABORTED = 2
"""Return value of llama_decode when the abort callback stopped it (llama.h)."""

_WORDY_BYTES = 4
"""A token at least so long says enough to be looked up in the question on its own."""

_REPEAT_PENALTY = 1.05
_REPEAT_WINDOW = 64
_TOP_K = 40
_TOP_P = 0.9

_MARK = re.compile("\ue000(\\d+)\ue001")
"""Stands for a message's text inside a rendered template (private-use characters)."""


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
        lib.llama_log_set(_forward_log, ctypes.c_void_p(0))
        lib.llama_backend_init()
        self._n_ctx = n_ctx
        self._stats = GenerationStats()
        self._evaluated: list[int] = []  # the tokens whose keys and values the context holds
        self._cancelled: Callable[[], bool] = _never
        self._next_check_ns = 0
        self._abort = False

        self._model = _load_model(model_path, model_name)
        self._vocab = lib.llama_model_get_vocab(self._model)
        template = lib.llama_model_chat_template(self._model, None)
        if not template:
            lib.llama_model_free(self._model)
            raise LlmError(
                f"{model_path} has no chat template: choose an instruct model ([llm] model)"
            )
        self._template: bytes = template

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
        self._sampler = self._create_sampler(temperature, seed)
        ends = (lib.llama_vocab_eot(self._vocab), lib.llama_vocab_eos(self._vocab))
        self._endings = ending_tokens(lambda text: self._tokens(text, special=False), ends)
        self._complete: float | None = None

    @property
    def stats(self) -> GenerationStats:
        """See `LlmEngine.stats`."""
        return self._stats

    def warm(self, messages: Sequence[ChatMessage], cancelled: Callable[[], bool] = _never) -> None:
        """See `LlmEngine.warm`."""
        started_ns = time.monotonic_ns()
        tokens = self._tokenise(messages, reply_follows=False)
        if len(tokens) > self._n_ctx:
            raise PromptTooLongError(_too_long(len(tokens), self._n_ctx))
        known = self._evaluated[: len(tokens)] == tokens
        cached = len(tokens) if known else self._evaluate(tokens, cancelled)
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
    ) -> Iterator[str]:
        """See `LlmEngine.generate`."""
        started_ns = time.monotonic_ns()
        self._stats = GenerationStats()
        tokens = self._fit(messages, max_tokens)
        self._complete = None
        cached = self._evaluate(tokens, cancelled, last_word(tokens, self._is_end, self._piece))
        self._stats = GenerationStats(
            prompt_tokens=len(tokens), cached_tokens=cached, question_complete=self._complete
        )
        lib.llama_sampler_reset(self._sampler)
        decoder = codecs.getincrementaldecoder("utf-8")(errors="ignore")
        generated = 0
        first_ns = 0
        finish: Finish = "length"
        question = self._tokens(messages[-1].text.strip(), special=False)
        wordy = frozenset(t for t in question if len(self._piece(t).strip()) >= _WORDY_BYTES)
        answer: list[int] = []
        guessed: list[int] = []
        checked = -1  # index of the logits that the next token is sampled from
        while generated < max_tokens:
            if self._abort or cancelled():
                finish = "cancelled"
                break
            token = lib.llama_sampler_sample(self._sampler, self._context, checked)
            now_ns = time.monotonic_ns()
            first_ns = first_ns or now_ns
            if self._is_end(token):
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
            if piece := decoder.decode(self._piece(token)):
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

    def close(self) -> None:
        """See `LlmEngine.close`."""
        if self._context:
            lib.llama_sampler_free(self._sampler)
            lib.llama_free(self._context)
            lib.llama_model_free(self._model)
            self._context = None

    def _fit(self, messages: Sequence[ChatMessage], max_tokens: int) -> list[int]:
        """The prompt's tokens, with old messages dropped so that the answer fits behind it."""
        tokens: list[int] = []

        def fits(kept: Sequence[ChatMessage]) -> bool:
            nonlocal tokens
            tokens = self._tokenise(kept, reply_follows=True)
            return len(tokens) + max_tokens <= self._n_ctx

        if trim_history(messages, fits) is None:
            raise PromptTooLongError(_too_long(len(tokens) + max_tokens, self._n_ctx))
        return tokens

    def _evaluate(
        self, tokens: list[int], cancelled: Callable[[], bool], word: int | None = None
    ) -> int:
        """Bring the context to exactly `tokens`, unless cancelled; returns how many it held.

        The last token is always evaluated, because its logits are what is sampled from, and so is
        the one at `word`, after which the question may be complete.
        """
        cached = 0
        known = tokens[: len(tokens) - 1 if word is None else word]
        for held, wanted in zip(self._evaluated, known, strict=False):
            if held != wanted:
                break
            cached += 1
        lib.llama_memory_seq_rm(self._memory, 0, cached, -1)
        del self._evaluated[cached:]
        self._abort = False
        for start in range(cached, len(tokens), _BATCH_TOKENS):
            batch = tokens[start : start + _BATCH_TOKENS]
            at = word - start if word is not None and word >= start else None
            self._decode(batch, cancelled, also=at)
            if self._abort:
                break
            if at is not None and at < len(batch):
                self._complete = probability_of(self._endings, self._logits(at))
        return cached

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

    def _tokenise(self, messages: Sequence[ChatMessage], *, reply_follows: bool) -> list[int]:
        """Render the chat template and tokenise it.

        Special tokens are parsed in the template only: no text, spoken or typed, can end its own
        message and begin one in another role.
        """
        marks = [f"\ue000{i}\ue001".encode() for i in range(len(messages))]
        roles = [message.role.encode() for message in messages]
        chat = (lib.llama_chat_message * len(messages))(
            *(lib.llama_chat_message(role, mark) for role, mark in zip(roles, marks, strict=True))
        )
        room = 1024 + 128 * len(messages)
        buffer = ctypes.create_string_buffer(room)
        length = lib.llama_chat_apply_template(
            self._template, chat, len(messages), reply_follows, buffer, room
        )
        if not 0 <= length <= room:
            raise LlmError("llama.cpp does not know this model's chat template: choose another")
        tokens: list[int] = []
        for i, part in enumerate(_MARK.split(buffer.raw[:length].decode())):
            if i % 2:  # the odd parts are the numbers inside the marks
                tokens += self._tokens(messages[int(part)].text.strip(), special=False)
            else:
                tokens += self._tokens(part, special=True, begin=i == 0)
        return tokens

    def _tokens(self, text: str, *, special: bool, begin: bool = False) -> list[int]:
        data = text.encode()
        room = len(data) + 2
        tokens = (lib.llama_token * room)()
        count = lib.llama_tokenize(self._vocab, data, len(data), tokens, room, begin, special)
        if count < 0:
            raise LlmError("llama.cpp could not tokenise the prompt")
        return tokens[:count]

    def _logits(self, index: int) -> NDArray[np.float32]:
        shape = (lib.llama_vocab_n_tokens(self._vocab),)
        return np.ctypeslib.as_array(lib.llama_get_logits_ith(self._context, index), shape=shape)

    def _is_end(self, token: int) -> bool:
        return bool(lib.llama_vocab_is_eog(self._vocab, token))

    def _piece(self, token: int) -> bytes:
        buffer = ctypes.create_string_buffer(256)
        length = lib.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, False)
        return buffer.raw[: max(0, length)]

    def _create_sampler(self, temperature: float, seed: int) -> object:
        chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        stages = [
            lib.llama_sampler_init_penalties(
                lib.llama_vocab_n_tokens(self._vocab), _REPEAT_WINDOW, _REPEAT_PENALTY, 0.0, 0.0
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
            lib.llama_sampler_chain_add(chain, stage)
        return chain


def _load_model(path: Path, name: str) -> object:
    """Map the GGUF file into memory.

    Without `use_extra_bufts` the weights are used as they lie in the page cache: loading takes a
    quarter of a second, nothing is held twice, and a restart finds them there. The repacked copies
    cost as much memory again, and the one for AMX crashes on virtual machines that announce AMX
    without enabling it.
    """
    if not path.is_file():
        raise LlmError(f"the language model {path} is missing: run 'appliance models fetch {name}'")
    params = lib.llama_model_default_params()
    params.use_extra_bufts = False
    params.load_mode = lib.LLAMA_LOAD_MODE_MMAP
    model = lib.llama_model_load_from_file(str(path).encode(), params)
    if not model:
        raise LlmError(
            f"the language model {path} cannot be loaded, it is damaged or of an unknown kind: "
            f"run 'appliance models fetch {name}'"
        )
    return model


def _too_long(n_tokens: int, n_ctx: int) -> str:
    return (
        f"the question and its answer need {n_tokens} tokens and the context holds {n_ctx}: "
        "ask for less, or raise [llm] n_ctx"
    )


_CANCELLED = ("failed with error 1", "compute status: 1", "failed to decode, ret = 2")
"""How llama.cpp complains of having been told to stop (GGML_STATUS_ABORTED)."""


def _log(level: int, text: bytes, _data: object) -> None:
    """Pass on warnings (3) and errors (4); ggml.h, enum ggml_log_level."""
    if level in (3, 4):
        line = text.decode(errors="replace").rstrip()
        harmless = level == 3 or line.endswith(_CANCELLED)
        logger.log(logging.DEBUG if harmless else logging.WARNING, "llama.cpp: %s", line)


_forward_log = lib.llama_log_callback(_log)
