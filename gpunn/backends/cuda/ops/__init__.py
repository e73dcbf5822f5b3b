"""From an op to its launches; a file for each family of ops, with its table ``OPERATIONS``."""
