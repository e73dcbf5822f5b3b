"""Checkpoints on disk: the HDF5 format, its distrusting reader, files written whole."""
