"""Gateway's pure parts: packets in order and in time, frames at even times, captions, offers."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.audio.blocks import BLOCK_NS, BLOCK_SAMPLES, Samples
from appliance.gateway.captions import Captions
from appliance.gateway.loudspeaker import FRAME_NS, FRAME_SAMPLES, Frame, LoudspeakerStream
from appliance.gateway.microphone import (
    REORDER_WAIT_NS,
    STALL_NS,
    HeardBlock,
    MicrophoneStream,
    Packet,
)
from appliance.gateway.offer import (
    MAX_CANDIDATES,
    OfferError,
    checked_offer,
    is_candidate,
    with_opus_settings,
)
from appliance.gateway.opus import OpusDecoder, OpusEncoder, OpusError
from appliance.messages import (
    Floor,
    PartialTranscript,
    PiecePlayed,
    PlaybackEnded,
    PlaybackStarted,
    Speak,
    Transcript,
    TurnRecord,
)

PTIME_NS = 20_000_000
CONCEALED, COPIED = -1.0, -2.0


class Numbers:
    """A codec whose packets are numbers: each decodes to 20 ms of its number."""

    def decode(self, packet: bytes) -> Samples:
        if not packet.isdigit():
            raise OpusError("no number")
        return np.full(320, float(packet), np.float32)

    def conceal(self, samples: int, following: bytes = b"") -> Samples:
        return np.full(samples, COPIED if following else CONCEALED, np.float32)


def packet(number: int, arrived_ns: int | None = None, *, first: int = 0) -> Packet:
    return Packet(
        sequence=(first + number) % 0x10000,
        timestamp=(first * 960 + number * 960) % (1 << 32),
        payload=str(number).encode(),
        arrived_ns=(number + 1) * PTIME_NS if arrived_ns is None else arrived_ns,
    )


def levels(blocks: list[HeardBlock]) -> list[float]:
    """One value for 20 ms."""
    return [float(block.samples[0]) for block in blocks[::2]]


# --- the microphone's side ---------------------------------------------------------------------


def test_packets_in_order_come_out_as_they_come_in():
    stream = MicrophoneStream(Numbers())
    for number in range(5):
        blocks = stream.push(packet(number))
        assert levels(blocks) == [number]
        assert [block.captured_ns for block in blocks] == [
            number * PTIME_NS,
            number * PTIME_NS + BLOCK_NS,
        ]


@pytest.mark.parametrize("first", [0xFFFE, (1 << 32) // 960 - 1])
def test_counters_run_over(first):
    stream = MicrophoneStream(Numbers())
    blocks = [block for n in range(6) for block in stream.push(packet(n, first=first))]
    assert levels(blocks) == [0, 1, 2, 3, 4, 5]
    assert stream.concealed_ms == 0


def test_what_comes_out_of_order_is_put_right_without_a_guess():
    stream = MicrophoneStream(Numbers())
    assert levels(stream.push(packet(0))) == [0]
    assert stream.push(packet(2, 41_000_000)) == []
    assert stream.poll(41_000_000 + REORDER_WAIT_NS - 1) == []
    assert levels(stream.push(packet(1, 60_000_000))) == [1, 2]
    assert stream.push(packet(1, 61_000_000)) == [], "twice"
    assert stream.late_packets == 1 and stream.concealed_ms == 0


def test_a_lost_packet_is_made_up_for_from_its_copy_in_the_next_one():
    stream = MicrophoneStream(Numbers())
    stream.push(packet(0))
    assert stream.push(packet(2)) == []
    arrived_ns = 3 * PTIME_NS
    assert stream.poll(arrived_ns + REORDER_WAIT_NS - 1) == []
    assert levels(stream.poll(arrived_ns + REORDER_WAIT_NS)) == [COPIED, 2]
    assert stream.concealed_ms == 20
    assert stream.push(packet(1)) == [], "too late now"


def test_several_lost_packets_are_a_guess_then_silence_then_the_copy():
    stream = MicrophoneStream(Numbers())
    stream.push(packet(0))
    stream.push(packet(8))
    found = levels(stream.poll(9 * PTIME_NS + REORDER_WAIT_NS))
    assert found == [CONCEALED] * 3 + [0.0] * 3 + [COPIED, 8]


def test_when_nothing_comes_silence_goes_on_in_time():
    stream = MicrophoneStream(Numbers())
    stream.push(packet(0))
    assert stream.poll(PTIME_NS + STALL_NS - 1) == []
    now_ns, blocks = PTIME_NS, []
    while now_ns < 3_000_000_000:
        now_ns += PTIME_NS
        blocks += stream.poll(now_ns)
    assert set(levels(blocks)) == {0.0}
    end_ns = blocks[-1].captured_ns + BLOCK_NS
    assert now_ns - STALL_NS <= end_ns <= now_ns
    number = now_ns // PTIME_NS
    resumed = stream.push(packet(number, now_ns + PTIME_NS))
    assert resumed == [], "the silence that is owed comes first"
    assert levels(stream.poll(now_ns + PTIME_NS + REORDER_WAIT_NS))[-1] == number


def test_another_stream_in_its_place_goes_on_at_once():
    stream = MicrophoneStream(Numbers())
    before = stream.push(packet(0)) + stream.push(packet(1))
    assert stream.push(Packet(40_000, 3_000_000_000, b"7", 3 * PTIME_NS)) == []
    after = stream.push(Packet(40_001, 3_000_000_960, b"8", 4 * PTIME_NS))
    assert levels(after) == [8]
    assert after[0].captured_ns > before[-1].captured_ns


def test_one_stray_packet_does_not_end_the_stream():
    stream = MicrophoneStream(Numbers())
    stream.push(packet(0))
    for stray in (30_000, 50_000, 10_000):
        assert stream.push(Packet(stray, 77, b"7", PTIME_NS)) == []
    assert levels(stream.push(packet(1))) == [1]
    assert stream.refused_packets == 3


@pytest.mark.parametrize("first", [0, 0xFFFF, (1 << 32) // 960 - 1])
@pytest.mark.parametrize("jump_ms", [260, 2_000, 3_600_000, -3_600_000])
def test_a_jump_in_time_is_a_new_start_and_no_loss(first, jump_ms):
    stream = MicrophoneStream(Numbers())
    stream.push(packet(0, first=first))
    for number in (1, 2):
        plain = packet(number, first=first)
        jumped = replace(plain, timestamp=(plain.timestamp + 48 * jump_ms) % (1 << 32))
        (block, _) = stream.push(jumped)
        assert block.samples[0] == number
        assert block.captured_ns == number * PTIME_NS, "time goes on as the packets come"
    assert stream.concealed_ms == 0


def test_what_waits_does_not_move_the_clock():
    stream = MicrophoneStream(Numbers())
    stream.push(packet(0))
    later = replace(packet(3, 2 * PTIME_NS), timestamp=3_600 * 48_000)
    assert stream.push(later) == []
    (block, _) = stream.push(packet(1))
    assert block.captured_ns == PTIME_NS


def test_more_audio_than_time_is_let_fall():
    stream = MicrophoneStream(Numbers())
    blocks = [block for n in range(10_000) for block in stream.push(packet(n, n * 1_000_000))]
    assert len(blocks) * 10 <= 1.01 * 10_000 + 1_000 + 20
    assert stream.refused_packets > 9_000


HOSTILE = st.lists(
    st.tuples(
        st.one_of(st.integers(-3, 60), st.integers(0, 0xFFFF)),  # sequence: a step, or anything
        st.one_of(st.integers(-3, 13), st.integers(0, (1 << 32) - 1)),  # time: 20 ms, or anything
        st.sampled_from([b"1", b"", b"\xff", b"9" * 1_400]),
        st.integers(0, 50),  # ms until it comes
        st.booleans(),  # whether a poll comes in between
    ),
    max_size=200,
)


@given(HOSTILE, st.integers(0, 0xFFFF), st.integers(0, (1 << 32) - 1))
def test_no_packets_make_more_audio_than_time(packets, sequence, timestamp):
    class Long(Numbers):
        def decode(self, packet: bytes) -> Samples:
            return np.resize(super().decode(packet[:1]), 1_920)  # 120 ms, the most that Opus can

    stream = MicrophoneStream(Long())
    now_ns, given, last_ns = 0, 0, -1
    for step, ticks, payload, wait_ms, polls in packets:
        now_ns += wait_ms * 1_000_000
        sequence = (sequence + step) % 0x10000
        timestamp = (timestamp + (ticks * 960 if ticks < 20 else ticks)) % (1 << 32)
        blocks = stream.poll(now_ns) if polls else []
        blocks += stream.push(Packet(sequence, timestamp, payload, now_ns))
        for block in blocks:
            assert block.captured_ns > last_ns
            last_ns = block.captured_ns
        given += len(blocks)
        # one packet more than is allowed, with the longest gap before it; and silence for a stall
        assert given * 10 <= 1.01 * now_ns / 1e6 + 1_000 + 120 + 240 + 200
        assert len(stream._waiting) <= 50


def test_nonsense_in_a_packet_is_a_loss():
    stream = MicrophoneStream(Numbers())
    stream.push(packet(0))
    bad = Packet(1, 960, b"\xff", 2 * PTIME_NS)
    assert levels(stream.push(bad)) == [CONCEALED]
    assert levels(stream.push(packet(2))) == [2]
    assert stream.invalid_packets == 1


def test_a_sender_with_a_faster_clock_is_followed():
    stream = MicrophoneStream(Numbers())
    blocks: list[HeardBlock] = []
    for number in range(30_000):  # ten minutes at 200 ppm: 120 ms
        arrived_ns = int((number + 1) * PTIME_NS * (1 - 200e-6))
        blocks = stream.push(packet(number, arrived_ns)) or blocks
    assert abs(blocks[-1].captured_ns + BLOCK_NS - 30_000 * PTIME_NS * (1 - 200e-6)) < 5_000_000


@given(
    seed=st.integers(0, 10_000),
    loss=st.floats(0, 0.3),
    jitter_ms=st.integers(0, 60),
)
def test_whatever_the_network_does_time_is_kept(seed, loss, jitter_ms):
    chance = random.Random(seed)
    sent = [
        (n, (n + 1) * PTIME_NS + int(chance.uniform(0, jitter_ms if n else 0) * 1e6))
        for n in range(100)
        if n == 0 or chance.random() >= loss
    ]
    events = sorted([(at, n) for n, at in sent] + [(t * 20_000_000, -1) for t in range(130)])
    stream = MicrophoneStream(Numbers())
    blocks: list[HeardBlock] = []
    for at, number in events:
        if number >= 0:
            blocks += stream.push(packet(number, at))
        else:
            blocks += stream.poll(at)
    times = [block.captured_ns for block in blocks]
    assert times == sorted(times)
    for place, block in enumerate(blocks):
        value = float(block.samples[0])
        if value > 0:
            assert place // 2 == value, "every packet that is heard is where it belongs"


# --- the loudspeaker's side --------------------------------------------------------------------

ONE = np.ones(BLOCK_SAMPLES, np.float32)


def frames(stream: LoudspeakerStream, from_ns: int, to_ns: int) -> list[tuple[int, Frame]]:
    found = []
    now_ns = from_ns
    while now_ns < to_ns:
        answer = stream.next(now_ns)
        if isinstance(answer, Frame):
            found.append((now_ns, answer))
        else:
            assert answer > now_ns
            now_ns = min(answer, to_ns)
    return found


def test_silence_goes_out_every_20_ms():
    found = frames(LoudspeakerStream(0), 0, 1_000_000_000)
    assert [at for at, _ in found] == list(range(0, 1_000_000_000, FRAME_NS))
    assert [frame.index for _, frame in found] == list(range(50))
    assert not any(frame.spoken for _, frame in found)


def test_speech_goes_out_as_soon_as_a_packet_is_full():
    stream = LoudspeakerStream(0)
    frames(stream, 0, 45_000_000)  # the next one would be due at 60 ms
    stream.push(ONE, 45_000_000)
    assert not isinstance(stream.next(45_000_000), Frame)
    stream.push(ONE, 46_000_000)
    frame = stream.next(46_000_000)
    assert isinstance(frame, Frame) and frame.spoken and len(frame.samples) == FRAME_SAMPLES


def test_a_heap_of_blocks_is_not_poured_out_and_nothing_of_it_is_lost():
    stream = LoudspeakerStream(0)
    for index in range(20):
        stream.push(np.full(BLOCK_SAMPLES, index, np.float32), 0)
    found = frames(stream, 0, 500_000_000)
    spoken = [(at, frame) for at, frame in found if frame.spoken]
    heard = np.concatenate([frame.samples for _, frame in spoken])
    assert heard[::BLOCK_SAMPLES].tolist() == list(range(20))
    assert [at for at, _ in spoken] == [max(0, n * FRAME_NS - 40_000_000) for n in range(10)]


def test_late_speech_is_waited_for_then_silence_takes_its_place():
    stream = LoudspeakerStream(0)
    stream.push(ONE, 0)
    stream.push(ONE, 0)
    assert isinstance(stream.next(0), Frame)
    stream.push(ONE, 1_000_000)
    found = frames(stream, 1_000_000, 60_999_999)
    assert found == []
    ((_, rest), *after) = frames(stream, 60_999_999, 200_000_000)
    assert rest.samples[0] == 1 and rest.samples[-1] == 0 and stream.underruns == 1
    assert not any(frame.spoken for _, frame in after)


def test_a_stream_that_was_held_up_goes_on_from_now_and_skips_the_time():
    stream = LoudspeakerStream(0)
    frames(stream, 0, 100_000_000)
    found = frames(stream, 5_000_000_000, 5_100_000_000)
    assert len(found) == 5
    assert found[0][1].index == 250


def test_whether_it_plays_is_known():
    stream = LoudspeakerStream(0)
    assert not stream.is_playing(0)
    stream.push(ONE, 0)
    assert stream.is_playing(0)
    frames(stream, 0, 200_000_000)
    assert not stream.is_playing(200_000_000)


# --- the codec ---------------------------------------------------------------------------------


def test_the_codec_keeps_a_tone_and_conceals_a_loss():
    encoder, decoder = OpusEncoder(), OpusDecoder()
    tone = (0.3 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)).astype(np.float32)
    packets = [encoder.encode(tone[at : at + 320]) for at in range(0, 16_000, 320)]
    heard = []
    for number, encoded in enumerate(packets):
        heard.append(decoder.conceal(320) if number == 20 else decoder.decode(encoded))
    whole = np.concatenate(heard)
    assert len(whole) == 16_000
    for part in (whole[4_000:6_000], whole[6_400:6_720]):  # before, and the one that was lost
        assert 0.15 < float(np.sqrt(np.mean(part**2))) < 0.3


@pytest.mark.parametrize("data", [b"", b"\xff\xff\xff" * 10])
def test_what_is_no_packet_is_an_error_and_the_decoder_goes_on(data):
    decoder = OpusDecoder()
    with pytest.raises(OpusError):
        decoder.decode(data)
    assert len(decoder.decode(OpusEncoder().encode(np.zeros(320, np.float32)))) == 320


# --- captions ----------------------------------------------------------------------------------


def speak(index: int, text: str, *, utterance: str = "a", session: str = "remote.1") -> Speak:
    return Speak(
        session_id=session, utterance_id=utterance, index=index, text=text, last=False, hold=True
    )


def started(utterance: str = "a") -> PlaybackStarted:
    return PlaybackStarted(
        session_id="remote.1",
        utterance_id=utterance,
        received_ns=1,
        synthesised_ns=1,
        audible_ns=1,
    )


def test_what_is_said_is_shown_when_it_is_heard_and_not_before():
    captions = Captions("remote.1")
    assert captions.step(speak(0, "One.")) == []
    assert captions.step(speak(0, "Never.", utterance="b")) == []
    (shown,) = captions.step(started())
    assert (shown["type"], shown["text"]) == ("saying", "One.")
    played = PiecePlayed(session_id="remote.1", utterance_id="a", index=0)
    assert captions.step(played) == [], "the next piece is still being written"
    (shown,) = captions.step(speak(1, "Two."))
    assert shown["text"] == "Two."
    ended = PlaybackEnded(
        session_id="remote.1", utterance_id="a", ended_ns=1, played_text="One. T", interrupted=True
    )
    assert captions.step(ended) == [
        {"type": "said", "utterance": "a", "text": "One. T", "interrupted": True}
    ]


def test_words_and_state_of_others_are_not_shown():
    captions = Captions("remote.1")
    for session in ("local", "remote.2"):
        assert captions.step(speak(0, "Secret.", session=session)) == []
        floor = Floor(session_id=session, state="speaking", turn_id="t", since_ns=1)
        assert captions.step(floor) == []
    assert captions.now() == {"type": "state", "state": "idle"}


def test_what_was_heard_and_the_turn_are_shown():
    captions = Captions("remote.1")
    partial = PartialTranscript(
        session_id="remote.1",
        utterance_id="u",
        stable="what",
        tail="is",
        heard_ms=1.0,
        finished_ns=1,
    )
    assert captions.step(partial) == [{"type": "heard", "stable": "what", "tail": "is"}]
    transcript = Transcript(
        session_id="remote.1",
        request_id="r",
        text="What is it?",
        audio_ms=1.0,
        lost_blocks=0,
        received_ns=1,
        finished_ns=1,
        engine="x",
    )
    assert captions.step(transcript) == [{"type": "heard", "stable": "What is it?", "tail": ""}]
    record = TurnRecord(
        session_id="remote.1",
        turn_id="t",
        source="speech",
        outcome="answered",
        transcript="What is it?",
        reply="It.",
        utterance_ids=(),
        speech_end_ns=1,
        audible_ns=2,
        voice_to_voice_ms=812.4,
        contributions_ms={},
    )
    (shown,) = captions.step(record)
    assert (shown["heard"], shown["said"], shown["voice_to_voice_ms"]) == (
        "What is it?",
        "It.",
        812,
    )


# --- offers ------------------------------------------------------------------------------------

HEAD = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=rtpmap:111 opus/48000/2\r\n"
HOST = "candidate:1 1 udp 2113937151 192.168.1.7 50000 typ host"


@pytest.mark.parametrize(
    ("candidate", "good"),
    [
        (HOST, True),
        ("candidate:1 1 UDP 1 fd00::7 50000 typ host generation 0", True),
        ("candidate:1 1 udp 1 0a1b2c3d-0000-4000-8000-000000000000.local 50000 typ host", False),
        ("candidate:1 1 udp 1 attacker.example 50000 typ host", False),
        ("candidate:1 1 tcp 1 192.168.1.7 9 typ host tcptype active", False),
        ("candidate:1 1 udp 1 224.0.0.251 5353 typ host", False),
        ("candidate:1 1 udp 1 0.0.0.0 9 typ host", False),
        ("candidate:1 1 udp 1 192.168.1.7 70000 typ host", False),
        ("candidate:1 1 udp x 192.168.1.7 5 typ host", False),
        ("candidate:1 1 udp 1 192.168.1.7 \u00b2 typ host", False),
        ("candidate:1 1 udp 1 fe80::7%eth0 50000 typ host", False),
        ("candidate:1 1 udp 1 192.168.1.7 5 typ host" + " x" * 120, False),
        ("candidate:1 1 udp 1 192.168.1.7 " + "9" * 200 + " typ host", False),
        ("", False),
    ],
)
def test_only_addresses_that_need_no_looking_up_are_taken(candidate, good):
    assert is_candidate(candidate) is good


def test_an_offer_loses_what_is_not_wanted():
    hidden = "a=candidate:2 1 udp 1 abc.local 5 typ host"
    sdp = checked_offer(f"{HEAD}a={HOST}\r\n{hidden}\r\n")
    assert f"a={HOST}\r\n" in sdp and ".local" not in sdp


@pytest.mark.parametrize(
    "sdp",
    [
        "",
        "v=0",
        "hello",
        HEAD.replace("opus", "L16"),
        HEAD + "m=audio 9 x 1\r\n",
        HEAD + "m=video 9 x 1\r\n",
        HEAD + f"a={HOST}\r\n" * (MAX_CANDIDATES + 1),
        HEAD + "a=x\r\n" * 10_000,
        HEAD + "a=é\r\n",
    ],
)
def test_other_offers_are_refused(sdp):
    with pytest.raises(OfferError):
        checked_offer(sdp)


@given(st.text(max_size=300))
def test_no_candidate_is_a_surprise(text):
    for candidate in (text, HOST.replace("50000", text), HOST.replace("192.168.1.7", text)):
        assert is_candidate(candidate) in (True, False)


@given(st.text(max_size=300))
def test_no_text_is_a_surprise(text):
    for sdp in (text, HEAD + text):
        try:
            checked_offer(sdp)
        except OfferError:
            continue


def test_the_browser_is_asked_to_repeat_itself_in_mono():
    answer = with_opus_settings(HEAD + "a=fmtp:111 stereo=1\r\na=mid:0\r\n", bit_rate=32_000)
    assert answer.count("a=fmtp:111") == 1
    assert "useinbandfec=1" in answer and "stereo=0" in answer
