"""What outlives a process: rows of outcomes with the offsets they came from."""
