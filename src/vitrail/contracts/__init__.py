"""What the folders say to each other: messages, samples, batches, replies, errors, protocols. Types only."""
