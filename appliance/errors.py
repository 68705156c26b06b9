"""The one exception that people see."""


class ApplianceError(Exception):
    """Something the owner can act on: the message says what is wrong and what to do next.

    The command line prints the message on one line and exits non-zero; no traceback.
    """
