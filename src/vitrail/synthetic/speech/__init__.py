"""Words spelt as sound by a small synthesiser of our own: what to say, the voice that says it, and the rows."""
