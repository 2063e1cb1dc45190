"""Studies: any table and its images, every arm on the same folds."""
