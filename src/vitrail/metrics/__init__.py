"""Scores of answers: exact match, ANLS, box IoU, and their 95 % intervals. Plain Python and numpy, no torch."""
