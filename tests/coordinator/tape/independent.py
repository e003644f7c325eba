"""A reader of tapes written from docs/tape-format.md and the field numbers in proto/*.proto alone.

It imports nothing of ringtape, and does everything one value after the other, in the plain words of the document, as
a reader in another language would begin. It is what holds the document to its word; it checks frames and sums, and
believes the rest.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xxhash
import zstandard

READ, WRITE, FSYNC = 1, 2, 5
ORDER, FULL = 1, 3  # levels of data
PIECE_BYTES = 1 << 20
REQUESTS, COMPLETIONS, TOKENS, NOTES = 1, 2, 3, 4
MODULUS = 1 << 64

Message = dict[int, list[Any]]


def frames_of(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and payload of each frame."""
    magic, version, check = struct.unpack_from("<8sII", data)
    assert magic == b"RINGTAPE" and version >= 1
    assert check == (xxhash.xxh3_64_intdigest(data[:12]) & 0xFFFFFFFF if version > 2 else 0)
    at = 16
    while at < len(data):
        magic, type_, codec, reserved, stored_bytes, raw_bytes, checksum = struct.unpack_from(
            "<4sBBHIIQ", data, at
        )
        stored = data[at + 24 : at + 24 + stored_bytes]
        assert magic == b"RTfr" and len(stored) == stored_bytes <= raw_bytes <= 64 << 20
        assert xxhash.xxh3_64_intdigest(data[at : at + 16] + stored) == checksum
        if type_ in (1, 2, 3) or (version > 1 and type_ in (4, 5)) or (version > 2 and type_ in (6, 7)):
            assert codec in (0, 1) and reserved == 0
            payload = zstandard.ZstdDecompressor().decompress(stored) if codec else stored
            assert len(payload) == raw_bytes
            yield type_, payload
        at += 24 + stored_bytes


