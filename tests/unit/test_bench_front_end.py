"""The front-end's bench: alignment of processors, pooling and judging of figures, plots."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from appliance.bench import front_end, front_end_measures, front_end_sweeps
from appliance.bench.front_end_processors import SPEEX, Candidate, Nothing, through_blocks
from appliance.bench.front_end_rows import ROWS, RT60_S
from appliance.bench.metrics import erle_db
from appliance.bench.scenes import make_scene
from appliance.errors import ApplianceError


@pytest.mark.parametrize("latency_samples", [0, 160, 200])
@pytest.mark.parametrize("n", [1600, 1599, 1601])
def test_latency_is_taken_out(n: int, latency_samples: int) -> None:
    rng = np.random.default_rng(n)
    mic = rng.standard_normal((2, n)).astype(np.float32)
    far = rng.standard_normal(n).astype(np.float32)
    held = np.zeros(latency_samples, np.float32)

    def late(mic: np.ndarray, far: np.ndarray) -> np.ndarray:
        nonlocal held
        held = np.concatenate([held, mic[1] - far])
        given, held = held[:160], held[160:]
        return given

    output = through_blocks(late, mic, far, latency_samples=latency_samples)
    np.testing.assert_array_equal(output, mic[1] - far)


def test_the_baseline_hears_an_aligned_reference_and_cancels() -> None:
    scene = make_scene(
        1, rt60_s=0.15, channels=1, script=(("far-only", 4.0),), drift_ppm=100, delay_ms=300
    )
    late = slice(40_000, None)
    assert erle_db(scene.mic[0, late], SPEEX.run(scene)[late]) > 15
    unaligned = Candidate("speex", SPEEX.create, aligned=False)
    assert erle_db(scene.mic[0, late], unaligned.run(scene)[late]) < 10


def test_erle_is_of_its_seconds() -> None:
    scene = make_scene(1, rt60_s=0.15, channels=1, script=(("far-only", 4.0),))
    output = scene.mic[0].copy()
    output[scene.segments[0].start + 32_000 :] /= 10
    assert front_end_measures.erle_within_db(scene, output, 0, 2) == pytest.approx(0)
    assert front_end_measures.erle_within_db(scene, output, 2, 4) == pytest.approx(20, abs=1e-3)


def test_locked_is_when_it_stays_so() -> None:
    still = np.array([20.0, 40, 40, 25, 40])
    lock = front_end_measures.locked_after_s
    assert lock(still, still - 2) == 0
    assert lock(still, np.array([2.0, 35, 31, 23, 38])) == 1
    assert lock(still, np.array([20.0, 40, 29, 25, 40])) == 3


def test_directions_are_judged_by_utterance() -> None:
    scene = make_scene(1, rt60_s=0.15, script=(("near-only", 4.0),), echo_db=None)
    first, second = scene.utterances[:2]
    blocks = []
    for start in range(0, scene.mic.shape[1] + 160, 160):
        heard = scene.near_direction_deg + (5 if start < first.stop + 160 else 40)
        blocks.append(
            SimpleNamespace(
                samples=scene.near[0, max(0, start - 160) : start] + np.float32(1e-6),
                direction_deg=heard % 360 if start < second.start + 16_000 else None,
            )
        )
    chain = SimpleNamespace(front_end=SimpleNamespace(latency_samples=160), blocks=blocks)
    errors = front_end_measures.direction_errors_deg(scene, chain)
    assert errors[:2] == pytest.approx([5, 40])
    chain.blocks = [SimpleNamespace(samples=block.samples, direction_deg=None) for block in blocks]
    assert set(front_end_measures.direction_errors_deg(scene, chain)) == {180.0}


def test_the_beams_gain_is_that_over_microphone_0() -> None:
    figures = front_end_measures.beam("off")(1, 0.15, ())["chain"]
    assert figures["gain"] == pytest.approx([0], abs=0.01)
    assert figures["direct_gain"] == pytest.approx([0], abs=0.01)
    assert front_end_measures.beam("fixed")(1, 0.15, ())["chain"]["direct_gain"][0] > 1


def test_scenes_are_pooled_before_they_are_reduced() -> None:
    def scene(errors: list[float], value: float) -> dict:
        speech = {
            "clean": {"errors": [0.0], "words": [10.0]},
            "speex": {"errors": [8.0], "words": [10.0]},
            "chain": {"errors": errors, "words": [10.0] * len(errors)},
        }
        talk = {"chain": {"sdr": [value], "stoi": [0.9], "si_sdr": [1.0]}}
        return {("wer", rt): speech for rt in RT60_S} | {("double-talk", rt): talk for rt in RT60_S}

    table = front_end._tabulate(
        ["wer", "double-talk"], [scene([1.0], 9), scene([2.0, 9.0], 11), scene([0.0], 30)]
    )
    entries = {(entry["rt60_s"], entry["figure"]): entry for entry in table}
    assert entries[0.3, "wer_percent"]["values"] == {"clean": 0, "speex": 80, "chain": 30}
    assert entries[0.3, "excess_over_speex"]["values"]["chain"] == pytest.approx(0.375)
    assert entries[0.3, "excess_over_speex"]["passed"]
    assert entries[0.3, "sdr_db"]["values"]["chain"] == 11
    assert entries[0.3, "sdr_db"]["quartiles"]["chain"] == [10, 20.5]
    assert entries[0.3, "sdr_db"]["passed"]
    assert entries[0.3, "stoi"]["passed"]
    assert "passed" not in entries[0.3, "si_sdr_db"]
    flat = front_end._flat(table)
    assert flat["double_talk_rt60_600ms_chain_sdr_db"] == 11


def test_every_promise_of_the_table_is_judged() -> None:
    promised = {
        (name, figure.name): figure.targets
        for name, row in ROWS.items()
        for figure in row.figures
        if figure.targets
    }
    assert promised["erle", "after_2s_db"] == {0.3: 35, 0.6: 31}
    assert promised["drift", "lock_s"] == {0.3: 8, 0.6: 8}
    assert len(promised) == 17
    for row in ROWS.values():
        for figure in row.figures:
            assert set(figure.targets) <= set(row.rt60_s)


def test_an_unknown_row_is_named() -> None:
    with pytest.raises(ApplianceError, match="no row echo"):
        front_end.run(rows=["erle", "echo"])


def test_work_is_shared_by_processes() -> None:
    assert list(front_end.in_processes(abs, [-1, 2, -3])) == [1, 2, 3]


def test_nothing_is_nothing() -> None:
    mic = np.ones((3, 200), np.float32)
    np.testing.assert_array_equal(Nothing().process(mic, mic[0]), mic[0])


def test_sweeps_become_plots(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    seeds = [1000, 1001]
    names = [candidate.name for candidate in front_end_sweeps._CANDIDATES]
    points = {
        ("drift", value, seed): {
            name: {measured: float(rng.uniform(0, 1)) for measured in front_end_sweeps._LABELS}
            for name in names
        }
        for value in front_end_sweeps.SWEEPS["drift"].values
        for seed in seeds
    }
    path = tmp_path / "front-end-drift.png"
    front_end_sweeps._plot("drift", seeds, points, path)
    assert path.read_bytes()[:4] == b"\x89PNG"
