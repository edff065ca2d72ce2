"""Drawn data: small seeded pictures with questions and answers, free of any licence, for learning, tests and trials.

`config` says what to draw and imports neither torch nor numpy; `source` draws it; `export` writes it to a folder.
"""
