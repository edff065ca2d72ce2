"""Features to tokens of the backbone's width."""
