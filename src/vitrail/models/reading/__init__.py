"""Pages read line by line: where lines stand, in which order, and what is written in them."""
