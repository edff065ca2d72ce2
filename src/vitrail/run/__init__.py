"""One run from start to finish: its folder, its stages, its scores, its report, and the plan of it all."""
