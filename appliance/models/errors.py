"""What can go wrong with model files, each as one line for the owner."""

from appliance.errors import ApplianceError


class ModelError(ApplianceError):
    """A model file cannot be used or put in place; trying another source does not help."""


class ManifestError(ModelError):
    """The manifest itself is wrong or does not name what was asked for."""


class SourceError(ModelError):
    """One source failed; the next source may still deliver."""
