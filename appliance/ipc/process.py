"""What every process of the appliance has in common: start, signals, log, stack dump, end.

``python -m appliance.ipc.process NAME [INSTANCE]`` is the command line of each process, under the
supervisor and under systemd alike.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import importlib
import logging
import os
import signal
import sys
import time
from types import FrameType

from appliance import config as configuration
from appliance.errors import ApplianceError
from appliance.ipc.bus import Bus
from appliance.ipc.log import keep_log, set_up_logging
from appliance.ipc.scheduling import run_promptly
from appliance.ipc.segment import FileLock
from appliance.processes import PROCESSES

EXIT_ERROR = 1
EXIT_CONFIG = 78
"""``EX_CONFIG`` of sysexits.h: starting again will not help."""
ENV_SUPERVISOR_PID = "APPLIANCE_SUPERVISOR_PID"
ENV_RESTARTS = "APPLIANCE_RESTARTS"
_SYSTEMD_RETRY_S = 5.0
STACK_DUMP_SIGNAL = signal.SIGUSR1

logger = logging.getLogger(__name__)


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel end this process when its parent dies, however it dies (``prctl(2)``)."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent_pid:  # it died before the call
        os._exit(EXIT_ERROR)


def run(name: str, instance: int = 0) -> int:
    """Run one process of the table until it is told to stop. Returns the exit status."""
    if supervisor := os.environ.get(ENV_SUPERVISOR_PID):
        die_with_parent(int(supervisor))
    spec = PROCESSES[name]
    label = f"{name}.{instance}" if spec.instances > 1 else name
    config = configuration.load()
    set_up_logging(label, config.logging.level)
    faulthandler.enable()
    faulthandler.register(STACK_DUMP_SIGNAL, all_threads=True, chain=False)
    runtime_dir = config.prepare_runtime_dir()
    keep_log(runtime_dir, label)
    lock = FileLock(runtime_dir / f"{name}.{instance}.lock")
    if not lock.acquire(about=str(os.getpid())):
        raise ApplianceError(
            f"{label} is already running as process {lock.holder()}; "
            f"stop that appliance first, or set another runtime folder in "
            f"{configuration.ENV_RUNTIME_DIR}."
        )
    if spec.nice:
        run_promptly(spec.nice)
    module = importlib.import_module(spec.module)
    bus = Bus(
        runtime_dir=runtime_dir,
        process=name,
        instance=instance,
        topics=module.TOPICS,
        restarts=int(os.environ.get(ENV_RESTARTS, "0")),
    )

    def stop(_signal: int, _frame: FrameType | None) -> None:
        bus.running = False

    def stop_gracefully() -> None:
        # Not before: a process that is still loading a model has nothing to put away, and is
        # ended at once by the signal's default action.
        signal.signal(signal.SIGTERM, stop)
        signal.siginterrupt(signal.SIGTERM, True)

    bus.on_ready = stop_gracefully
    # Ctrl-C goes to the whole foreground group; the supervisor decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN if ENV_SUPERVISOR_PID in os.environ else stop)
    gc.freeze()  # what start-up made stays; the collector need not walk it in the audio path
    bus.beat()
    try:
        module.main(config, bus)
    finally:
        bus.close()
    logger.info("stopped")
    return 0


def main() -> None:
    """Command line of a process."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in PROCESSES:
        sys.exit(f"usage: python -m appliance.ipc.process {{{','.join(PROCESSES)}}} [INSTANCE]")
    instance = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    try:
        status = run(name, instance)
    except ApplianceError as error:
        set_up_logging(name, "info")
        logger.error("%s", error)
        status = EXIT_CONFIG
        if ENV_SUPERVISOR_PID not in os.environ and "NOTIFY_SOCKET" in os.environ:
            time.sleep(_SYSTEMD_RETRY_S)  # systemd starts it again at once, and for ever
    except Exception:
        logger.exception("%s crashed", name)
        status = EXIT_ERROR
    sys.stdout.flush()
    sys.stderr.flush()
    # A native thread (a model in the middle of a job) must not hold up or crash the exit.
    os._exit(status)


if __name__ == "__main__":
    main()
