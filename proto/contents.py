"""What both sides of the link hold to where data goes onto the tape. Numbers alone, no code."""

# Longer data is cut into pieces of this size, and stands on the tape as the list of them.
PIECE_BYTES = 1 << 20
# Of data in one frame of the link: what has gathered, and a piece behind it.
LINK_DATA_BYTES_MAX = 2 * PIECE_BYTES
# So many contents a worker remembers to have sent, and twice as many the coordinator remembers to have got.
SENT_MAX = 1 << 16
