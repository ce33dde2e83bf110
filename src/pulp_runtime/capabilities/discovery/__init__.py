"""Who else is there."""
