"""Whether all that is heard comes from elsewhere than the partner. Pure.

The contrast of the directions (`Doa.contrast`) is above 0 while the partner speaks alone, about
-0.1 while somebody else does so as loudly at the same time, and below -0.4 where only others do.
"""

from __future__ import annotations

_FOLLOW = 0.1  # per block: 100 ms
_ASIDE = -0.35
_NO_LONGER = -0.2


class AsideGauge:
    """Follows the contrast towards the partner."""

    def __init__(self) -> None:
        self._mean = 0.0
        self.aside = False
        """Whether only others are heard."""

    def reset(self) -> None:
        """There is no partner, or another one."""
        self._mean, self.aside = 0.0, False

    def process(self, contrast: float | None) -> bool:
        """Take a block's contrast, None where nothing stands out; give `aside`."""
        if contrast is not None:
            self._mean += _FOLLOW * (contrast - self._mean)
        self.aside = self._mean < (_NO_LONGER if self.aside else _ASIDE)
        return self.aside
