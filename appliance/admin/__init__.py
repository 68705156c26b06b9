"""The admin process: health over HTTP on this machine."""
