"""``python -m appliance`` and the ``appliance`` command."""

from __future__ import annotations

import sys

from appliance.errors import ApplianceError


def main() -> None:
    """Run the command line; errors that the owner can act on are one line, without traceback."""
    from appliance.cli import app

    try:
        app()
    except ApplianceError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
