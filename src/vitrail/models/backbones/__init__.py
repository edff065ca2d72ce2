"""Language models. The only folder of the components that imports transformers."""
