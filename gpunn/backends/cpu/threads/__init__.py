"""Threads that run the tasks of one call, and what they need of memory."""
