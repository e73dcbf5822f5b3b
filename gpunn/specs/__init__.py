"""What the user writes: layers, losses, optimizers and the rest; frozen, without arrays."""
