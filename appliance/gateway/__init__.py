"""Browsers as microphones and loudspeakers: the gateway process."""
