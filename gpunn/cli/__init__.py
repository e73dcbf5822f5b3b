"""The command line, ``gpunn``: the app, and what its commands do."""
