"""``gpunn bench``: what this machine reaches, beside its own ceilings and other frameworks."""
