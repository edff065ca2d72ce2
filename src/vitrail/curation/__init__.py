"""Looking at data before it is learnt from."""
