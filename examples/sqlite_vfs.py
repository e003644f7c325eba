"""SQLite on recorded disks: the database on the disk "db", its rollback journal on the disk "journal".

SQLite does all that it asks of its surroundings through a VFS: files, locks, time, random numbers. `DiskVFS` is one
that has nothing but `io`, by way of apsw, which lets a VFS be written in Python. So whatever SQLite does is on the
tape, and a replay takes it through the very same steps: each page read, each sync, each attempt that found the database
locked.

Two connections insert, update, delete, scan and vacuum in turns that are drawn by lot. When one is in the other's way
SQLite says that the database is busy, and the program does what programs do: it tries again, or rolls back and begins
anew. In the end the power fails in the middle of a large transaction: what was only in memory is gone, and part of
what was not committed is on the disk "db". SQLite opens the database from what the two disks hold, takes the
transaction back by the journal, and checks all of it.

    python examples/sqlite_vfs.py

    ringtape record examples/sqlite_vfs.py --disk db=db.img,size=16M,fresh --disk journal=j.img,size=16M,fresh
    ringtape replay run.tape

It needs apsw, which brings its own SQLite: python -m pip install apsw

This is a blocking program: SQLite calls the VFS, and the VFS has the answer when the disk has it.
"""

# ruff: noqa: N802  (the names of a VFS's methods are SQLite's)
from __future__ import annotations

import hashlib
import struct
import tempfile
from collections.abc import Callable, Generator, Iterator
from typing import Any, cast

import ringtape
from ringtape import BlockingDisk, BlockingWorker, Disk

try:
    import apsw
except ModuleNotFoundError:
    raise SystemExit("this example needs apsw: python -m pip install apsw") from None

BLOCK_BYTES = 4096  # a multiple of every usual block size, and a page of SQLite's
FILE_BYTES_MIN = 1 << 20  # what the work below needs of either disk, with room to spare
CHANGED_BLOCKS_MAX = 64  # in memory
TRANSACTIONS = 16  # of each connection
DATABASE, JOURNAL = "entries.db", "entries.db-journal"

Steps = Iterator[None]  # work that the other connection may interrupt at each step


