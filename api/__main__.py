"""The console entry. It loads no more than the command needs: `ringtape --version` loads nothing."""

from __future__ import annotations

import sys

from ringtape import __version__


def main() -> int:
    """Run the command line; returns the exit code."""
    if sys.argv[1:] == ["--version"]:
        print(f"ringtape {__version__}")
        return 0
    try:
        from ringtape import cli

        return cli.main()
    except KeyboardInterrupt:
        # Before a command could take care of it.
        print("ringtape: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
