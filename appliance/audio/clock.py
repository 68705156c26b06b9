"""When a sample of a device stream was, or will be, in the air."""

from __future__ import annotations


class SampleClock:
    """Maps the frames of a stream to CLOCK_MONOTONIC, from one noisy observation per block.

    A first-order loop around the nominal rate. Its two gains say which observations to believe:
    a callback can come late but not early, so capture trusts early ones (0.5) and hardly late ones
    (0.002, which still follows a clock that is 400 ppm slow); a reported playback delay errs both
    ways, so playback uses the same small gain twice.

    Args:
        rate_hz: nominal rate of the device.
        early_gain: share of an error that is corrected when a block comes before its prediction.
        late_gain: likewise when it comes after.
        step_ns: an error beyond this that lasts for `step_blocks` is a step (audio was lost).
        step_blocks: how many blocks in a row must agree on a step.
    """

    def __init__(
        self,
        rate_hz: int,
        early_gain: float,
        late_gain: float,
        step_ns: int = 20_000_000,
        step_blocks: int = 25,
    ) -> None:
        self._ns_per_frame = 1e9 / rate_hz
        self._early_gain, self._late_gain = early_gain, late_gain
        self._step_ns, self._step_blocks = step_ns, step_blocks
        self.reset()

    def reset(self) -> None:
        """Forget everything: the stream was opened anew or has lost audio."""
        self._frame: int | None = None
        self._at_ns = 0.0
        self._deviating: list[float] = []

    def observe(self, frame: int, observed_ns: int) -> int:
        """Take the observed time of a frame; give its smoothed time in nanoseconds."""
        if self._frame is None:
            self._frame, self._at_ns = frame, float(observed_ns)
            return observed_ns
        predicted_ns = self._at_ns + (frame - self._frame) * self._ns_per_frame
        error_ns = observed_ns - predicted_ns
        if abs(error_ns) > self._step_ns:
            self._deviating.append(error_ns)
        else:
            self._deviating.clear()
        if len(self._deviating) >= self._step_blocks:
            correction_ns = min(self._deviating, key=abs)
            self._deviating.clear()
        else:
            correction_ns = error_ns * (self._early_gain if error_ns < 0 else self._late_gain)
        self._frame, self._at_ns = frame, predicted_ns + correction_ns
        return round(self._at_ns)

    def time_of(self, frame: int) -> int:
        """The time of any frame, before or after the last observed one, in nanoseconds.

        Raises:
            ValueError: nothing was observed yet.
        """
        if self._frame is None:
            raise ValueError("the stream has not started")
        return round(self._at_ns + (frame - self._frame) * self._ns_per_frame)
