"""Block traces of the field: opening one of any format, and its requests as NumPy arrays.

`open` gives a trace; what is below this package is how. It imports numpy, so only
the program that replays a trace may load it in a worker.
"""

from ringtape.traces.columns import FLAG_NAMES, KIND_NAMES, REQUEST
from ringtape.traces.formats import NAMES as FORMATS
from ringtape.traces.trace import Trace
from ringtape.traces.trace import open_trace as open

__all__ = ["FLAG_NAMES", "FORMATS", "KIND_NAMES", "REQUEST", "Trace", "open"]
