"""Where rows come from: one file a kind, each with rows by number or, where that cannot be, as a stream with places."""
