"""``gpunn tune``: measures what serves each matrix product best, and keeps the table."""
