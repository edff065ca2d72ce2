"""Components of a model, and the model they make."""
