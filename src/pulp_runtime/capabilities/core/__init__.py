"""What every cell has, declared or not."""
