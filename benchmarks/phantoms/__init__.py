"""The phantoms: six tasks with known answers, every way to fuse side by side; ``python -m benchmarks.phantoms``."""
