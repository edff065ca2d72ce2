"""Published systems, one file each: components and sizes, media rule, prompt, map from and to the official layout."""