class DiskFile:
    """A file on a worker's part of a disk: the first block says how long it is, the others hold it.

    Like an operating system it keeps changed blocks in memory, until they are many or `sync` wants them on the disk. So
    SQLite may write a few bytes here and there, and the disk gets whole blocks, many at a time.
    """

    HEAD = struct.Struct("<8s?7xQ")  # magic, whether the file exists, its length
    MAGIC = b"ringfile"

    def __init__(self, disk: BlockingDisk, io: BlockingWorker) -> None:
        blocks = disk.size // io.worker_count // BLOCK_BYTES
        self.capacity = (blocks - 1) * BLOCK_BYTES
        if self.capacity < FILE_BYTES_MIN:
            needed = (FILE_BYTES_MIN + BLOCK_BYTES) * io.worker_count
            raise ValueError(f"the {disk.name} disk needs {needed} bytes")
        self.length: int
        self.locks: dict[OpenFile, int] = {}
        self._disk = disk
        self._start = io.index * blocks * BLOCK_BYTES
        self._changed: dict[int, bytearray] = {}
        head = disk.read(self._start, BLOCK_BYTES)
        magic, self.exists, self.length = self.HEAD.unpack_from(head)
        self._head_changed = magic != self.MAGIC
        if self._head_changed:
            self.exists, self.length = False, 0

    def create(self) -> None:
        if not self.exists:
            self.exists = self._head_changed = True

    def delete(self, *, durable: bool) -> None:
        """A block is written as a whole or not at all: with it a transaction has happened."""
        self.exists, self.length = False, 0
        self._changed.clear()
        self._write_head(durable=durable)

    def unplug(self) -> None:
        """From here on nothing reaches the disk."""
        self._disk = cast(BlockingDisk, Unplugged())

    def read(self, offset: int, length: int) -> bytes:
        """What there is of it: less at the end of the file."""
        end = min(offset + length, self.length)
        first, last = offset // BLOCK_BYTES, -(-end // BLOCK_BYTES)
        blocks = [self._changed.get(block, b"") for block in range(first, last)]
        missing = [place for place, block in enumerate(blocks) if not block]
        if missing:
            start, stop = missing[0], missing[-1] + 1
            data = self._disk.read(self._place(first + start), (stop - start) * BLOCK_BYTES)
            for place in missing:
                blocks[place] = data[(place - start) * BLOCK_BYTES :][:BLOCK_BYTES]
        return b"".join(blocks)[offset - first * BLOCK_BYTES : end - first * BLOCK_BYTES]

    def write(self, offset: int, data: bytes | memoryview) -> None:
        if offset + len(data) > self.capacity:
            raise apsw.FullError(f"the {self._disk.name} disk is full")
        if offset > self.length:  # what lies between is zeros, whatever the disk holds there
            self.write(self.length, bytes(offset - self.length))
        rest, at = memoryview(data), offset
        while rest:
            block, inside = divmod(at, BLOCK_BYTES)
            piece = rest[: BLOCK_BYTES - inside]
            self._to_change(block, whole=len(piece) == BLOCK_BYTES)[inside : inside + len(piece)] = piece
            rest, at = rest[len(piece) :], at + len(piece)
        if at > self.length:
            self.length, self._head_changed = at, True
        if len(self._changed) > CHANGED_BLOCKS_MAX:
            self._write_changed()

    def truncate(self, length: int) -> None:
        if length > self.length:
            self.write(length, b"")
        kept = -(-length // BLOCK_BYTES)
        self._changed = {block: data for block, data in self._changed.items() if block < kept}
        self.length, self._head_changed = length, True

    def sync(self, *, data_only: bool) -> None:
        """All of it is on stable storage when this returns."""
        self._write_changed()
        if self._head_changed:
            self._write_head(durable=False)
        self._disk.fsync(data_only=data_only)

    def _to_change(self, block: int, *, whole: bool) -> bytearray:
        if block not in self._changed:
            new = whole or block * BLOCK_BYTES >= self.length
            before = bytes(BLOCK_BYTES) if new else self._disk.read(self._place(block), BLOCK_BYTES)
            self._changed[block] = bytearray(before)
        return self._changed[block]

    def _write_changed(self) -> None:
        """Blocks that lie together go in one request."""
        blocks = sorted(self._changed)
        while blocks:
            count = next((i for i, block in enumerate(blocks) if block != blocks[0] + i), len(blocks))
            together, blocks = blocks[:count], blocks[count:]
            self._disk.write(self._place(together[0]), b"".join(self._changed[block] for block in together))
        self._changed.clear()

    def _write_head(self, *, durable: bool) -> None:
        head = self.HEAD.pack(self.MAGIC, self.exists, self.length).ljust(BLOCK_BYTES, b"\0")
        self._disk.write(self._start, head, fua=durable)
        self._head_changed = False

    def _place(self, block: int) -> int:
        return self._start + (1 + block) * BLOCK_BYTES


class Unplugged:
    """A disk without power, for whoever has not noticed yet."""

    def read(self, _offset: int, length: int) -> bytes:
        return bytes(length)

    def write(self, _offset: int, data: bytes, *, fua: bool = False) -> int:
        return len(data)

    def fsync(self, *, data_only: bool) -> None: ...


class OpenFile:
    """A file as one connection has it open. The names of its methods are SQLite's, and so are the locks.

    Both connections are of this worker, which is all that ever opens the file: so locks are kept in memory.
    """

    def __init__(self, file: DiskFile) -> None:
        self._file = file

    def xRead(self, amount: int, offset: int) -> bytes:
        return self._file.read(offset, amount)

    def xWrite(self, data: bytes, offset: int) -> None:
        self._file.write(offset, data)

    def xTruncate(self, newsize: int) -> None:
        self._file.truncate(newsize)

    def xSync(self, flags: int) -> None:
        self._file.sync(data_only=bool(flags & apsw.SQLITE_SYNC_DATAONLY))

    def xFileSize(self) -> int:
        return self._file.length

    def xLock(self, level: int) -> None:
        """Many may read; one of them may prepare to write; it writes when the others have gone."""
        locks = self._file.locks
        if level <= locks.get(self, apsw.SQLITE_LOCK_NONE):
            return
        highest = max((held for file, held in locks.items() if file is not self), default=0)
        if highest >= (
            apsw.SQLITE_LOCK_PENDING if level == apsw.SQLITE_LOCK_SHARED else apsw.SQLITE_LOCK_RESERVED
        ):
            raise apsw.BusyError
        if level == apsw.SQLITE_LOCK_EXCLUSIVE and highest:
            locks[self] = apsw.SQLITE_LOCK_PENDING  # lets nobody in any more
            raise apsw.BusyError
        locks[self] = level

    def xUnlock(self, level: int) -> None:
        if level == apsw.SQLITE_LOCK_NONE:
            self._file.locks.pop(self, None)
        else:
            self._file.locks[self] = level

    def xCheckReservedLock(self) -> bool:
        return any(held >= apsw.SQLITE_LOCK_RESERVED for held in self._file.locks.values())

    def xSectorSize(self) -> int:
        return BLOCK_BYTES

    def xDeviceCharacteristics(self) -> int:
        return 0  # nothing is promised that a disk might not keep

    def xFileControl(self, _op: int, _pointer: int) -> bool:
        return False

    def xClose(self) -> None:
        self._file.locks.pop(self, None)


class DiskVFS(apsw.VFS):
    """SQLite's surroundings: two files on two disks, and the time and the random numbers of the tape."""

    def __init__(self, io: BlockingWorker) -> None:
        self._io = io
        self.files: dict[str, DiskFile] = {}
        self.mount()
        # SQLite asks the default VFS for the seed of its random numbers, whatever VFS its connections use, and may
        # have done so before.
        super().__init__("ringtape", makedefault=True)
        apsw.randomness(0)

    def mount(self) -> None:
        """Know of the files what the disks hold, and nothing else; for who has one open its disk is gone."""
        for file in self.files.values():
            file.unplug()
        self.files = {
            DATABASE: DiskFile(self._io.disk("db"), self._io),
            JOURNAL: DiskFile(self._io.disk("journal"), self._io),
        }

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        filename = name.filename() if isinstance(name, apsw.URIFilename) else name
        if filename not in self.files:  # temporary files are in memory: temp_store
            raise apsw.CantOpenError(f"there is no place for {filename or 'a temporary file'}")
        self.files[filename].create()
        flags[1] = flags[0]
        return cast(apsw.VFSFile, OpenFile(self.files[filename]))

    def xDelete(self, filename: str, syncdir: bool) -> None:
        if not self.xAccess(filename, apsw.SQLITE_ACCESS_EXISTS):
            error = apsw.IOError(f"there is no file {filename}")
            error.extendedresult = apsw.SQLITE_IOERR_DELETE_NOENT  # type: ignore[attr-defined]
            raise error
        self.files[filename].delete(durable=syncdir)

    def xAccess(self, pathname: str, _flags: int) -> bool:
        return pathname in self.files and self.files[pathname].exists

    def xFullPathname(self, name: str) -> str:
        return name

    def xRandomness(self, numbytes: int) -> bytes:
        return self._io.random.randbytes(numbytes)

    def xCurrentTime(self) -> float:
        return self.xCurrentTimeInt64() / 86_400_000

    def xCurrentTimeInt64(self) -> int:
        return self._io.now_ns() // 1_000_000 + 210_866_760_000_000  # the Julian day of 1970, in milliseconds

    def xSleep(self, microseconds: int) -> int:
        self._io.sleep(microseconds / 1e6)
        return microseconds


def connect() -> apsw.Connection:
    connection = apsw.Connection(DATABASE, vfs="ringtape")
    # A cache of a few pages, so that SQLite has to read; the journal is deleted with each transaction.
    connection.execute("PRAGMA journal_mode=DELETE; PRAGMA synchronous=FULL")
    connection.execute("PRAGMA temp_store=MEMORY; PRAGMA cache_size=16")
    return connection


class Client:
    """One of the two who use the database."""

    def __init__(self, number: int, io: BlockingWorker) -> None:
        self.number = number
        self.connection = connect()
        self.done: dict[str, int] = {}  # transactions, by what they were
        self.busy = 0  # how often the other one was in the way
        self._random = io.random
        self._execute = self.connection.execute

    def work(self) -> Steps:
        acts, weights = [self._insert, self._update, self._delete, self._scan], [5, 3, 1, 2]
        for count in range(TRANSACTIONS + 1):
            [act] = self._random.choices(acts, weights) if count < TRANSACTIONS else [self._vacuum]
            while not (yield from self._try(act)):
                yield
            name = act.__name__.removeprefix("_")
            self.done[name] = self.done.get(name, 0) + 1

    def _try(self, act: Callable[[], Steps]) -> Generator[None, None, bool]:
        """Carry out a transaction, or what of it can be; was it all?"""
        try:
            yield from act()
        except apsw.BusyError:
            # To hold what we have and wait would be a deadlock: the other one may be waiting for just that.
            self.busy += 1
            if self.connection.in_transaction:
                self._execute("ROLLBACK")
            return False
        return True

    def _insert(self) -> Steps:
        self._execute("BEGIN IMMEDIATE")
        for _ in range(self._random.randint(5, 15)):
            self._execute(
                "INSERT INTO entries (client, at, body) VALUES (?, strftime('%F %H:%M:%f'), randomblob(?))",
                (self.number, self._random.randint(50, 1500)),
            )
        yield
        yield from self._commit()

    def _update(self) -> Steps:
        """Reads first and writes then: what another has begun to write meanwhile is in its way."""
        self._execute("BEGIN")
        ids = self._execute("SELECT id FROM entries ORDER BY random() LIMIT 10").fetchall()
        yield
        for (entry,) in ids:
            self._execute(
                "UPDATE entries SET client = ?, body = randomblob(length(body) * 3 / 4 + 50) WHERE id = ?",
                (self.number, entry),
            )
        yield
        yield from self._commit()

    def _delete(self) -> Steps:
        self._execute("BEGIN IMMEDIATE")
        self._execute("DELETE FROM entries WHERE id IN (SELECT id FROM entries ORDER BY random() LIMIT 10)")
        yield
        yield from self._commit()

    def _scan(self) -> Steps:
        for place, _ in enumerate(self._execute("SELECT id, body FROM entries ORDER BY at, id")):
            if place % 16 == 0:
                yield

    def _vacuum(self) -> Steps:
        self._execute("VACUUM")
        yield

    def _commit(self) -> Steps:
        """Nothing is lost by waiting here: the other one can only be reading, and comes to an end."""
        while True:
            try:
                self._execute("COMMIT")
                return
            except apsw.BusyError:
                self.busy += 1
            yield


def contents_of(connection: apsw.Connection) -> str:
    digest = hashlib.sha256()
    for row in connection.execute("SELECT id, client, at, body FROM entries ORDER BY id"):
        digest.update(repr(row).encode())
    return digest.hexdigest()


def main(io: BlockingWorker) -> dict[str, Any]:
    """Let two connections use the database, let the power fail, and see what the disks hold then."""
    io.log(f"SQLite {apsw.sqlite_lib_version()}")  # another one would do otherwise
    vfs = DiskVFS(io)
    for file in vfs.files.values():
        file.delete(durable=True)
    clients = [Client(number, io) for number in range(2)]
    one, other = (client.connection for client in clients)
    one.execute("CREATE TABLE entries (id INTEGER PRIMARY KEY, client INT, at TEXT, body BLOB)")
    one.execute("CREATE INDEX entries_by_time ON entries (at, id)")

    working = {client.number: client.work() for client in clients}
    while working:
        number = io.random.choice(list(working))
        if next(working[number], working) is working:  # there was no step left
            del working[number]
    committed = contents_of(other)

    # More pages are changed than the cache holds: SQLite writes some of them to the database before the commit, and
    # what they held, first of all, to the journal.
    one.execute("BEGIN; UPDATE entries SET body = randomblob(length(body))")
    vfs.mount()
    journal_bytes = vfs.files[JOURNAL].length
    recovered = connect()
    contents = contents_of(recovered)
    assert contents == committed, "a transaction that was not committed has left something"
    outcome = {
        "done": [client.done for client in clients],
        "busy": [client.busy for client in clients],
        "journal_bytes": journal_bytes,
        "rows": recovered.execute("SELECT count(*) FROM entries").get,
        "pages": recovered.execute("PRAGMA page_count").get,
        "contents": contents,
        "integrity": recovered.execute("PRAGMA integrity_check").get,
    }
    for connection in (one, other, recovered):
        connection.close()
    vfs.unregister()
    return outcome


def demonstrate() -> None:
    """Record the program, and replay it."""
    with tempfile.TemporaryDirectory(prefix="ringtape-") as folder:
        disks = [Disk(name, f"{folder}/{name}.img", size="16M") for name in ("db", "journal")]
        recorded = ringtape.record(main, disks=disks, seed=1, tape=f"{folder}/run.tape")
        recorded.raise_for_failures()
        [outcome] = recorded.returns
        print(f"recorded {recorded.requests} requests, digest {recorded.digest}")
        for number, done in enumerate(outcome["done"]):
            acts = ", ".join(f"{count} {name}" for name, count in sorted(done.items()))
            print(f"  connection {number}: {acts}; {outcome['busy'][number]} times the other was in the way")
        print(f"  the power failed; {outcome['journal_bytes']} bytes of journal took a transaction back")
        print(
            f"  {outcome['rows']} rows in {outcome['pages']} pages, integrity check: {outcome['integrity']}"
        )
        replayed = ringtape.replay(f"{folder}/run.tape")
        same = replayed.digest == recorded.digest and replayed.returns == recorded.returns
        print(f"replayed: {'the same' if same else 'DIFFERENT'}, digest {replayed.digest}")


if __name__ == "__main__":
    demonstrate()
