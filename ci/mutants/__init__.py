"""Small faults planted in formulas and in predictions, to see whether anything notices."""
