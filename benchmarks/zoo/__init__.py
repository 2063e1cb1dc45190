"""The zoo: fuse_into tried on other libraries' networks; ``python -m benchmarks.zoo`` writes docs/compatibility.md."""
