"""Slow, obvious references in float64 NumPy, and heads whose truth is known."""
