"""Goal: the documents say what is true. Method: do what they say, and see whether they say all there is.

A python block whose first line is a comment with a file name (`# store.py`) is a program: it is saved under that name,
in place of what was there. A console block is a session: after `$ ` a command, and below it all that it prints. Numbers
may be others, lines may not, unless the comment `<!-- varies -->` stands before the block.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import os
import re
import shlex
import subprocess
import sys
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer.main

import ringtape
from ringtape import cli
from ringtape.console import Exit
from tests.api import command_line

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
TUTORIAL = ROOT / "docs" / "tutorial.md"
TAPES = ROOT / "docs" / "tapes.md"
REFERENCE = ROOT / "docs" / "reference.md"
DOCUMENTS = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/*.md"))]
NAMES = [str(document.relative_to(ROOT)) for document in DOCUMENTS]

# What the folder of a session is called in the documents.
SHOWN_FOLDER = "/home/you/tour"
SESSION_S_MAX = 60
# Absolute paths that a reader has as well.
PATHS_OF_EVERYBODY = ("/home/you/", "/dev/", "/proc/", "/sys/", "/tmp", "/var/tmp")

_FENCE = re.compile(
    r"^(?P<varies><!-- varies -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_FILE_NAME = re.compile(r"# ([\w-]+\.py)\n")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_COMMAND = re.compile(
    r"\bringtape(?: (?:record|replay|check|run|rewind|tape|trace|bench|demo)\b"
    r".*?(?=\s*(?:\d?>|[;|&)#\n]|$))| --version)",
    re.MULTILINE,
)
_PATH = re.compile(r"(?<![\w.~/:<*])/(?:[\w.*-]+/)*[\w.*-]+")


@dataclass(frozen=True)
class Block:
    """A fenced block of a document."""

    where: str
    language: str
    text: str
    varies: bool

    @property
    def file_name(self) -> str | None:
        """What the program in it is saved as; None if it is none."""
        found = _FILE_NAME.match(self.text) if self.language == "python" else None
        return found[1] if found else None

    def session(self) -> list[tuple[str, str]]:
        """The commands of a console block, each with the output that is shown."""
        assert self.text.startswith("$ "), f"{self.where}: a session begins with a command"
        parts = re.split(r"^\$ (.*)\n", self.text, flags=re.MULTILINE)
        return list(zip(parts[1::2], parts[2::2], strict=True))


def blocks_of(document: Path) -> Iterator[Block]:
    text = document.read_text()
    for found in _FENCE.finditer(text):
        line = text.count("\n", 0, found.start("language")) + 1
        where = f"{document.relative_to(ROOT)}:{line}"
        yield Block(where, found["language"], found["text"], found["varies"] is not None)


def run_session(commands: list[str], folder: Path) -> list[str]:
    """What each of the commands prints, on both of its outputs. They are run in one shell."""
    lines = [f"echo '<<< {number} >>>'\n{command}\n" for number, command in enumerate(commands)]
    # As in a shell in which the virtual environment is active, and none of this pytest's settings.
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHON"))
    }
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment.get('PATH', os.defpath)}"
    environment["COLUMNS"] = "80"
    environment.pop("CI", None)  # pytest shows more there
    environment.pop("BUILD_NUMBER", None)
    done = subprocess.run(
        ["bash", "-c", "".join(lines)],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SESSION_S_MAX,
        check=False,
    )
    # What a shell says of a process that was killed is its own affair.
    said = re.sub(
        r"^bash: .*Killed.*\n", "", done.stdout.replace(str(folder), SHOWN_FOLDER), flags=re.MULTILINE
    )
    outputs = re.split(r"^<<< \d+ >>>\n", said, flags=re.MULTILINE)[1:]
    assert len(outputs) == len(commands), said
    return outputs


def shape(output: str) -> list[str]:
    """The lines of an output without what differs by run and machine: numbers, digests, widths, direct I/O."""
    number = re.compile(r"[^\s,:()\[\]]*\d(?:[^\s,:()\[\]]|,(?=\d))*")
    lines = [number.sub("#", line) for line in output.splitlines()]
    return [" ".join(line.replace("file, direct", "file").split()) for line in lines if line.strip()]


def follow(blocks: Iterable[Block], folder: Path) -> None:
    """Do what is said, one thing after the other."""
    for block in blocks:
        if block.file_name is not None:
            (folder / block.file_name).write_text(block.text)
        if block.language == "console":
            session = block.session()
            outputs = run_session([command for command, _ in session], folder)
            for (command, shown), output in zip(session, outputs, strict=True):
                if block.varies:
                    # What the command came to is the same.
                    shown, output = (
                        "\n".join(re.findall(r"^exit code.*", text, re.MULTILINE)) for text in (shown, output)
                    )
                assert shape(output) == shape(shown), f"{block.where}: {command}\n{output}"


@pytest.mark.parametrize("part", ["from the beginning", "from section 11"])
def test_the_tutorial_can_be_followed(part: str, tmp_path: Path) -> None:
    """From section 11 on it needs nothing that was made before, so that the two parts can run side by side."""
    blocks = list(blocks_of(TUTORIAL))
    (border,) = (number for number, block in enumerate(blocks) if block.file_name == "test_slots.py")
    follow(blocks[:border] if part == "from the beginning" else blocks[border:], tmp_path)


def test_the_guide_to_traces_can_be_followed(tmp_path: Path) -> None:
    follow(blocks_of(ROOT / "docs" / "traces.md"), tmp_path)


def test_the_guide_to_jobs_can_be_followed(tmp_path: Path) -> None:
    follow(blocks_of(ROOT / "docs" / "bench.md"), tmp_path)


def test_the_program_in_the_guide_to_jobs_runs(tmp_path: Path) -> None:
    (program,) = (one for one in blocks_of(ROOT / "docs" / "bench.md") if one.file_name == "measure.py")
    (tmp_path / "measure.py").write_text(program.text)
    (output,) = run_session(["python measure.py"], tmp_path)
    assert "1000 requests, 0 failed" in output, output
    (jobs,) = (one for one in blocks_of(ROOT / "docs" / "bench.md") if one.language == "toml")
    (tmp_path / "jobs.toml").write_text(jobs.text)
    (output,) = run_session(["ringtape bench --job jobs.toml --runtime 50ms > /dev/null; echo $?"], tmp_path)
    assert output == "0\n"


def test_the_page_on_reports_can_be_followed(tmp_path: Path) -> None:
    follow(blocks_of(ROOT / "docs" / "bench-report.md"), tmp_path)


def test_the_page_on_tapes_can_be_followed(tmp_path: Path) -> None:
    follow(blocks_of(TAPES), tmp_path)


def test_the_program_in_the_readme_runs_as_pasted(tmp_path: Path) -> None:
    blocks = list(blocks_of(README))
    program = next(block for block in blocks if block.file_name is not None)
    shown = blocks[blocks.index(program) + 1].text
    (tmp_path / str(program.file_name)).write_text(program.text)
    (output,) = run_session([f"python {program.file_name}"], tmp_path)
    assert shape(output) == shape(shown), output
    # Its tape has an order, and its program is found again: from the command line too.
    commands = [
        line for block in blocks for line in block.text.splitlines() if line.startswith("ringtape re")
    ]
    outputs = run_session([f"{command} >/dev/null; echo $?" for command in commands], tmp_path)
    assert outputs == ["0\n"] * 2, outputs


def test_the_demo_has_the_parts_that_the_readme_shows(tmp_path: Path) -> None:
    shown = next(block.text for block in blocks_of(README) if block.language == "text")
    (output,) = run_session([f"TMPDIR={shlex.quote(str(tmp_path))} ringtape demo"], tmp_path)
    headings = re.findall(r"\A.*|^\d\. .*", shown, re.MULTILINE)
    assert len(headings) == 3
    assert set(headings) <= set(output.splitlines()), output


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_every_program_is_python(document: Path) -> None:
    for block in blocks_of(document):
        if block.language == "python":
            compile(block.text, block.where, "exec", dont_inherit=True)


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_every_command_of_ringtape_can_be_parsed(document: Path) -> None:
    for block in blocks_of(document):
        if block.language in ("sh", "console"):
            lines = (
                [command for command, _ in block.session()] if block.language == "console" else [block.text]
            )
            for found in (found for line in lines for found in _COMMAND.findall(line)):
                parse(found)


@pytest.mark.parametrize(
    "command", ["ringtape record", "ringtape replay a --frobnicate", "ringtape tape frobnicate"]
)
def test_a_wrong_command_would_be_found(command: str) -> None:
    with pytest.raises(Exception, match=r"Missing|No such option|No such command"):
        parse(command)


def parse(line: str) -> None:
    """Raise what the command line raises for a wrong command; nothing is carried out."""
    words = shlex.split(line)[1:]
    command: Any = typer.main.get_command(cli.app)
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        with command.make_context("ringtape", words[:1]) as context:
            _, command, _ = command.resolve_command(context, words[:1])
        words = words[1:]
    if words != ["--version"]:  # which is carried out where it is parsed
        command.make_context("ringtape", words)


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_every_link_leads_somewhere(document: Path) -> None:
    for target in _LINK.findall(_FENCE.sub("", document.read_text())):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        linked = (document.parent / path).resolve() if path else document
        assert linked.is_relative_to(ROOT), target
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors_of(linked), target


def anchors_of(document: Path) -> set[str]:
    """What the headings of a document can be linked to as."""
    headings = re.findall(r"^#+ (.*)$", _FENCE.sub("", document.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_no_path_is_one_of_a_machine(document: Path) -> None:
    for path in _PATH.findall(_LINK.sub("", document.read_text())):
        assert path.startswith(PATHS_OF_EVERYBODY), path


def test_the_make_targets_in_the_documents_exist() -> None:
    targets = set(re.findall(r"^\.PHONY: (\w+)", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for document in DOCUMENTS:
        named = re.findall(r"(?:`|^)make (?:PYTHON=\S+ )?([a-z]+)", document.read_text(), re.MULTILINE)
        assert set(named) <= targets, document


# ---- the reference says all there is


def reference_names() -> set[str]:
    """Every word in the reference that is set as code."""
    text = REFERENCE.read_text()
    code = [*re.findall(r"`([^`\n]+)`", text), *(block.text for block in blocks_of(REFERENCE))]
    return {word for span in code for word in re.findall(r"-{0,2}\w[\w-]*", span)}


def test_the_reference_has_every_public_name() -> None:
    faces = (ringtape.Worker, ringtape.BlockingWorker, ringtape.AsyncDisk, ringtape.BlockingDisk)
    members = {name for face in faces for name in dir(face) if not name.startswith("_")}
    data = (
        ringtape.CheckResult,
        ringtape.Console,
        ringtape.Difference,
        ringtape.Disk,
        ringtape.Failure,
        ringtape.Progress,
        ringtape.ReplayedRequest,
        ringtape.Result,
        ringtape.RewoundDisk,
        ringtape.TapeDisk,
        ringtape.TapeHeader,
        ringtape.TapeRequest,
        ringtape.WatchedRequest,
    )
    fields = {field.name for one in data for field in dataclasses.fields(one)}
    methods = {name for one in (*data, ringtape.Tape) for name in vars(one) if not name.startswith("_")}
    # How a completion comes in; no program has a use for it.
    assert not ({*ringtape.__all__, *members, *fields, *methods} - {"released"}) - reference_names()


def test_the_reference_has_every_attribute_of_a_divergence() -> None:
    error = ringtape.Divergence(worker=0, checkpoint=0, request_id=None, recorded="", actual="")
    assert set(vars(error)) - {"sequence"} <= reference_names()


def test_the_reference_has_every_option_of_each_command() -> None:
    text = REFERENCE.read_text()
    for name, command in commands_of(typer.main.get_command(cli.app), "ringtape"):
        mentions = [found.end() for found in re.finditer(rf"\*\*`{name}`", text)]
        assert mentions, f"the reference has no part on {name}"
        part = re.split(r"\n\*\*`|\n#", text[mentions[0] :])[0]
        for option in (option for parameter in command.params for option in parameter.opts):
            if option.startswith("-") and option not in ("--help", "-h"):
                assert f"`{option}`" in part, f"{name} {option}"
        for parameter in command.params:
            annotation = parameter.type_descriptor.annotation
            for kind in (annotation, *typing.get_args(annotation)):
                for choice in kind if isinstance(kind, enum.EnumMeta) else ():
                    assert f"`{choice.value}`" in text, f"{name} {choice.value}"


def commands_of(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    for word, below in getattr(command, "commands", {}).items():
        yield from commands_of(below, f"{name} {word}")
    if not hasattr(command, "commands") or (command.params and " " in name):
        yield name, command


def test_the_reference_has_every_exit_code() -> None:
    codes = REFERENCE.read_text().split("### Exit codes")[1].split("\n#")[0]
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", codes, re.MULTILINE)] == sorted(Exit)


def test_the_reference_has_every_key_of_the_json(tmp_path: Path) -> None:
    (tmp_path / "all.py").write_text(
        "import os\n"
        "def main(io):\n"
        "    io.disk('a').write(0, bytes(4096))\n"
        "    io.log(str(io.capture(os.getpid)))\n"
        "    if io.index:\n"
        "        raise ValueError\n"
    )
    disks = [ringtape.Disk("a", tmp_path / "a.img", size="1M")]
    ringtape.record(str(tmp_path / "all.py"), disks=disks, workers=2, tape=tmp_path / "all.tape")
    command_line.ringtape("tape", "cut", "all.tape", "--to", "1", "-o", "cut.tape", cwd=tmp_path)
    (tmp_path / "torn.tape").write_bytes((tmp_path / "cut.tape").read_bytes() + b"x")
    outputs = [
        command_line.ringtape("tape", *words.split(), "--json", cwd=tmp_path).stdout
        for words in (
            "info all.tape",
            "dump all.tape",
            "dump all.tape --requests",
            "stats all.tape",
            "diff all.tape all.tape",
            "diff all.tape cut.tape",
            "repair torn.tape -o good.tape",
        )
    ]
    assert all(outputs)
    rows = [json.loads(line) for output in outputs for line in output.splitlines()]
    assert {row.get("row") for row in rows} > {"request", "completion", "token", "log", "captured", "outcome"}
    assert set().union(*map(keys_of, rows)) - {"a"} <= reference_names()


def keys_of(value: Any) -> set[str]:
    if isinstance(value, list):
        return set().union(*map(keys_of, value))
    if isinstance(value, dict):
        return set(value) | keys_of(list(value.values()))
    return set()
