"""CelebA: one attribute of a face from its image and from other attributes as covariates. See README.md."""
