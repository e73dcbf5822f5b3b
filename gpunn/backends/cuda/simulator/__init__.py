"""The simulator: the CUDA kernels compiled for the host, and run on NumPy memory."""
