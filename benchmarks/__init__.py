"""Measurements of the engine beside other libraries: `python -m benchmarks --help`."""
