"""Covariate tables: from the files people have to the float32 vector that a layer takes."""
