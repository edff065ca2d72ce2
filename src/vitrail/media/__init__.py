"""Bytes to arrays, and the one place that knows how many tokens an input becomes."""
