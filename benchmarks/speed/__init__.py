"""What a hybrid layer costs beside a plain one; benchmarks/README.md is the measuring contract."""
