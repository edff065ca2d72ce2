"""ONNX files as trainable torch modules: what others have exported runs here without their runtime."""
