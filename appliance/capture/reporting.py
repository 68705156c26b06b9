"""What the front-end did, as a message. Pure."""

from __future__ import annotations

import time
from collections.abc import Set

from appliance.capture.chain import FrontEndMetrics
from appliance.messages import LOCAL_SESSION, ChannelMetrics, FrontEndReport


def plain(value: float | None) -> float | None:
    """Without numpy's types, which do not travel."""
    return None if value is None else float(value)


def front_end_report(
    metrics: FrontEndMetrics,
    *,
    lead_ms: float,
    xruns: int,
    bypassed: Set[str],
    **faults: int,
) -> FrontEndReport:
    """The report of one second.

    Args:
        metrics: of the chain.
        lead_ms: by which the far-end was given early.
        xruns: how often the device has lost audio.
        bypassed: stages that are left out.
        **faults: what else went wrong, by kind.
    """
    return FrontEndReport(
        session_id=LOCAL_SESSION,
        at_ns=time.monotonic_ns(),
        far_end_active=metrics.far_end_active,
        erle_linear_db=plain(metrics.erle_linear_db),
        erle_final_db=plain(metrics.erle_final_db),
        delay_ms=None if metrics.delay_ms is None else float(metrics.delay_ms - lead_ms),
        drift_ppm=plain(metrics.drift_ppm),
        near_end_dbfs=float(metrics.near_end_dbfs),
        far_end_dbfs=float(metrics.far_end_dbfs),
        clipped_share=float(metrics.clipped_share),
        direction_deg=plain(metrics.direction_deg),
        beam=metrics.beam,
        gain_db=float(metrics.gain_db),
        block_p50_ms=float(metrics.block_p50_ms),
        block_p99_ms=float(metrics.block_p99_ms),
        xruns=xruns,
        faults={**metrics.faults, **faults},
        channels=tuple(map(ChannelMetrics, metrics.channel_dbfs, metrics.channel_health)),
        bypassed=tuple(sorted(bypassed)),
    )
