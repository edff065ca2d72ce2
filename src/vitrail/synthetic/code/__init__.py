"""Pictures with the code that made them: small pages with their HTML, plots with their call."""
