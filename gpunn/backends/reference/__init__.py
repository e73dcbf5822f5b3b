"""The reference backend: every op once, in plain NumPy.

A family file holds functions ``op(arrays, attrs, rows)`` and its table of them; ``backend.py``
makes one table of all, and to bind an op is to keep its arguments. ``function.py`` has what the
families share.
"""
