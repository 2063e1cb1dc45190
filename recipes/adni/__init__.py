"""Brain MRI with covariates: diagnosis, brain age or time to dementia from a volume and a table. See README.md."""
