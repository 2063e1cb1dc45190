"""fusionconv: convolutions whose kernels take a covariate vector, kernel_i = W + sum_j s_ij V_j."""
