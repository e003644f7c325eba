"""The tools that look into tapes: what `ringtape tape` does, and `ringtape.open_tape`."""
