"""The benchmarks: ringtape beside fio and beside itself. A command, `python -m ringtape.benchmarks`, not a library."""
