"""The whole front-end over short scenes; how well it does is measured by the bench."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.audio.files import read_speech
from appliance.capture.chain import STAGES, FrontEnd
from appliance.capture.geometry import circle
from appliance.config import PROJECT_ROOT, FrontEndConfig
from appliance.errors import ApplianceError

RATE = 16_000
QUESTION = PROJECT_ROOT / "appliance" / "loopback" / "question.wav"
ARRAY = FrontEndConfig(array="circle:4:0.032")
PLAIN = FrontEndConfig()


def noise(seed, seconds, level=0.1):
    return level * np.random.default_rng(seed).standard_normal(round(seconds * RATE)).astype("f4")


def echo_of(far, channels=4, seed=1, delay=48):
    rng = np.random.default_rng(seed)
    response = rng.standard_normal((channels, 800)) * np.exp(-np.arange(800) / 150)
    response[:, :delay] = 0
    response[:, delay] = 4
    response *= 0.3 / np.linalg.norm(response, axis=1, keepdims=True)
    return np.stack([np.convolve(far, taps)[: len(far)] for taps in response]).astype("f4")


def run(front_end, mic, far=None):
    blocks = []
    for at in range(0, mic.shape[1] - 159, 160):
        part = None if far is None else far[at : at + 160]
        blocks.append(front_end.process(mic[:, at : at + 160], part))
    return np.concatenate([block.samples for block in blocks]), blocks


def level_db(samples):
    return 10 * np.log10(np.mean(np.square(samples)) + 1e-12)


def speech(seconds):
    samples, _ = read_speech(QUESTION)
    repeated = np.tile(0.1 * samples / np.std(samples), 10)[: round(seconds * RATE)]
    return repeated.astype(np.float32)


@pytest.mark.parametrize("stage", ["", *STAGES])
@pytest.mark.parametrize("config", [PLAIN, ARRAY])
def test_speech_comes_out_aligned_whatever_is_bypassed(stage, config):
    voice = speech(2.5)
    front_end = FrontEnd(config, 4)
    front_end.bypass = frozenset({stage, "gain"})
    out, _ = run(front_end, np.tile(voice, (4, 1)))
    late = front_end.latency_samples
    lags = np.arange(-40, 41)
    part = slice(RATE, 2 * RATE)
    fits = [
        np.dot(voice[part], out[part.start + late + lag : part.stop + late + lag]) for lag in lags
    ]
    assert lags[int(np.argmax(fits))] == 0
    assert level_db(out[late:]) == pytest.approx(level_db(voice[:-late]), abs=1.5)


@pytest.mark.parametrize("engine", ["kalman", "speex"])
def test_the_echo_goes_and_the_metrics_say_so(engine):
    far = noise(1, 6)
    mic = echo_of(far) + noise(2, 6, 1e-4)
    front_end = FrontEnd(FrontEndConfig(echo_canceller=engine), 4)
    out, blocks = run(front_end, mic, far)
    assert level_db(mic[0, -RATE:]) - level_db(out[-RATE:]) > 25
    assert blocks[-1].far_end_active
    metrics = front_end.metrics()
    assert metrics.far_end_active
    assert metrics.erle_final_db > 15
    assert metrics.far_end_dbfs == pytest.approx(-20, abs=1)
    assert metrics.locked
    assert metrics.delay_ms == pytest.approx(3, abs=0.5)
    assert 0 < metrics.block_p50_ms <= metrics.block_p99_ms
    assert len(metrics.channel_dbfs) == 4
    assert front_end.metrics().erle_final_db is None, "nothing since the last call"


def test_what_was_learnt_works_at_once_in_another_life():
    far = noise(1, 6)
    mic = echo_of(far) + noise(2, 6, 1e-4)
    first = FrontEnd(PLAIN, 4)
    run(first, mic, far)
    warm, cold = FrontEnd(PLAIN, 4), FrontEnd(PLAIN, 4)
    warm.restore(first.state())
    part = slice(round(0.3 * RATE), round(0.8 * RATE))
    assert level_db(run(warm, mic, far)[0][part]) < level_db(run(cold, mic, far)[0][part]) - 10


def learnt(far, mic):
    front_end = FrontEnd(PLAIN, 1)
    run(front_end, mic, far)
    return front_end


def taken_over(front_end, far, mic, start, apart, blind=8):
    """From a block on, with the far-end so many samples late, told only after some blocks."""
    shifted = np.roll(far, apart)
    placed = start + 160 * blind
    before, unheard = run(front_end, mic[:, start:placed])
    front_end.rewrite(shifted[placed - 8000 : placed])
    after, heard = run(front_end, mic[:, placed:], shifted[placed:])
    return np.concatenate([before, after]), unheard + heard


def taken_for_the_user(out, blocks, latency):
    """Blocks that would be taken for the user's and are loud enough to be heard."""
    level = np.mean(np.square(out.reshape(-1, 160)), axis=1)
    believed = np.array([block.near_end > 0.5 and block.far_end_active for block in blocks])
    return int(np.count_nonzero(believed[latency // 160 :] & (level[latency // 160 :] > 10**-4.8)))


@pytest.mark.parametrize("apart", [-150, -40, -10, 0, 10, 20, 40])
@pytest.mark.parametrize("another_life", [True, False])
def test_an_echo_that_moved_in_an_interruption_is_not_the_user(apart, another_life):
    far = speech(8)
    mic = echo_of(far, 1, delay=200) + noise(2, 8, 1e-4)
    start = 5 * RATE
    front_end = learnt(far[:start], mic[:, :start])
    if another_life:
        state, front_end = front_end.state(), FrontEnd(PLAIN, 1)
        front_end.restore(state)
    else:
        front_end.doubt()
    out, blocks = taken_over(front_end, far, mic, start, apart)
    if another_life:
        assert front_end.metrics().faults["divergences"] == 0
    assert taken_for_the_user(out, blocks, 8 * 160) <= 3
    part = slice(round(0.5 * RATE), 3 * RATE)
    assert level_db(mic[0, start:][part]) - level_db(out[part]) > 25


@pytest.mark.parametrize("apart", [-64, 96])
def test_an_echo_that_jumps_without_notice_is_soon_found(apart):
    far = speech(8)
    mic = echo_of(far, 1, delay=200) + noise(2, 8, 1e-4)
    start = 5 * RATE
    front_end = learnt(far[:start], mic[:, :start])
    out, blocks = run(front_end, mic[:, start:], np.roll(far, apart)[start:])
    assert taken_for_the_user(out, blocks, 2 * 160) <= 35
    part = slice(round(0.7 * RATE), 3 * RATE)
    assert level_db(mic[0, start:][part]) - level_db(out[part]) > 25


def test_a_user_who_talks_over_an_interruption_is_heard_soon():
    far = noise(4, 8)
    mic = echo_of(far, 1, delay=200) + noise(2, 8, 1e-4)
    start = 5 * RATE
    front_end = FrontEnd(PLAIN, 1)
    front_end.restore(learnt(far[:start], mic[:, :start]).state())
    voice = 0.5 * speech(3)
    mic[0, start:] += voice
    _, blocks = taken_over(front_end, far, mic, start, 12)
    level = np.mean(np.square(voice.reshape(-1, 160)), axis=1)
    talks = level > np.mean(level)
    believed = np.array([block.near_end > 0.5 for block in blocks])
    assert not believed[9:15].any()
    assert np.mean(believed[100:][talks[100:]]) > 0.9


def test_what_is_never_cancelled_is_believed_after_some_seconds():
    """Whatever the canceller makes of it: a user is not ignored for ever."""
    front_end = FrontEnd(PLAIN, 1)
    _, blocks = run(front_end, noise(7, 6)[None], noise(8, 6, 0.01))
    believed = np.array([block.near_end > 0.5 for block in blocks])
    assert not believed[5:100].any()
    assert believed[400:].mean() > 0.9


def test_a_state_of_another_array_is_left_out():
    far = noise(1, 6)
    first = FrontEnd(PLAIN, 2)
    run(first, echo_of(far, 2), far)
    other = FrontEnd(PLAIN, 4)
    other.restore(first.state())
    out, _ = run(other, echo_of(far, 4), far)
    assert np.isfinite(out).all()


def test_nothing_played_costs_no_canceller_and_no_belief():
    voice = speech(1.0)
    _, blocks = run(FrontEnd(PLAIN, 1), voice[None])
    assert all(block.near_end == 1.0 and not block.far_end_active for block in blocks)


def test_the_array_must_have_as_many_microphones():
    with pytest.raises(ApplianceError, match=r"4 microphones.*not 2"):
        FrontEnd(ARRAY, 2)
    FrontEnd(FrontEndConfig(array="respeaker-usb-4mic"), 4)


@given(
    seed=st.integers(0, 2**32 - 1),
    parts=st.lists(
        st.sampled_from(
            ["nan", "inf", "silence", "offset", "square", "huge", "unplugged", "noise"]
        ),
        min_size=1,
        max_size=5,
    ),
    played=st.booleans(),
)
@settings(max_examples=20, deadline=None)
def test_whatever_the_hardware_delivers_the_output_is_bounded(seed, parts, played):
    rng = np.random.default_rng(seed)
    front_end = FrontEnd(ARRAY, 4)
    heard = [0.0]
    for part in parts:
        mic = rng.uniform(-0.3, 0.3, (4, 3200)).astype("f4")
        far = rng.uniform(-0.3, 0.3, 3200).astype("f4")
        match part:
            case "nan":
                mic[rng.integers(4), ::7] = np.nan
                far[::11] = np.nan
            case "inf":
                mic[:, 5] = np.inf
            case "silence":
                mic[:] = 0
            case "offset":
                mic += 0.9
            case "square":
                mic[:] = np.where(np.arange(3200) % 40 < 20, 1, -1)
            case "huge":
                mic *= 1e6
            case "unplugged":
                mic[rng.integers(4)] = 0
        heard.append(np.sqrt(np.mean(np.nan_to_num(mic, posinf=1, neginf=-1).clip(-1, 1) ** 2)))
        out, blocks = run(front_end, mic, far if played else None)
        assert np.isfinite(out).all()
        assert np.abs(out).max() <= 1
        limit = 10 ** (ARRAY.max_gain_db / 20) * max(heard) + 1e-4
        for block in blocks:
            assert np.sqrt(np.mean(block.samples**2)) <= 2 * limit
    voice = np.tile(speech(3.0), (4, 1))
    out, _ = run(front_end, voice)
    assert level_db(out[-RATE:]) > level_db(voice[0, -RATE:]) - 6, "well again within 2 s"


def test_swapped_microphones_are_suspected():
    rng = np.random.default_rng(3)
    array = FrontEnd(ARRAY, 4).geometry
    frequency_hz = np.fft.rfftfreq(10 * RATE, 1 / RATE)
    voice = np.fft.rfft(speech(10.0))
    steering = array.steering(np.array([25.0]), frequency_hz)[0]
    heard = np.fft.irfft(voice * steering, 10 * RATE).astype("f4")
    heard += 1e-4 * rng.standard_normal(heard.shape).astype("f4")
    for order, suspected in (((0, 1, 2, 3), 0), ((1, 0, 2, 3), 1)):
        front_end = FrontEnd(ARRAY, 4)
        run(front_end, heard[list(order)])
        assert front_end.metrics().faults["microphones_in_another_order"] == suspected


def test_an_unplugged_microphone_is_left_out_and_named():
    mic = noise(1, 2)[None] + noise(2, 8, 0.01).reshape(4, -1)
    front_end = FrontEnd(PLAIN, 4)
    run(front_end, mic)
    assert front_end.metrics().channel_health == ("ok",) * 4
    mic[0] = 0
    out, _ = run(front_end, mic)
    assert front_end.metrics().channel_health[0] != "ok"
    assert level_db(out[-RATE // 2 :]) > -40, "another microphone stands in"


def test_a_damaged_state_is_left_out():
    far = noise(1, 6)
    mic = echo_of(far)
    first = FrontEnd(PLAIN, 4)
    run(first, mic, far)
    for name in ("echo.scale", "echo.variance", "gain.gain_db"):
        missing = {key: value for key, value in first.state().items() if key != name}
        damaged = {**first.state(), name: np.full_like(first.state()[name], np.nan)}
        for state in (missing, damaged, {**first.state(), name: np.array(["x"])}):
            other = FrontEnd(PLAIN, 4)
            other.restore(state)
            assert np.isfinite(run(other, mic[:, :1600], far[:1600])[0]).all()


def test_clipping_is_the_share_of_the_last_second():
    front_end = FrontEnd(PLAIN, 1)
    run(front_end, np.ones((1, RATE), np.float32))
    assert front_end.metrics().clipped_share == 1.0
    run(front_end, noise(1, 1.0)[None])
    assert front_end.metrics().clipped_share == 0.0


def arriving(azimuth_deg, seed, seconds=2.0):
    """Noise in syllables, a plane wave from there, at the four microphones."""
    rng = np.random.default_rng(seed)
    n = round(seconds * RATE)
    envelope = np.repeat(rng.random(n // 1600) > 0.3, 1600)
    spectrum = np.fft.rfft(0.05 * envelope * rng.standard_normal(n))
    steering = circle(4, 0.032).steering(np.array([azimuth_deg]), np.fft.rfftfreq(n, 1 / RATE))[0]
    return np.fft.irfft(spectrum * steering, n).astype(np.float32)


@pytest.mark.parametrize(
    ("partner", "sources", "least", "most"),
    [
        (37.0, [150.0], 0.8, 1.0),
        (37.0, [37.0], 0.0, 0.0),
        (50.0, [37.0], 0.0, 0.0),
        (37.0, [37.0, 150.0], 0.0, 0.3),
        (None, [150.0], 0.0, 0.0),
    ],
)
def test_it_is_told_when_only_others_than_the_partner_are_heard(partner, sources, least, most):
    mic = sum(arriving(source, seed=3 + n) for n, source in enumerate(sources))
    mic = mic + np.stack([noise(n, 2.0, 1e-4) for n in range(4)])
    front_end = FrontEnd(ARRAY, 4)
    front_end.attend(partner, only=True)
    _, blocks = run(front_end, mic)
    heard = blocks[50:]
    assert least <= np.mean([block.aside for block in heard]) <= most
    known = [b.direction_deg for b in heard if b.direction_deg is not None and not b.aside]
    if partner is not None and known:
        assert all(abs(direction - partner) <= 20 for direction in known)
