"""A virtual loudspeaker and a virtual microphone, without sound card or kernel module.

A private PulseAudio daemon holds two null sinks. What the appliance plays goes into the sink
`loudspeaker`; what the outside world feeds into the sink `microphone` comes out of its monitor,
which the appliance opens as its microphone. An ALSA configuration file makes both visible to
PortAudio under the names `LOUDSPEAKER` and `MICROPHONE`. The daemon shares nothing with a
PulseAudio or PipeWire of the user: own socket, own runtime directory, no D-Bus, no cookie.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

from appliance.errors import ApplianceError

MICROPHONE = "voice-loopback-microphone"
LOUDSPEAKER = "voice-loopback-loudspeaker"
MICROPHONE_SINK = "microphone"
LOUDSPEAKER_SINK = "loudspeaker"

_START_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 5.0
# More than two channels are remixed by PulseAudio unless devices and clients name the positions.
CHANNEL_MAPS = {
    1: "mono",
    2: "front-left,front-right",
    4: "front-left,front-right,rear-left,rear-right",
    6: "front-left,front-right,rear-left,rear-right,front-center,lfe",
    8: "front-left,front-right,rear-left,rear-right,front-center,lfe,side-left,side-right",
}
# The guard outlives its owner: the pipe on its standard input closes when the owner ends, in
# whatever way, and then nothing is left behind. If the guard itself is killed, the kernel ends
# the daemon (--pdeathsig).
_GUARD = """
dir=$1; shift
{ echo -11 >/proc/self/autogroup; } 2>/dev/null  # between sessions nice does not count, this does
setpriv --pdeathsig KILL "$@" </dev/null >"$dir/pulseaudio.log" 2>&1 &
daemon=$!
read -r _
kill -KILL "$daemon"; wait "$daemon" 2>/dev/null
rm -rf "$dir"
"""


class VirtualDevices:
    """A context manager around one private sound server with two virtual devices.

    Args:
        microphone_channels: channels of the virtual microphone, one of 1, 2, 4, 6, 8.
        loudspeaker_channels: channels of the virtual loudspeaker, likewise.
        rate_hz: sample rate of both devices.

    Raises:
        ApplianceError: PulseAudio or its ALSA plugin is missing, or the daemon does not start.
    """

    def __init__(
        self,
        microphone_channels: int = 1,
        loudspeaker_channels: int = 1,
        rate_hz: int = 48_000,
    ) -> None:
        for channels in (microphone_channels, loudspeaker_channels):
            if channels not in CHANNEL_MAPS:
                raise ApplianceError(
                    f"A virtual device cannot have {channels} channels; "
                    f"choose one of {', '.join(map(str, CHANNEL_MAPS))}."
                )
        self.microphone_channels = microphone_channels
        self.loudspeaker_channels = loudspeaker_channels
        self.rate_hz = rate_hz
        self._guard: subprocess.Popen[bytes] | None = None
        self._directory = Path()

    def __enter__(self) -> VirtualDevices:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which a child process sees the virtual devices, and only its own."""
        return {
            "ALSA_CONFIG_PATH": str(self._directory / "asound.conf"),
            "PULSE_SERVER": f"unix:{self._directory / 'native'}",
            "PULSE_RUNTIME_PATH": str(self._directory),
            "PULSE_COOKIE": str(self._directory / "cookie"),
            "DBUS_SESSION_BUS_ADDRESS": "disabled:",
        }

    def start(self) -> None:
        """Start the daemon and wait until it takes connections (about 0.1 s)."""
        for program, package in (
            ("pulseaudio", "pulseaudio"),
            ("pactl", "pulseaudio-utils"),
            ("setpriv", "util-linux"),
        ):
            if shutil.which(program) is None:
                raise ApplianceError(f"{program} is missing: apt-get install {package}")
        self._directory = Path(tempfile.mkdtemp(prefix="voice-loopback-"))
        (self._directory / "script.pa").write_text(self._pulse_script())
        (self._directory / "asound.conf").write_text(self._alsa_configuration())
        daemon = [
            "pulseaudio",
            *("-n", "-F", str(self._directory / "script.pa")),
            *("--daemonize=no", "--exit-idle-time=-1", "--realtime=no", "--high-priority=yes"),
            *("--use-pid-file=no", "--disallow-exit=yes", "--log-target=stderr"),
        ]
        self._guard = subprocess.Popen(
            ["sh", "-c", _GUARD, "guard", str(self._directory), *daemon],
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C ends the owner; the guard then cleans up
            env={**os.environ, **self.environment, "HOME": str(self._directory)},
        )
        self._await_server()

    def stop(self) -> None:
        """End the daemon and remove everything it left. May be called twice."""
        guard, self._guard = self._guard, None
        if guard is None:
            return
        if guard.stdin is not None:
            guard.stdin.close()
        try:
            guard.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            guard.kill()
            guard.wait()
            shutil.rmtree(self._directory, ignore_errors=True)

    def unplug(self, sink: str) -> None:
        """Take LOUDSPEAKER_SINK or MICROPHONE_SINK away, as if its cable was pulled."""
        for line in self._pactl("list", "short", "modules").splitlines():
            if f"sink_name={sink} " in line:
                self._pactl("unload-module", line.split()[0])

    def plug(self, sink: str) -> None:
        """Bring a device back that `unplug` took away."""
        self._pactl("load-module", *self._sink_module(sink))

    def _pactl(self, *arguments: str) -> str:
        return subprocess.run(
            ["pactl", *arguments],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            check=False,
        ).stdout

    def _sink_module(self, sink: str) -> tuple[str, ...]:
        channels = (
            self.loudspeaker_channels if sink == LOUDSPEAKER_SINK else self.microphone_channels
        )
        # Without norewinds an idle null sink renders 2 s ahead and a new listener waits as long.
        return (
            "module-null-sink",
            f"sink_name={sink}",
            "norewinds=1",
            "format=float32le",
            f"rate={self.rate_hz}",
            f"channels={channels}",
            f"channel_map={CHANNEL_MAPS[channels]}",
        )

    def _pulse_script(self) -> str:
        lines = [
            f"load-module module-native-protocol-unix socket={self._directory / 'native'}"
            " auth-anonymous=1 auth-cookie-enabled=0",
            *(
                " ".join(("load-module", *self._sink_module(sink)))
                for sink in (LOUDSPEAKER_SINK, MICROPHONE_SINK)
            ),
            f"set-default-sink {LOUDSPEAKER_SINK}",
            f"set-default-source {MICROPHONE_SINK}.monitor",
        ]
        return "\n".join(lines) + "\n"

    def _alsa_configuration(self) -> str:
        def pcm(name: str, device: str) -> str:
            server = self.environment["PULSE_SERVER"]
            return (
                f'pcm.{name} {{ type pulse server "{server}" device "{device}" '
                f'hint {{ show on description "{name}" }} }}\n'
            )

        return (
            "</usr/share/alsa/alsa.conf>\n"
            + pcm(LOUDSPEAKER, LOUDSPEAKER_SINK)
            + pcm(MICROPHONE, f"{MICROPHONE_SINK}.monitor")
        )

    def _await_server(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            if (self._directory / "native").exists():
                listing = self._pactl("list", "short", "sinks")
                if LOUDSPEAKER_SINK in listing and MICROPHONE_SINK in listing:
                    return
            time.sleep(0.02)
        log = (self._directory / "pulseaudio.log").read_text(errors="replace").strip()
        self.stop()
        raise ApplianceError(
            "The private PulseAudio for the loopback did not start "
            f"(run `pulseaudio -n` by hand to see why): {log[-300:]}"
        )
