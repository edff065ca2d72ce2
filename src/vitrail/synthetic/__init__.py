"""Drawn data: small seeded pictures with questions and answers, free of any licence, for learning, tests and trials.

`config` says what to draw and imports neither torch nor numpy. `source` draws scenes, `lines` lines of text and
`documents` receipts, charts and the like, `speech` says words, each as a source of rows; `export` writes any of them
but the last to a folder.
"""
