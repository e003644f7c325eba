"""Programs to look at: each runs as it is, and each can be recorded and replayed from the command line."""
