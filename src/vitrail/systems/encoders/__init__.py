"""Vision towers that several systems share: their settings and names in official files, and their published sizes."""
