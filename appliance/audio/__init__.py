"""Audio without processes: blocks, resampling, files, devices, sample clocks."""
