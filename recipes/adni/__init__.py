"""Brain MRI (ADNI, OASIS, IXI, BIDS, or a table of paths) with covariates, on MONAI. See README.md."""
