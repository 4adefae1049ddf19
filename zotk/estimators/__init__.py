"""Laws of directions, and gradients from function values."""
