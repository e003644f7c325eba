"""Goal: promise 2. A replay that does anything else than the tape says stops there and says so; it never hangs.

Method: programs that change between the recording and the replay, because a file that they read has changed. For
requests, Hypothesis makes the program and the change; which request id the replay must name, the tape says.
"""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

import ringtape
from ringtape import Disk
from ringtape.coordinator.tape import RequestRow, TapeReader, iter_rows
from ringtape.proto import messages_pb2
from tests.programs import planned, switched
from tests.programs.planned import BLOCK, Plan, Planned
from tests.searching import slow

KINDS = ["read", "write", "write_zeroes", "discard", "fsync"]
CHANGES = ["kind", "disk", "block", "count", "flag", "value", "dropped", "added", "swapped"]
BLOCKS_MAX = 64


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """No two requests of a worker are alike: the place of each on the tape can be found."""
    workers = draw(st.integers(1, 3))
    request = st.builds(
        Planned,
        kind=st.sampled_from(KINDS),
        disk=st.integers(0, 1),
        block=st.integers(0, BLOCKS_MAX // workers - 4),
        count=st.integers(1, 4),
        flag=st.booleans(),
        value=st.integers(0, 255),
    )
    plan = []
    for worker in range(workers):
        base = worker * (BLOCKS_MAX // workers)
        requests = draw(st.lists(request, min_size=2, max_size=16, unique_by=Planned.words))
        requests = [one._replace(block=base + one.block) for one in requests]
        cut = draw(st.integers(1, len(requests)))
        plan.append([requests[:cut], requests[cut:]] if cut < len(requests) else [requests])
    return plan


@st.composite
def changes(draw: st.DrawFn, plan: Plan) -> tuple[Plan, int, Planned, Planned | None]:
    """The plan with one change, the worker, the request where it shows, and the one made in its place, if known."""
    worker = draw(st.integers(0, len(plan) - 1))
    known = {one.words() for task in plan[worker] for one in task}
    task = draw(st.integers(0, len(plan[worker]) - 1))
    place = draw(st.integers(0, len(plan[worker][task]) - 1))
    changed = [[list(requests) for requests in tasks] for tasks in plan]
    requests = changed[worker][task]
    old = requests[place]
    new: Planned | None = None
    change = draw(st.sampled_from(CHANGES))
    note(f"{change} of request {place} of task {task} of worker {worker}")
    if change == "dropped":
        del requests[place]
    elif change == "swapped" and len(requests) > 1:
        place = min(place, len(requests) - 2)
        old, new = requests[place : place + 2]
        requests[place : place + 2] = [new, old]
    else:
        new = _another(draw, old, change)
        for tries in range(256):  # no matter how, it must be one that is not there already
            if new.words() not in known or change == "value":
                break
            new = new._replace(kind=KINDS[tries % 4], count=tries % 4 + 1, disk=tries // 4 % 2)
        if change in ("added", "swapped"):
            requests.insert(place, new)
        else:
            requests[place] = new
    return changed, worker, old, new


def _another(draw: st.DrawFn, old: Planned, change: str) -> Planned:
    if change == "kind":
        return old._replace(kind=draw(st.sampled_from([kind for kind in KINDS if kind != old.kind])))
    if change == "disk":
        return old._replace(disk=1 - old.disk)
    if change == "flag" and old.kind in ("write", "fsync"):
        return old._replace(flag=not old.flag)
    if change == "value" and old.kind == "write":
        return old._replace(value=(old.value + draw(st.integers(1, 255))) % 256)
    if change == "count" and old.kind != "fsync":
        return old._replace(count=old.count % 4 + 1)
    if old.kind == "fsync":
        return old._replace(kind="read")
    return old._replace(block=(old.block + draw(st.integers(1, BLOCKS_MAX - 5))) % (BLOCKS_MAX - 4))


def words(row: RequestRow) -> str:
    kind = messages_pb2.Kind.Name(row.kind).removeprefix("KIND_").lower()  # type: ignore[arg-type]
    one = Planned(
        kind, "ab".index(row.disk), row.offset // BLOCK, row.length // BLOCK, bool(row.flags), value=0
    )
    return one.words()


def rows(tape: Path) -> Iterator[RequestRow]:
    with TapeReader.open(tape) as reader:
        yield from (row for row in iter_rows(reader) if isinstance(row, RequestRow))


def two_disks(folder: Path) -> list[Disk]:
    return [Disk(name, folder / f"{name}.img", size=BLOCKS_MAX * BLOCK, fresh=True) for name in "ab"]


@slow(8)
@given(st.data(), plans(), st.sampled_from([planned.run_async, planned.run_blocking]))
def test_a_changed_request_is_found_where_it_is(
    data: st.DataObject, plan: Plan, program: Callable[[Any], Any]
) -> None:
    with tempfile.TemporaryDirectory(prefix="ringtape-") as folder_:
        folder = Path(folder_)
        told, tape = folder / "plan", folder / "tape"
        told.write_bytes(pickle.dumps(plan))
        ringtape.record(
            program, disks=two_disks(folder), workers=len(plan), arguments=str(told), tape=tape
        ).raise_for_failures()
        for _ in range(3):
            changed, worker, old, new = data.draw(changes(plan))
            told.write_bytes(pickle.dumps(changed))
            with pytest.raises(ringtape.Divergence) as caught:
                ringtape.replay(tape)
            error = caught.value
            (place,) = [row for row in rows(tape) if row.worker == worker and words(row) == old.words()]
            assert (error.worker, error.checkpoint, error.request_id) == (worker, place.checkpoint, place.id)
            assert error.recorded.startswith(old.words())
            if new is not None:
                assert error.actual.startswith(new.words())
                assert "planned.py" in error.stack and f".{new.kind}(" in error.stack
            assert f"request id {place.id}:" in str(error)
        told.write_bytes(pickle.dumps(plan))
        assert ringtape.replay(tape).ended == "finished"


@pytest.mark.parametrize("name", switched.DIVERGENCES)
def test_anything_else_that_changes_is_found(name: str, tmp_path: Path) -> None:
    recorded, actual = switched.DIVERGENCES[name]
    switch, tape = tmp_path / "switch", tmp_path / "tape"
    program = getattr(switched, name)
    ringtape.record(program, disks=two_disks(tmp_path), arguments=str(switch), tape=tape)
    switch.touch()
    with pytest.raises(ringtape.Divergence) as caught:
        ringtape.replay(tape)
    error = caught.value
    assert (error.worker, error.checkpoint) == (0, 1)
    assert error.recorded.startswith(recorded) and error.actual.startswith(actual)
    assert error.recorded != error.actual
    assert error.request_id == (2 if recorded.startswith(("read", "fsync")) else None)
    assert ("switched.py" in error.stack) == ("the program's" not in error.actual)


def test_the_stack_is_had_of_a_worker_that_has_run_ahead(tmp_path: Path) -> None:
    switch, tape = tmp_path / "switch", tmp_path / "tape"
    ringtape.record(switched.ahead, disks=two_disks(tmp_path), arguments=str(switch), tape=tape)
    switch.touch()
    with pytest.raises(ringtape.Divergence) as caught:
        ringtape.replay(tape)
    assert caught.value.request_id == 1
    assert ".read(block % 16 * BLOCK, BLOCK)" in caught.value.stack


def kept(folder: Path) -> tuple[Path, Disk]:
    file = folder / "kept.img"
    file.write_bytes(bytes(BLOCKS_MAX * BLOCK))
    return file, Disk("a", file)


def test_other_data_on_the_disk_is_found_at_the_read_of_it(tmp_path: Path) -> None:
    told, tape = tmp_path / "plan", tmp_path / "tape"
    reads = [Planned("read", 0, block, 1, flag=False, value=0) for block in (3, 1, 5, 2, 0)]
    told.write_bytes(pickle.dumps([[reads]]))
    file, disk = kept(tmp_path)
    recorded = ringtape.record(planned.run_blocking, disks=[disk], arguments=str(told), tape=tape)
    with file.open("r+b") as opened:
        opened.seek(6 * BLOCK - 1)
        opened.write(b"x")
    with pytest.raises(ringtape.DiskError, match="does not hold what it held"):
        ringtape.replay(tape)
    with pytest.raises(ringtape.Divergence, match="returned other data") as caught:
        ringtape.replay(tape, force=True)
    assert (caught.value.request_id, caught.value.checkpoint) == (3, 2)
    assert ".read(offset, length)" in caught.value.stack
    kept(tmp_path)
    assert ringtape.replay(tape).digest == recorded.digest


def test_other_data_where_the_program_does_not_look_is_none_of_its_business(tmp_path: Path) -> None:
    told, tape = tmp_path / "plan", tmp_path / "tape"
    told.write_bytes(pickle.dumps([[[Planned("read", 0, 3, 1, flag=False, value=0)]]]))
    file, disk = kept(tmp_path)
    recorded = ringtape.record(planned.run_blocking, disks=[disk], arguments=str(told), tape=tape)
    file.write_bytes(b"x" * BLOCK + bytes((BLOCKS_MAX - 1) * BLOCK))
    assert ringtape.replay(tape, force=True).digest == recorded.digest


def test_a_program_that_computes_for_ever_is_stalled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringtape.coordinator.supervisor.STACK_S_MAX", 0.1)
    switch, tape = tmp_path / "switch", tmp_path / "tape"
    ringtape.record(switched.computes, disks=two_disks(tmp_path), arguments=str(switch), tape=tape)
    switch.touch()
    with pytest.raises(ringtape.Stalled) as caught:
        ringtape.replay(tape, stall_timeout_s=0.2)
    assert caught.value.worker == 0
    assert "worker 0 has done nothing for too long after checkpoint 1" in str(caught.value)
    assert "request id 2, read of 4096 bytes at 4096 on disk 'a'" in str(caught.value)
    output = tmp_path / "again"
    with pytest.raises(ringtape.Stalled):
        ringtape.replay(tape, stall_timeout_s=0.2, output=output)
    switch.unlink()
    partly = ringtape.replay(output)
    assert partly.ended.startswith("the recording ends after request id 1: worker 0 has done nothing")


def test_a_program_that_waits_for_what_cannot_come_fails_alike(tmp_path: Path) -> None:
    tape = tmp_path / "tape"
    recorded = ringtape.record(switched.waits_for_nothing, disks=two_disks(tmp_path), tape=tape)
    (failure,) = recorded.failures
    assert failure.stalled
    assert "nothing can ever wake them" in failure.message
    again = ringtape.replay(tape)
    assert (again.failures, again.digest) == ([failure], recorded.digest)
