"""`python -m recipes.celeba report RUNS`: a folder of runs of `reproduce` as a page, a LaTeX table and figures."""
