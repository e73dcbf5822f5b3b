"""The reference backend: every op once, in plain NumPy; one file for each family of ops."""
