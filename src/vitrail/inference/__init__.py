"""Cached generation, and the model a user talks to."""
