"""Generates the `*_pb2` modules and their stubs from the schemas beside this file; see `make proto`.

It runs as a script and imports nothing of ringtape, so that it can mend generated code that does not import.
Nothing imports it, and it must never do more than write those files.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SCHEMAS = Path(__file__).resolve().parent
# The schemas import each other under this path, and protoc makes the imports in the code from it.
PACKAGE = Path("ringtape", "proto")


def generate(output: Path) -> None:
    """Write the code for all schemas into the folder `output`, and remove code there whose schema is gone.

    Raises:
        subprocess.CalledProcessError: protoc refused a schema; it has said why on stderr.
    """
    names = sorted(path.name for path in SCHEMAS.glob("*.proto"))
    with tempfile.TemporaryDirectory(prefix="ringtape-proto-") as folder:
        protoc = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={PACKAGE}={SCHEMAS}"]
        outputs = ["--python_out=.", "--pyi_out=."]
        subprocess.run([*protoc, *outputs, *(str(PACKAGE / name) for name in names)], check=True, cwd=folder)

        made = sorted(Path(folder, PACKAGE).iterdir())
        output.mkdir(parents=True, exist_ok=True)
        for stale in {*output.glob("*_pb2.py"), *output.glob("*_pb2.pyi")}:
            if stale.name not in {path.name for path in made}:
                stale.unlink()
        for path in made:
            shutil.copy(path, output)


def main() -> int:
    """Take the output folder from the command line; the default is the folder of the schemas."""
    if len(sys.argv) > 2:
        print(f"usage: {sys.argv[0]} [output folder]", file=sys.stderr)
        return 2
    try:
        generate(Path(sys.argv[1]) if len(sys.argv) == 2 else SCHEMAS)
    except subprocess.CalledProcessError as error:
        return error.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
