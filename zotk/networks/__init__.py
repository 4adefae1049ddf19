"""Networks as functions of their parameters, and what their layers are made of."""
