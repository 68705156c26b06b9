"""`python -m appliance.loopback`: virtual devices as a standing service.

Prints the environment that other programs need, one `export NAME=VALUE` per line (or with `--json`
an object), and keeps the devices until it is ended (SIGTERM, Ctrl-C, or its standard input closing
with `--until-eof`):

    python -m appliance.loopback >env & sleep 1; . ./env; appliance devices
"""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys

from appliance.errors import ApplianceError
from appliance.loopback.virtual_devices import VirtualDevices


def main() -> int:
    """Run until told to end; 1 with one line on standard error if it cannot start."""
    parser = argparse.ArgumentParser(prog="python -m appliance.loopback", description=__doc__)
    parser.add_argument("--microphone-channels", type=int, default=1)
    parser.add_argument("--loudspeaker-channels", type=int, default=1)
    parser.add_argument("--rate-hz", type=int, default=48_000)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    parser.add_argument("--until-eof", action="store_true", help="end when standard input closes")
    options = parser.parse_args()
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        with VirtualDevices(
            options.microphone_channels, options.loudspeaker_channels, options.rate_hz
        ) as devices:
            if options.json:
                sys.stdout.write(json.dumps(devices.environment) + "\n")
            else:
                for name, value in devices.environment.items():
                    sys.stdout.write(f"export {name}={shlex.quote(value)}\n")
            sys.stdout.flush()
            if options.until_eof:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
                sys.stdin.read()
            else:
                signal.sigwait(signals)
    except KeyboardInterrupt:
        return 0
    except ApplianceError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
