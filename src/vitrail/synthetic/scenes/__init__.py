"""What a drawn picture can show: shapes, many of one thing, text, or bars. One file a scene, each with one `draw`."""
