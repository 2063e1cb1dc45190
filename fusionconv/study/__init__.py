"""The study engine: a table, its images and its covariates in; arms on the same folds, tests and a report out."""
