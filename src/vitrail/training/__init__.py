"""The one training loop: stages, objectives, optimizer, schedules, checkpoints, run log."""
