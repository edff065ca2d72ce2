"""Where rows come from: one file a kind, with rows by number or, where that cannot be, as a stream with cursors."""
