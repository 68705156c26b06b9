"""``appliance pair``."""

from __future__ import annotations

from typing import Annotated

import typer

from appliance import config as configuration
from appliance.errors import ApplianceError
from appliance.terminal import console


def pair(
    *,
    reset: Annotated[
        bool, typer.Option("--reset", help="Forget everybody first: for a lost password.")
    ] = False,
) -> None:
    """Show the code with which the panel's first owner signs up."""
    from appliance.admin.encryption import read_fingerprint
    from appliance.admin.pairing import read_code
    from appliance.admin.settings import PanelSettings
    from appliance.admin.store import Accounts

    config = configuration.load()
    settings = PanelSettings.of(config)
    if reset:
        Accounts(settings.data_path(config)).reset()
        console.print("Nobody has an account any more. Start the appliance anew to pair it again.")
        return
    if fingerprint := read_fingerprint(config.runtime_path):
        console.print(f"SHA-256 of this box's certificate authority:\n{fingerprint}")
        console.print(f"How other devices come to trust it: http://localhost:{settings.port}/trust")
    code = read_code(config.runtime_path)
    if code is None and fingerprint:
        console.print("The panel has its owner ('appliance pair --reset' forgets a lost password).")
        return
    if code is None:
        raise ApplianceError(
            "The panel waits for nobody: either the appliance does not run ('appliance run'), or "
            "it has an owner already ('appliance pair --reset' forgets a lost password)."
        )
    console.print(f"{code}   (enter it at http://localhost:{settings.port}/)")
