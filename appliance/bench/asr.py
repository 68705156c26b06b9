"""Word error rate and cost of the speech recognition engines, on recordings of people."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from appliance import config as configuration
from appliance.asr.engine import Context, EngineName, create_engine
from appliance.asr.evaluation import evaluate_wer
from appliance.asr.transcriber import Transcriber
from appliance.bench.recordings import all_recordings
from appliance.bench.report import machine, report
from appliance.models.store import ensure_model

Transcribe = Callable[[NDArray[np.float32]], str]


def whisper_cpp_directly(ggml: Path, threads: int) -> Transcribe:
    """whisper.cpp with its own defaults and nothing of ours: what the engines are held against."""
    from pywhispercpp.model import Model

    model = Model(
        str(ggml),
        n_threads=threads,
        redirect_whispercpp_logs_to=None,
        print_progress=False,
        print_realtime=False,
    )

    def transcribe(samples: NDArray[np.float32]) -> str:
        return " ".join(segment.text for segment in model.transcribe(samples))

    return transcribe


def guarded(name: EngineName, folder: Path, threads: int, context: Context) -> Transcribe:
    """An engine as the appliance uses it."""
    transcriber = Transcriber(create_engine(name, folder, threads=threads), context=context)
    return lambda samples: transcriber.transcribe(samples).text


def run(*, model: str, threads: int) -> dict[str, object]:
    """Transcribe everything with every engine; returns the report."""
    before = machine()
    folder = ensure_model(model, root=configuration.load().models_path)
    ggml = next(path for path in sorted(folder.glob("ggml-*.bin")) if "-q" not in path.stem)
    recordings = [recording for recording in all_recordings() if recording.text]
    candidates: dict[str, Transcribe] = {"whisper_cpp_direct": whisper_cpp_directly(ggml, threads)}
    engines: tuple[EngineName, ...] = ("ctranslate2", "whisper.cpp")
    contexts: tuple[Context, ...] = ("full", "cut")
    for engine in engines:
        for context in contexts:
            label = f"{engine.replace('.', '_')}_{context}"
            candidates[label] = guarded(engine, folder, threads, context)
    figures: dict[str, float] = {"recordings": len(recordings)}
    for label, transcribe in candidates.items():
        for name, value in evaluate_wer(transcribe, recordings).items():
            figures[f"{label}_{name}"] = round(float(value), 2)
    return report(
        figures,
        command=f"appliance bench asr --model {model} --threads {threads} --json",
        seed=0,
        before=before,
    )
