"""Where pictures meet text."""
