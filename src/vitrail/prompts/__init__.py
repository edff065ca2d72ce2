"""Chat templates, and `render`: the one function that turns a conversation into ids, labels and media slots."""
