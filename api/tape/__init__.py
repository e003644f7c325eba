"""What `ringtape tape` does: the tools that look into a tape, one module each."""
