"""What a browser offers, looked at before anything is made of it. Pure."""

from __future__ import annotations

import ipaddress

MAX_SDP_BYTES = 16 << 10
MAX_CANDIDATES = 24
MAX_CANDIDATE_BYTES = 256
"""A browser's own are some 120 bytes long."""
_CANDIDATE_FIELDS = 8
_OPUS = " opus/48000/2"
_PORTS = range(1, 65_536)


class OfferError(ValueError):
    """An offer that cannot be taken; the text is for the person who made it."""


class NoRoomError(OfferError):
    """All sessions are taken."""


def checked_offer(sdp: str) -> str:
    """The offer without what is not wanted: addresses that would have to be looked up.

    Raises:
        OfferError: it is no offer of one microphone, or it is too large.
    """
    if len(sdp.encode("utf-8", "replace")) > MAX_SDP_BYTES:
        raise OfferError("the offer is too large")
    lines = sdp.splitlines()
    if not lines or lines[0] != "v=0" or not sdp.isascii():
        raise OfferError("this is no offer")
    media = [line.split(" ", 1)[0].removeprefix("m=") for line in lines if line.startswith("m=")]
    if sorted(media) not in (["audio"], ["application", "audio"]):
        raise OfferError("the offer must be of one microphone, with one data channel at most")
    if not any(line.lower().endswith(_OPUS) for line in lines):
        raise OfferError("the browser must speak Opus")
    kept = [
        line
        for line in lines
        if not line.startswith("a=candidate:") or is_candidate(line.removeprefix("a="))
    ]
    checked = "\r\n".join(kept) + "\r\n"
    if candidates_of(checked) > MAX_CANDIDATES:
        raise OfferError("the offer names too many addresses")
    return checked


def is_candidate(candidate: str) -> bool:
    """Whether it names an address that packets can be sent to: over UDP, and as a number.

    A browser may hide its address behind a name that is looked up by multicast. It need not be
    known: the browser comes to us.
    """
    if len(candidate) > MAX_CANDIDATE_BYTES or not candidate.isascii():
        return False
    fields = candidate.removeprefix("candidate:").split()
    if len(fields) < _CANDIDATE_FIELDS or fields[2].lower() != "udp" or fields[6] != "typ":
        return False
    if not (fields[1].isdigit() and fields[3].isdigit() and fields[5].isdigit()):
        return False
    try:
        address = ipaddress.ip_address(fields[4])
    except ValueError:
        return False
    if getattr(address, "scope_id", None):  # the name of an interface, of whose machine?
        return False
    return int(fields[5]) in _PORTS and not (address.is_multicast or address.is_unspecified)


def candidates_of(sdp: str) -> int:
    """How many addresses a session description names."""
    return sum(line.startswith("a=candidate:") for line in sdp.splitlines())


def with_opus_settings(sdp: str, *, bit_rate: int) -> str:
    """The answer with what the browser's encoder shall do: repeat itself against loss, in mono."""
    lines = sdp.splitlines()
    opus = next((line for line in lines if line.lower().endswith(_OPUS)), "")
    if not opus:
        return sdp
    payload_type = opus.removeprefix("a=rtpmap:").split(" ", 1)[0]
    wanted = (
        f"a=fmtp:{payload_type} minptime=10;useinbandfec=1;stereo=0;"
        f"maxplaybackrate=16000;maxaveragebitrate={bit_rate}"
    )
    kept = [line for line in lines if not line.startswith(f"a=fmtp:{payload_type} ")]
    kept.insert(kept.index(opus) + 1, wanted)
    return "\r\n".join(kept) + "\r\n"
