"""Training dynamics in closed form."""
