"""Model files, their tokens and their chat templates, by llama.cpp's low-level interface."""

from __future__ import annotations

import ctypes
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path

# llama.cpp's threads meet after every operation. By default OpenMP spins there for milliseconds,
# and as soon as other processes want the cores a token takes several times as long: spin briefly,
# then sleep. Where a thread is kept on its core, it is there when the others need it
# (docs/decisions/0005-language-model.md). Both are read once, when the library is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
os.environ.setdefault("OMP_PROC_BIND", "true" if len(os.sched_getaffinity(0)) <= 2 else "false")

import llama_cpp.llama_cpp as lib

from appliance.llm.engine import LlmError
from appliance.messages import ChatMessage

__all__ = ["Vocabulary", "lib", "load_model"]

logger = logging.getLogger(__name__)

os.sched_setaffinity(0, range(os.cpu_count() or 1))  # loading the library bound this thread too

_MARK = re.compile("\ue000(\\d+)\ue001")
"""Stands for a message's text inside a rendered template (private-use characters)."""


class Vocabulary:
    """The tokens of a model, and its chat template.

    Args:
        model: as `load_model` gives it; it must outlive this.
        path: its file, for error messages.

    Raises:
        LlmError: it has no chat template.
    """

    def __init__(self, model: object, path: Path) -> None:
        self.handle = lib.llama_model_get_vocab(model)
        template = lib.llama_model_chat_template(model, None)
        if not template:
            raise LlmError(f"{path} has no chat template: choose an instruct model ([llm] model)")
        self._template: bytes = template
        self.size = int(lib.llama_vocab_n_tokens(self.handle))
        self.ends = (lib.llama_vocab_eot(self.handle), lib.llama_vocab_eos(self.handle))
        """Tokens that end a message; negative where the model has none."""

    def tokens(self, text: str, *, special: bool = False, begin: bool = False) -> list[int]:
        """Tokenise a text.

        Args:
            text: any.
            special: whether what looks like a special token is one.
            begin: whether to put the token in front that begins a prompt, if the model has one.
        """
        data = text.encode()
        room = len(data) + 2
        tokens = (lib.llama_token * room)()
        count = lib.llama_tokenize(self.handle, data, len(data), tokens, room, begin, special)
        if count < 0:
            raise LlmError("llama.cpp could not tokenise the prompt")
        return tokens[:count]

    def chat(self, messages: Sequence[ChatMessage], *, reply_follows: bool) -> list[int]:
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
                tokens += self.tokens(messages[int(part)].text.strip())
            else:
                tokens += self.tokens(part, special=True, begin=i == 0)
        return tokens

    def is_end(self, token: int) -> bool:
        """Whether a token ends a message."""
        return bool(lib.llama_vocab_is_eog(self.handle, token))

    def piece(self, token: int) -> bytes:
        """The text of a token, possibly a part of a character."""
        buffer = ctypes.create_string_buffer(256)
        length = lib.llama_token_to_piece(self.handle, token, buffer, len(buffer), 0, False)
        return buffer.raw[: max(0, length)]


def load_model(path: Path, name: str) -> object:
    """Map the GGUF file into memory.

    Without `use_extra_bufts` the weights are used as they lie in the page cache: loading takes a
    quarter of a second, nothing is held twice, and a restart finds them there. The repacked copies
    cost as much memory again, and the one for AMX crashes on virtual machines that announce AMX
    without enabling it.

    Raises:
        LlmError: it is missing, or llama.cpp cannot load it.
    """
    lib.llama_log_set(_forward_log, ctypes.c_void_p(0))
    lib.llama_backend_init()
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


_CANCELLED = ("failed with error 1", "compute status: 1", "failed to decode, ret = 2")
"""How llama.cpp complains of having been told to stop (GGML_STATUS_ABORTED)."""


def _log(level: int, text: bytes, _data: object) -> None:
    """Pass on warnings (3) and errors (4); ggml.h, enum ggml_log_level."""
    if level in (3, 4):
        line = text.decode(errors="replace").rstrip()
        harmless = level == 3 or line.endswith(_CANCELLED)
        logger.log(logging.DEBUG if harmless else logging.WARNING, "llama.cpp: %s", line)


_forward_log = lib.llama_log_callback(_log)
