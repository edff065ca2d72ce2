"""Sources to batches: dialects, encoding, packing, collating, and the stream that can be resumed anywhere."""