def parsed(payload: bytes) -> Message:
    """A protobuf message: the values of each field, by its number."""
    message: Message = {}
    at = 0

    def varint() -> int:
        nonlocal at
        value, shift = 0, 0
        while True:
            byte = payload[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(payload):
        tag = varint()
        if tag & 7 == 0:
            value: Any = varint()
        elif tag & 7 == 1:
            value, at = payload[at : at + 8], at + 8
        elif tag & 7 == 2:
            length = varint()
            value, at = payload[at : at + length], at + length
        else:
            assert tag & 7 == 5
            value, at = payload[at : at + 4], at + 4
        message.setdefault(tag >> 3, []).append(value)
    return message


def one(message: Message, number: int, default: Any) -> Any:
    return message.get(number, [default])[-1]


def numbers(column: bytes, form: str) -> list[int]:
    """A plain column."""
    return [value for (value,) in struct.iter_unpack(f"<{form}", column)]


def part(data: bytes) -> tuple[bytes, bytes]:
    """What the part holds, and what is after it."""
    (word,) = struct.unpack_from("<I", data)
    stored, rest = data[4 : 4 + word // 2], data[4 + word // 2 :]
    return (zstandard.ZstdDecompressor().decompress(stored) if word % 2 else stored), rest


def stored(data: bytes, rows: int) -> list[int]:
    """A column of a packed block."""
    if not data:
        return [0] * rows
    if data[0] == 1:
        return [int.from_bytes(data[1:], "little")] * rows
    way, width, shift, rest = data[0], data[1], data[2], data[3:]
    if way == 2:
        raw, rest = part(rest)
        values = [int.from_bytes(raw[width * row : width * (row + 1)], "little") for row in range(rows)]
    elif way == 3:
        values = [0] * rows
        for byte in range(width):
            raw, rest = part(rest)
            values = [value | raw[row] << 8 * byte for row, value in enumerate(values)]
    else:
        assert way == 4
        sizes, bits = part(rest)
        stream, values, rest = int.from_bytes(bits, "little"), [], b""
        for size in sizes:
            if size == 0:
                values.append(0)
                continue
            values.append(1 << size - 1 | stream & (1 << size - 1) - 1)
            stream >>= size - 1
    assert len(values) == rows and not rest
    return [value << shift for value in values]


def signed(data: bytes, rows: int) -> list[int]:
    """2d where d >= 0, -2d - 1 where d < 0."""
    return [-(value + 1) // 2 if value % 2 else value // 2 for value in stored(data, rows)]


@dataclass
class Block:
    """What both kinds of block say: columns by name, and the runs."""

    runs: list[tuple[int, int, int, int]]  # table, worker, count, time
    columns: dict[str, list[int]] = field(default_factory=dict)
    notes: list[Message] = field(default_factory=list)


@dataclass
class Worker:
    made: int = 0
    completed: int = 0
    tokens: int = 0
    ids: dict[int, int] = field(default_factory=dict)  # by sequence number, of requests in flight
    waiting: list[int] = field(default_factory=list)  # ids, the oldest first


REQUEST_FIELDS = (
    ("kind", 1, "B"),
    ("flags", 2, "B"),
    ("disk", 3, "H"),
    ("offset", 4, "Q"),
    ("length", 5, "Q"),
)


def plain_block(payload: bytes) -> Block:
    message = parsed(payload)
    runs = zip(
        *(
            numbers(one(message, number, b""), form)
            for number, form in ((3, "B"), (4, "H"), (5, "I"), (6, "Q"))
        ),
        strict=True,
    )
    block = Block(list(runs))
    requests, completions, tokens = (parsed(one(message, number, b"")) for number in (7, 8, 9))
    for name, number, form in (
        *REQUEST_FIELDS,
        ("request_digest", 6, "Q"),
        ("covers", 7, "Q"),
        ("wrote", 8, "Q"),
    ):
        block.columns[name] = numbers(one(requests, number, b""), form)
    for name, number, form in (
        ("sequence", 1, "Q"),
        ("result", 2, "q"),
        ("completion_digest", 3, "Q"),
        ("returned", 4, "Q"),
    ):
        block.columns[name] = numbers(one(completions, number, b""), form)
    for name, number, form in (
        ("clock", 1, "Q"),
        ("deadline", 2, "Q"),
        ("mode", 3, "B"),
        ("released", 4, "I"),
    ):
        block.columns[name] = numbers(one(tokens, number, b""), form)
    block.columns["order"] = numbers(one(tokens, 5, b""), "I")
    block.columns["delivered"] = numbers(one(tokens, 6, b""), "I") or [0] * len(block.columns["mode"])
    block.notes = [parsed(note) for note in message.get(10, [])]
    return block


def packed_block(payload: bytes, digests: bool) -> Block:
    message = parsed(payload)
    count = one(message, 3, 0)
    table, worker, rows = (stored(one(message, number, b""), count) for number in (4, 5, 6))
    rows = [value + 1 for value in rows]
    steps = {
        number: iter(signed(one(message, 7 + number, b""), table.count(number)))
        for number in (REQUESTS, COMPLETIONS, TOKENS, NOTES)
    }
    at_ns, times = one(message, 7, 0), []
    for of_table in table:
        at_ns = (at_ns + next(steps[of_table])) % MODULUS
        times.append(at_ns)
    block = Block(list(zip(table, worker, rows, times, strict=True)))
    workers = sorted(set(worker))
    before = {
        number: dict(zip(workers, stored(one(message, number, b""), len(workers)), strict=True))
        for number in (12, 13)
    }
    unpack_requests(block, parsed(one(message, 15, b"")), before[12], digests)
    unpack_completions(block, parsed(one(message, 16, b"")), before, digests)
    unpack_tokens(block, parsed(one(message, 17, b"")))
    if 19 in message:
        raw, rest = part(one(message, 19, b""))
        assert len(raw) == one(message, 18, 0) and not rest
        block.notes = [parsed(note) for note in parsed(raw).get(1, [])]
    return block


def rows_of(block: Block, table: int) -> list[tuple[int, int]]:
    """Worker and time of each row of the table."""
    return [
        (worker, at_ns)
        for of_table, worker, count, at_ns in block.runs
        if of_table == table
        for _ in range(count)
    ]


def unpack_requests(block: Block, message: Message, made: dict[int, int], digests: bool) -> None:
    rows = rows_of(block, REQUESTS)
    columns = block.columns
    for name, number in (("kind", 1), ("flags", 2), ("disk", 3), ("offset", 5), ("length", 6)):
        columns[name] = stored(one(message, number, b""), len(rows))
    columns["request_digest"] = stored(one(message, 7, b""), len(rows)) if digests else []
    way = one(message, 4, 0)
    assert way in (0, 1, 2)
    if way:
        columns["offset"] = []
        ends: dict[tuple[int, ...], int] = {}
        for row, difference in enumerate(signed(one(message, 5, b""), len(rows))):
            stream = (rows[row][0], columns["disk"][row], columns["kind"][row])[: 2 if way == 1 else 3]
            offset = (ends.get(stream, 0) + difference) % MODULUS
            columns["offset"].append(offset)
            ends[stream] = offset + columns["length"][row]
    sequence, fsyncs = dict(made), []
    for row, (worker, _) in enumerate(rows):
        if columns["kind"][row] == FSYNC:
            fsyncs.append(sequence[worker])
        sequence[worker] += 1
    less = stored(one(message, 8, b""), len(fsyncs))
    columns["covers"] = [number - value for number, value in zip(fsyncs, less, strict=True)]
    columns["wrote"] = steps_of(one(message, 9, b""), [kind == WRITE for kind in columns["kind"]])


def unpack_completions(
    block: Block, message: Message, before: dict[int, dict[int, int]], digests: bool
) -> None:
    columns = block.columns
    lengths: dict[tuple[int, int], int] = {}
    sequence = dict(before[12])
    for row, (worker, _) in enumerate(rows_of(block, REQUESTS)):
        moves = columns["kind"][row] in (READ, WRITE)
        lengths[worker, sequence[worker]] = columns["length"][row] if moves else 0
        sequence[worker] += 1
    rows = rows_of(block, COMPLETIONS)
    completed = dict(before[13])
    columns["sequence"], columns["result"] = [], []
    for row, difference in enumerate(signed(one(message, 1, b""), len(rows))):
        worker = rows[row][0]
        columns["sequence"].append((completed[worker] + difference) % MODULUS)
        completed[worker] += 1
    for row, difference in enumerate(signed(one(message, 2, b""), len(rows))):
        result = (difference + lengths.get((rows[row][0], columns["sequence"][row]), 0)) % MODULUS
        columns["result"].append(result - MODULUS if result >> 63 else result)
    columns["completion_digest"] = stored(one(message, 3, b""), len(rows)) if digests else []
    has = stored(one(message, 4, b""), len(rows))
    columns["returned"] = steps_of(one(message, 5, b""), [value != 0 for value in has])


def steps_of(data: bytes, has: list[bool]) -> list[int]:
    """Numbers of contents where there are some, as differences to the one before; 0 elsewhere."""
    steps = iter(signed(data, sum(has)))
    number, column = 0, []
    for here in has:
        number = (number + next(steps)) % MODULUS if here else number
        column.append(number if here else 0)
    return column


def unpack_tokens(block: Block, message: Message) -> None:
    columns = block.columns
    rows = rows_of(block, TOKENS)
    clock = [
        (at_ns + difference) % MODULUS
        for (_, at_ns), difference in zip(rows, signed(one(message, 1, b""), len(rows)), strict=True)
    ]
    columns["clock"], columns["mode"] = clock, stored(one(message, 2, b""), len(rows))
    since: dict[int, int] = {}
    expected = []
    for table, worker, count, _ in block.runs:
        if table == COMPLETIONS:
            since[worker] = since.get(worker, 0) + count
        elif table == TOKENS:
            expected += [since.pop(worker, 0)] + [0] * (count - 1)
    columns["released"] = [
        a + b for a, b in zip(expected, signed(one(message, 3, b""), len(rows)), strict=True)
    ]
    has = stored(one(message, 4, b""), len(rows))
    deadlines = iter(signed(one(message, 5, b""), sum(1 for value in has if value)))
    columns["deadline"] = [
        (clock[row] + next(deadlines)) % MODULUS if value else 0 for row, value in enumerate(has)
    ]
    order = one(message, 6, b"")
    columns["order"] = numbers(part(order)[0], "I") if order else []
    columns["delivered"] = stored(one(message, 7, b""), len(rows))


Row = tuple[Any, ...]


class Tape:
    """A whole tape: its rows in the order in which they happened, and how it ends.

    `data` has what requests wrote and completions returned, by row and id; `undos` what ranges of disks held.
    """

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        (self.version,) = struct.unpack_from("<I", data, 8)
        self.rows: list[Row] = []
        self.seal: Message | None = None
        self.requests = self.tokens = 0
        frames = frames_of(data)
        type_, payload = next(frames)
        assert type_ == 1
        self.header = parsed(payload)
        self.digests = one(self.header, 12, 0) != ORDER
        self.keeps_data = one(self.header, 12, 0) == FULL
        self.contents: list[bytes] = []
        self.data: dict[tuple[str, int], bytes] = {}
        self.undos: list[tuple[int, int, bytes]] = []
        name = xxhash.xxh3_64_intdigest(payload)
        self.workers = [Worker() for _ in range(one(self.header, 11, 0))]
        for type_, payload in frames:
            if type_ == 2:
                self._follow(plain_block(payload))
            elif type_ == 4:
                self._follow(packed_block(payload, self.digests))
            elif type_ == 3:
                self.seal = parsed(payload)
            elif type_ == 6:
                self._keep(parsed(payload))
            elif type_ == 7:
                undo = parsed(payload)
                assert struct.unpack("<Q", one(undo, 5, bytes(8))) == (name,)
                self.undos.append((one(undo, 1, 0), one(undo, 2, 0), one(undo, 3, b"")))
                assert one(undo, 4, 0) == len(self.undos)

    def _keep(self, message: Message) -> None:
        assert one(message, 1, 0) == len(self.contents) + 1
        data, at = one(message, 3, b""), 0
        for length in numbers(one(message, 2, b""), "I"):
            assert 1 <= length <= PIECE_BYTES
            self.contents.append(data[at : at + length])
            at += length
        assert at == len(data)

    def _data(self, row: tuple[str, int], number: int, length: int, digest: int | None) -> None:
        """What the row refers to, held against its length and digest."""
        if not number:
            return
        found = self.contents[number - 1]
        if length > PIECE_BYTES:
            found = b"".join(self.contents[piece - 1] for piece in numbers(found, "Q"))
        assert len(found) == length and xxhash.xxh3_64_intdigest(found) == digest
        self.data[row] = found

    def _follow(self, block: Block) -> None:
        columns = {name: iter(values) for name, values in block.columns.items()}
        notes = iter(block.notes)
        for table, number, count, at_ns in block.runs:
            worker = self.workers[number]
            for _ in range(count):
                if table == REQUESTS:
                    self._request(worker, number, columns, at_ns)
                elif table == COMPLETIONS:
                    sequence, result = next(columns["sequence"]), next(columns["result"])
                    digest = next(columns["completion_digest"]) if self.digests else None
                    id_ = worker.ids.pop(sequence)
                    if self.keeps_data:
                        self._data(("completion", id_), next(columns["returned"]), result, digest)
                    worker.waiting.append(id_)
                    worker.completed += 1
                    self.rows.append(("completion", id_, number, sequence, result, digest, at_ns))
                elif table == TOKENS:
                    self._token(worker, number, columns, bool(block.columns["order"]), at_ns)
                else:
                    self.rows.append(("note", number, worker.tokens, next(notes), at_ns))

    def _request(self, worker: Worker, number: int, columns: dict[str, Iterator[int]], at_ns: int) -> None:
        self.requests += 1
        kind, flags, disk, offset, length = (next(columns[name]) for name, *_ in REQUEST_FIELDS)
        digest = next(columns["request_digest"]) if self.digests else None
        covers = next(columns["covers"]) if kind == FSYNC else None
        if self.keeps_data:
            self._data(("request", self.requests), next(columns["wrote"]), length, digest)
        worker.ids[worker.made] = self.requests
        self.rows.append(
            (
                *("request", self.requests, number, worker.made, worker.tokens),
                *(kind, flags, disk, offset, length, digest, covers, at_ns),
            )
        )
        worker.made += 1

    def _token(
        self, worker: Worker, number: int, columns: dict[str, Iterator[int]], ordered: bool, at_ns: int
    ) -> None:
        self.tokens += 1
        worker.tokens += 1
        names = ("clock", "deadline", "mode", "released", "delivered")
        clock, deadline, mode, count, delivered = (next(columns[name]) for name in names)
        released = tuple(worker.waiting.pop(next(columns["order"]) if ordered else 0) for _ in range(count))
        when = (mode, clock, deadline)
        self.rows.append(("token", self.tokens, number, worker.tokens, *when, released, delivered, at_ns))

    def digest(self) -> str:
        """Of the run."""
        whole = xxhash.xxh3_128(struct.pack("<Q", len(self.workers)))
        for number in range(len(self.workers)):
            whole.update(self._digest_of(number))
        return whole.hexdigest()

    def _digest_of(self, number: int) -> bytes:
        streams = [xxhash.xxh3_128() for _ in range(12)]
        messages = None
        requests = tokens = notes = released_count = 0
        results: dict[int, tuple[int, int, int | None]] = {}
        for row in (row for row in self.rows if row[2 if row[0] != "note" else 1] == number):
            if row[0] == "request":
                requests += 1
                values = (*row[5:11], row[1])
                for stream, form, value in zip(streams, "BBHQQQQ", values, strict=False):
                    stream.update(b"" if value is None else struct.pack(f"<{form}", value))
            elif row[0] == "completion":
                results[row[1]] = row[3:6]
            elif row[0] == "token":
                tokens += 1
                for id_ in row[7]:
                    released_count += 1
                    sequence, result, digest = results.pop(id_)
                    streams[7].update(struct.pack("<Q", sequence))
                    streams[8].update(struct.pack("<q", result))
                    streams[9].update(b"" if digest is None else struct.pack("<Q", digest))
                streams[10].update(struct.pack("<5Q", row[3], row[5], requests, notes, len(row[7])))
                if row[8]:
                    messages = messages or xxhash.xxh3_128()
                    messages.update(struct.pack("<2Q", row[3], row[8]))
            else:
                notes += 1
                streams[11].update(note_bytes(row[3], requests))
        counts = struct.pack("<4Q", requests, tokens, notes, released_count)
        return counts + b"".join(stream.digest() for stream in (*streams, messages) if stream is not None)


def note_bytes(note: Message, requests: int) -> bytes:
    """As the digest of a run takes it in."""
    if 2 in note:
        letter, values = b"l", [note[2][-1]]
    elif 3 in note:
        captured = parsed(note[3][-1])
        letter, values = b"c", [one(captured, 1, b""), one(captured, 2, b""), bytes((one(captured, 3, 0),))]
    elif 5 in note:
        sent = parsed(note[5][-1])
        numbers_sent = (struct.pack("<Q", one(sent, number, 0)) for number in (1, 2))
        letter, values = b"s", [*numbers_sent, one(sent, 3, b"")]
    elif 6 in note:
        letter, values = b"b", [note[6][-1]]
    else:
        outcome = parsed(note[4][-1])
        raised = bytes((one(outcome, 3, 0),))
        letter, values = b"o", [one(outcome, 1, b""), one(outcome, 4, b""), one(outcome, 5, b""), raised]
    return (
        letter
        + struct.pack("<Q", requests)
        + b"".join(struct.pack("<Q", len(value)) + value for value in values)
    )
