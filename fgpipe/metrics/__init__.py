"""Arrays in, numbers out; numpy only."""
