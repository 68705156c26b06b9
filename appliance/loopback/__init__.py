"""Hardware in the loop without hardware: virtual devices and a virtual room."""
