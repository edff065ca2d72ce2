"""Attention and losses that know segments."""
