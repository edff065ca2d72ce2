"""Finished models in the layouts that other programs read."""
