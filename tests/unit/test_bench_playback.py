"""The playback bench measures, and leaves nothing behind."""

from appliance.bench.playback import run
from appliance.ipc.segment import list_segments


def test_every_figure_is_measured() -> None:
    result = run(blocks=300, starts=2, seed=1)
    figures = result["figures"]
    assert len(figures) == 12
    assert all(0 < value < 1e6 for value in figures.values())
    assert figures["block_silence_p50_us"] < figures["block_speech_and_chime_p50_us"]
    assert list_segments("va-bench-playback-") == []
