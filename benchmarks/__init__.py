"""Measurements against other people's software, and of speed: `python -m benchmarks`; see docs/benchmarks.md."""
