"""Pictures of the panel for the documentation, taken by the tests where PANEL_SCREENSHOTS says."""

from __future__ import annotations

import io
import os
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page


def take_picture(page: Page, name: str) -> None:
    """Save what the page shows as ``name.png``, without this machine's paths; else do nothing."""
    if folder := os.environ.get("PANEL_SCREENSHOTS"):
        page.evaluate(
            """() => { const file = document.querySelector("main > p code");
            if (file) file.textContent = "config/appliance.toml"; }"""
        )
        shot = Image.open(io.BytesIO(page.screenshot()))
        shot.quantize(128).save(Path(folder) / f"{name}.png", optimize=True)
