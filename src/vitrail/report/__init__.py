"""Pages that say what was measured and found: single HTML files that load nothing, drawn from plain data."""
