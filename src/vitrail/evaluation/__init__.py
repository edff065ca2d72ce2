"""Measuring a trained model on held-out questions, and the page that reports a run."""
