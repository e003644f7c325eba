"""Goal: a lease changes who waits and nothing else: what was recorded with one replays, says so, and is bounded.

Method: programs recorded with leases and without, by real workers; what can differ between the two (time, the order of
completions) is kept out of what is compared. `test_exactness` has the property test of both.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import ringtape
from ringtape import Disk
from ringtape.coordinator.tape import NoteRow, RequestRow, TapeReader, TokenRow, iter_rows
from tests.api.command_line import ringtape as command
from tests.programs import leasing


def disk(folder: Path, **options: bool) -> Disk:
    return Disk("a", folder / "a.img", size="1M", fresh=True, workers=[0] if options.get("alone") else None)


@pytest.mark.parametrize("strict", [False, True])
def test_a_program_sees_the_same_with_a_lease_and_without(tmp_path: Path, strict: bool) -> None:
    """Its requests come one after another, so nothing but the clock can differ."""
    tape = tmp_path / "run.tape"
    recorded = ringtape.record(leasing.one_by_one, disks=[disk(tmp_path)], tape=tape, strict=strict)
    assert recorded.returns == [leasing.EXPECTED]
    again = ringtape.replay(tape)
    assert (again.digest, again.returns) == (recorded.digest, recorded.returns)
    with TapeReader.open(tape) as reader:
        assert reader.header.leased is not strict
        rows = list(iter_rows(reader))
    kinds = [type(row) for row in rows if isinstance(row, RequestRow | TokenRow | NoteRow)]
    assert kinds[:6] == [RequestRow, TokenRow] * 3, "the order of things is on the tape"
    info = json.loads(command("tape", "info", "--json", "run.tape", cwd=tmp_path).stdout)
    assert info["leased"] is not strict


@pytest.mark.parametrize("strict", [False, True])
def test_a_failed_request_has_its_id(tmp_path: Path, strict: bool) -> None:
    """Ids are given where requests are reported: a leased worker asks for that of one that fails."""
    tape = tmp_path / "run.tape"
    recorded = ringtape.record(
        leasing.fails, disks=[disk(tmp_path)], tape=tape, arguments=str(tmp_path / "a.img"), strict=strict
    )
    found = recorded.returns[0]
    with TapeReader.open(tape) as reader:
        made = {row.id: row for row in iter_rows(reader) if isinstance(row, RequestRow)}
    assert found and all(made[id_].offset == offset for id_, offset in found)
    assert ringtape.replay(tape).digest == recorded.digest


def test_messages_come_to_leased_workers_unasked(tmp_path: Path) -> None:
    """Disks of their own, so both have leases; one works on while the other sends."""
    disks = [
        Disk(name, tmp_path / f"{name}.img", size="1M", fresh=True, workers=[index])
        for index, name in enumerate("ab")
    ]
    tape = tmp_path / "run.tape"
    for _ in range(3):
        recorded = ringtape.record(leasing.works_and_hears, disks=disks, workers=2, tape=tape, strict=False)
        assert recorded.returns == [leasing.MESSAGES, leasing.MESSAGES]
        assert ringtape.replay(tape).digest == recorded.digest


def test_a_worker_with_a_shared_disk_has_no_lease(tmp_path: Path) -> None:
    recorded = ringtape.record(
        leasing.one_by_one, disks=[disk(tmp_path)], workers=2, tape=tmp_path / "t", strict=False
    )
    assert recorded.failures == []
    with TapeReader.open(tmp_path / "t") as reader:
        assert not reader.header.leased


def test_who_waits_for_what_cannot_come_is_told_with_a_lease_too(tmp_path: Path) -> None:
    recorded = ringtape.record(
        leasing.waits_for_ever, disks=[disk(tmp_path)], tape=tmp_path / "t", strict=False
    )
    assert [failure.stalled for failure in recorded.failures] == [True]
    again = ringtape.replay(tmp_path / "t")
    assert (again.digest, again.failures) == (recorded.digest, recorded.failures)


@pytest.mark.parametrize("data", ["order", "digest"])
def test_an_array_with_one_other_request_diverges_there(tmp_path: Path, data: Any) -> None:
    """A worker compares the rows of an array with its lease many at a time, ahead of their being made."""
    tape = tmp_path / "run.tape"
    ringtape.record(leasing.reads_an_array, disks=[disk(tmp_path)], tape=tape, data=data, strict=False)
    found = []
    for strict in (False, True):
        assert ringtape.replay(tape, leasing.reads_an_array, strict=strict).failures == []
        with pytest.raises(ringtape.Divergence) as caught:
            ringtape.replay(tape, leasing.reads_another_array, strict=strict)
        error = caught.value
        found.append((str(error), error.request_id, error.checkpoint, error.recorded, error.actual))
    assert found[0] == found[1]
    assert found[0][1] == 1701
