"""Matrix products on the CPU: the BLAS of NumPy, and register tiles of our own."""
