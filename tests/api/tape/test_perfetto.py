"""Goal: a trace has every request and checkpoint of its tape. Method: read it by Perfetto's own schema.

The schema is that of the package `perfetto`. Its trace processor is a program that is downloaded where it is first
used, so what it makes of slices (a stack for each track) is done here.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as schema

from ringtape.coordinator.tape import NEVER, CompletionRow, TapeReader, TokenRow, iter_rows, iter_table
from ringtape.coordinator.words import kind_name
from ringtape.proto.errors import TapeDamaged
from ringtape.settings import UsageError
from ringtape.tape.perfetto import write_perfetto
from tests.coordinator.tape.making import make_header, make_run, write

HEADER = make_header()


@dataclass
class Slice:
    track: int
    name: str
    category: str
    began_ns: int
    arguments: dict[str, int]
    ended_ns: int = NEVER


@dataclass
class Read:
    """What Perfetto makes of a trace."""

    tracks: dict[int, Any] = field(default_factory=dict)  # descriptors, by uuid
    slices: list[Slice] = field(default_factory=list)
    instants: list[Slice] = field(default_factory=list)
    clocks: dict[int, int] = field(default_factory=dict)


def packets_of(path: Path) -> Iterator[Any]:
    for packet in parsed(path.read_bytes()).packet:
        if packet.HasField("compressed_packets"):
            yield from parsed(zlib.decompress(packet.compressed_packets)).packet
        else:
            yield packet


def read(path: Path) -> Read:
    """In the order of time, and of the file where times are the same, as the trace processor does it."""
    found, names = Read(), {}
    events = []
    for packet in packets_of(path):
        if packet.HasField("interned_data"):
            assert packet.sequence_flags & schema.TracePacket.SEQ_INCREMENTAL_STATE_CLEARED
            for of, entries in packet.interned_data.ListFields():
                names[of.name] = {entry.iid: entry.name for entry in entries}
        elif packet.HasField("track_descriptor"):
            track = packet.track_descriptor
            assert track.uuid not in found.tracks
            assert not track.parent_uuid or track.parent_uuid in found.tracks
            found.tracks[track.uuid] = track
        elif packet.HasField("clock_snapshot"):
            found.clocks = {clock.clock_id: clock.timestamp for clock in packet.clock_snapshot.clocks}
        else:
            assert packet.trusted_packet_sequence_id == 1
            assert packet.sequence_flags == schema.TracePacket.SEQ_NEEDS_INCREMENTAL_STATE
            assert packet.HasField("timestamp")
            events.append(packet)
    stacks: dict[int, list[Slice]] = defaultdict(list)
    for packet in sorted(events, key=lambda packet: packet.timestamp):
        event, at_ns = packet.track_event, packet.timestamp
        assert event.track_uuid in found.tracks
        if event.type == schema.TrackEvent.TYPE_SLICE_END:
            stacks[event.track_uuid].pop().ended_ns = at_ns
            continue
        arguments = {
            names["debug_annotation_names"][one.name_iid]: getattr(one, one.WhichOneof("value"))
            for one in event.debug_annotations
        }
        category = names["event_categories"][event.category_iids[0]]
        name = names["event_names"][event.name_iid]
        made = Slice(event.track_uuid, name, category, at_ns, arguments)
        if event.type == schema.TrackEvent.TYPE_INSTANT:
            found.instants.append(made)
        else:
            assert not stacks[event.track_uuid], "requests that overlap are on one track"
            stacks[event.track_uuid].append(made)
            found.slices.append(made)
    return found


def parsed(text: bytes) -> Any:
    """A trace without a field that the schema does not have: such a field is kept, and makes it longer."""
    trace = schema.Trace.FromString(text)
    size = trace.ByteSize()
    trace.DiscardUnknownFields()
    assert trace.ByteSize() == size
    return trace


def check(path: Path, trace: Path) -> Read:
    """The trace has what the tape has, and nothing else."""
    found = read(trace)
    with TapeReader.open(path) as reader:
        disks = [disk.name for disk in reader.header.disks]
        rows = [row for table in iter_table(reader) for row in table]
        tokens = [row for row in iter_rows(reader) if isinstance(row, TokenRow)]
    by_id = {one.arguments["id"]: one for one in found.slices if one.category == "request"}
    assert sorted(by_id) == sorted(int(row["id"]) for row in rows)
    assert sum(one.category == "request" for one in found.slices) == len(rows)
    held = {(one.track, one.began_ns): one for one in found.slices if one.category == "held"}
    for row in rows:
        one = by_id[int(row["id"])]
        track = found.tracks[one.track]
        assert track.name == disks[row["disk"]]
        assert found.tracks[track.parent_uuid].name == f"worker {row['worker']}"
        assert one.name == kind_name(int(row["kind"]))
        assert (one.began_ns, one.ended_ns) == (row["submitted_ns"], row["completed_ns"])
        expected = {
            "id": row["id"],
            "offset": row["offset"],
            "length": row["length"],
            "result": row["result"],
        }
        expected |= {"made_after_checkpoint": row["checkpoint"], "released_at_checkpoint": row["released_at"]}
        assert one.arguments == {name: int(value) for name, value in expected.items()}
        if row["released_at"] and row["released_ns"] > row["completed_ns"]:
            assert held.pop((one.track, one.ended_ns)).ended_ns == row["released_ns"]
    assert not held
    made = [
        (found.tracks[found.tracks[one.track].parent_uuid].name, one.began_ns, one.arguments)
        for one in found.instants
    ]
    assert sorted(made, key=str) == sorted(
        (
            (f"worker {row.worker}", row.at_ns, {"number": row.checkpoint, "released": len(row.ids)})
            for row in tokens
        ),
        key=str,
    )
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("traces")


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**32), flush_every=st.sampled_from((0, 1, 7)))
def test_a_trace_has_every_request_and_checkpoint(folder: Path, seed: int, flush_every: int) -> None:
    write(folder / "t", HEADER, make_run(seed, steps=80), flush_every=flush_every)
    write_perfetto(folder / "t", folder / "trace")
    check(folder / "t", folder / "trace")


def test_requests_take_no_more_tracks_than_overlap(folder: Path) -> None:
    """Of a long run; what was freed is used again."""
    calls = make_run(5, workers=1, disks=1, steps=1000)
    header = make_header(workers=1, disks=1)
    write(folder / "long", header, calls, flush_every=20)
    write_perfetto(folder / "long", folder / "trace")
    found = check(folder / "long", folder / "trace")
    with TapeReader.open(folder / "long") as reader:
        flying = most = 0
        for row in iter_rows(reader):
            if isinstance(row, TokenRow):
                flying -= len(row.ids)
            elif not isinstance(row, CompletionRow) and hasattr(row, "length"):
                flying += 1
            most = max(most, flying)
    assert len([track for track in found.tracks.values() if track.name == "disk0"]) == most


def test_the_time_of_day_is_in_the_trace(folder: Path) -> None:
    header = make_header()
    header.started_at_ns = 1_700_000_000_000_000_000
    write(folder / "t", header, make_run(1))
    write_perfetto(folder / "t", folder / "trace")
    assert read(folder / "trace").clocks == {
        schema.BUILTIN_CLOCK_BOOTTIME: 0,
        schema.BUILTIN_CLOCK_REALTIME: 1_700_000_000_000_000_000,
    }


def test_a_damaged_tape_gives_a_trace_of_what_is_whole(folder: Path) -> None:
    size = write(folder / "whole", HEADER, make_run(3, steps=100), flush_every=10)
    whole = (folder / "whole").read_bytes()
    (folder / "damaged").write_bytes(
        whole[: size // 2] + bytes([whole[size // 2] ^ 1]) + whole[size // 2 + 1 :]
    )
    with pytest.raises(TapeDamaged) as caught:
        write_perfetto(folder / "damaged", folder / "trace")
    ids = {one.arguments["id"] for one in read(folder / "trace").slices if one.category == "request"}
    assert ids == set(range(1, caught.value.requests_whole + 1))  # type: ignore[attr-defined]
    assert ids


def test_another_file_is_not_replaced(folder: Path) -> None:
    write(folder / "t", HEADER, make_run(1))
    (folder / "notes").write_text("mine")
    with pytest.raises(UsageError, match="is not a trace of ringtape"):
        write_perfetto(folder / "t", folder / "notes")
    assert (folder / "notes").read_text() == "mine"
    for _ in range(2):
        write_perfetto(folder / "t", folder / "again")
    assert {path.name for path in folder.iterdir() if path.name.startswith(".")} == set()
