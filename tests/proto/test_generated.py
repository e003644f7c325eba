"""The generated code is what the schemas give, and runs with every protobuf that the project allows."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROTO = ROOT / "proto"


def generated_files(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.stem.endswith("_pb2")}


def test_checked_in_code_is_what_the_schemas_give(tmp_path: Path) -> None:
    subprocess.run([sys.executable, PROTO / "generate.py", tmp_path], check=True)

    fresh, checked_in = generated_files(tmp_path), generated_files(PROTO)

    schemas = {path.stem for path in PROTO.glob("*.proto")}
    assert fresh.keys() == {f"{name}_pb2.{kind}" for name in schemas for kind in ("py", "pyi")}
    differing = [name for name in fresh.keys() | checked_in.keys() if fresh.get(name) != checked_in.get(name)]
    assert not differing, f"run `make proto`: {sorted(differing)} in proto/ are not what the schemas give"


def test_code_of_a_schema_that_is_gone_is_removed(tmp_path: Path) -> None:
    stale, mine = tmp_path / "gone_pb2.py", tmp_path / "framing.py"
    stale.touch()
    mine.touch()

    subprocess.run([sys.executable, PROTO / "generate.py", tmp_path], check=True)

    assert not stale.exists()
    assert mine.exists()


def test_oldest_allowed_protobuf_is_not_older_than_the_generated_code() -> None:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    [requirement] = [line for line in dependencies if line.startswith("protobuf")]
    oldest = re.search(r">=(\d+)\.(\d+)\.(\d+)", requirement)
    assert oldest, requirement

    for name, text in generated_files(PROTO).items():
        if name.endswith(".py"):
            version = re.search(r"Protobuf Python Version: (\d+)\.(\d+)\.(\d+)", text)
            assert version, name
            assert tuple(map(int, version.groups())) <= tuple(map(int, oldest.groups())), (name, requirement)
