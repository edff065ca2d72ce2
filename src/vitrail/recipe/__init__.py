"""Recipes: strict YAML to dataclasses, every value with its origin. Imports no torch."""
