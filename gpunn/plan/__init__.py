"""The plan: buffers and an ordered list of kernel calls, built once, before anything runs."""
