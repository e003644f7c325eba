"""A process that coordinates a run, so that a test can kill it: records or replays and says what came of it.

Called with the mode, the program, the tape, the disk and the pipe.
"""

from __future__ import annotations

import sys

import ringtape
from ringtape import Disk

if __name__ == "__main__":
    mode, program, tape, disk, pipe = sys.argv[1:]
    try:
        if mode == "record":
            disks = [Disk("a", disk, size="1M")]
            ringtape.record(program, disks=disks, workers=3, arguments=pipe, tape=tape)
        else:
            ringtape.replay(tape, output=f"{tape}.again")
    except KeyboardInterrupt as error:
        print(f"KeyboardInterrupt: {error}")
