"""Checkpoints on disk: the HDF5 format, a reader that trusts no file, atomic writes."""
