from ringtape.proto import messages_pb2 as _messages_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Table(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TABLE_UNKNOWN: _ClassVar[Table]
    TABLE_REQUESTS: _ClassVar[Table]
    TABLE_COMPLETIONS: _ClassVar[Table]
    TABLE_TOKENS: _ClassVar[Table]
    TABLE_NOTES: _ClassVar[Table]
TABLE_UNKNOWN: Table
TABLE_REQUESTS: Table
TABLE_COMPLETIONS: Table
TABLE_TOKENS: Table
TABLE_NOTES: Table

class Header(_message.Message):
    __slots__ = ("ringtape_version", "python_version", "kernel_version", "started_at_ns", "program", "program_file", "program_sha256", "arguments", "arguments_text", "seed", "workers", "data", "disks", "policy", "hash_seed", "overlap", "replay_of", "leased", "cut")
    RINGTAPE_VERSION_FIELD_NUMBER: _ClassVar[int]
    PYTHON_VERSION_FIELD_NUMBER: _ClassVar[int]
    KERNEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    PROGRAM_FILE_FIELD_NUMBER: _ClassVar[int]
    PROGRAM_SHA256_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_TEXT_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    DISKS_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    HASH_SEED_FIELD_NUMBER: _ClassVar[int]
    OVERLAP_FIELD_NUMBER: _ClassVar[int]
    REPLAY_OF_FIELD_NUMBER: _ClassVar[int]
    LEASED_FIELD_NUMBER: _ClassVar[int]
    CUT_FIELD_NUMBER: _ClassVar[int]
    ringtape_version: str
    python_version: str
    kernel_version: str
    started_at_ns: int
    program: str
    program_file: str
    program_sha256: bytes
    arguments: bytes
    arguments_text: str
    seed: int
    workers: int
    data: _messages_pb2.DataLevel
    disks: _containers.RepeatedCompositeFieldContainer[DiskHeader]
    policy: str
    hash_seed: str
    overlap: str
    replay_of: str
    leased: bool
    cut: Cut
    def __init__(self, ringtape_version: _Optional[str] = ..., python_version: _Optional[str] = ..., kernel_version: _Optional[str] = ..., started_at_ns: _Optional[int] = ..., program: _Optional[str] = ..., program_file: _Optional[str] = ..., program_sha256: _Optional[bytes] = ..., arguments: _Optional[bytes] = ..., arguments_text: _Optional[str] = ..., seed: _Optional[int] = ..., workers: _Optional[int] = ..., data: _Optional[_Union[_messages_pb2.DataLevel, str]] = ..., disks: _Optional[_Iterable[_Union[DiskHeader, _Mapping]]] = ..., policy: _Optional[str] = ..., hash_seed: _Optional[str] = ..., overlap: _Optional[str] = ..., replay_of: _Optional[str] = ..., leased: _Optional[bool] = ..., cut: _Optional[_Union[Cut, _Mapping]] = ...) -> None: ...

class Cut(_message.Message):
    __slots__ = ("of", "first_id")
    OF_FIELD_NUMBER: _ClassVar[int]
    FIRST_ID_FIELD_NUMBER: _ClassVar[int]
    of: str
    first_id: int
    def __init__(self, of: _Optional[str] = ..., first_id: _Optional[int] = ...) -> None: ...

class DiskHeader(_message.Message):
    __slots__ = ("name", "path", "size", "block_size", "direct", "block_device", "fresh", "made", "inode", "initial", "workers", "snapshot", "undo")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    BLOCK_SIZE_FIELD_NUMBER: _ClassVar[int]
    DIRECT_FIELD_NUMBER: _ClassVar[int]
    BLOCK_DEVICE_FIELD_NUMBER: _ClassVar[int]
    FRESH_FIELD_NUMBER: _ClassVar[int]
    MADE_FIELD_NUMBER: _ClassVar[int]
    INODE_FIELD_NUMBER: _ClassVar[int]
    INITIAL_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    UNDO_FIELD_NUMBER: _ClassVar[int]
    name: str
    path: str
    size: int
    block_size: int
    direct: bool
    block_device: bool
    fresh: bool
    made: bool
    inode: int
    initial: Fingerprint
    workers: _containers.RepeatedScalarFieldContainer[int]
    snapshot: str
    undo: bool
    def __init__(self, name: _Optional[str] = ..., path: _Optional[str] = ..., size: _Optional[int] = ..., block_size: _Optional[int] = ..., direct: _Optional[bool] = ..., block_device: _Optional[bool] = ..., fresh: _Optional[bool] = ..., made: _Optional[bool] = ..., inode: _Optional[int] = ..., initial: _Optional[_Union[Fingerprint, _Mapping]] = ..., workers: _Optional[_Iterable[int]] = ..., snapshot: _Optional[str] = ..., undo: _Optional[bool] = ...) -> None: ...

class Fingerprint(_message.Message):
    __slots__ = ("method", "digest", "bytes_read")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    BYTES_READ_FIELD_NUMBER: _ClassVar[int]
    method: str
    digest: bytes
    bytes_read: int
    def __init__(self, method: _Optional[str] = ..., digest: _Optional[bytes] = ..., bytes_read: _Optional[int] = ...) -> None: ...

class Block(_message.Message):
    __slots__ = ("first_id", "first_token", "run_table", "run_worker", "run_count", "run_ns", "requests", "completions", "tokens", "notes")
    FIRST_ID_FIELD_NUMBER: _ClassVar[int]
    FIRST_TOKEN_FIELD_NUMBER: _ClassVar[int]
    RUN_TABLE_FIELD_NUMBER: _ClassVar[int]
    RUN_WORKER_FIELD_NUMBER: _ClassVar[int]
    RUN_COUNT_FIELD_NUMBER: _ClassVar[int]
    RUN_NS_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    COMPLETIONS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    first_id: int
    first_token: int
    run_table: bytes
    run_worker: bytes
    run_count: bytes
    run_ns: bytes
    requests: _messages_pb2.Requests
    completions: _messages_pb2.Completions
    tokens: Tokens
    notes: _containers.RepeatedCompositeFieldContainer[_messages_pb2.Note]
    def __init__(self, first_id: _Optional[int] = ..., first_token: _Optional[int] = ..., run_table: _Optional[bytes] = ..., run_worker: _Optional[bytes] = ..., run_count: _Optional[bytes] = ..., run_ns: _Optional[bytes] = ..., requests: _Optional[_Union[_messages_pb2.Requests, _Mapping]] = ..., completions: _Optional[_Union[_messages_pb2.Completions, _Mapping]] = ..., tokens: _Optional[_Union[Tokens, _Mapping]] = ..., notes: _Optional[_Iterable[_Union[_messages_pb2.Note, _Mapping]]] = ...) -> None: ...

class Tokens(_message.Message):
    __slots__ = ("clock_ns", "deadline_ns", "mode", "released", "order", "delivered")
    CLOCK_NS_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_NS_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    DELIVERED_FIELD_NUMBER: _ClassVar[int]
    clock_ns: bytes
    deadline_ns: bytes
    mode: bytes
    released: bytes
    order: bytes
    delivered: bytes
    def __init__(self, clock_ns: _Optional[bytes] = ..., deadline_ns: _Optional[bytes] = ..., mode: _Optional[bytes] = ..., released: _Optional[bytes] = ..., order: _Optional[bytes] = ..., delivered: _Optional[bytes] = ...) -> None: ...

class Contents(_message.Message):
    __slots__ = ("first", "length", "data")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    first: int
    length: bytes
    data: bytes
    def __init__(self, first: _Optional[int] = ..., length: _Optional[bytes] = ..., data: _Optional[bytes] = ...) -> None: ...

class Undo(_message.Message):
    __slots__ = ("disk", "offset", "data", "number", "tape")
    DISK_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TAPE_FIELD_NUMBER: _ClassVar[int]
    disk: int
    offset: int
    data: bytes
    number: int
    tape: int
    def __init__(self, disk: _Optional[int] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ..., number: _Optional[int] = ..., tape: _Optional[int] = ...) -> None: ...

class PackedBlock(_message.Message):
    __slots__ = ("first_id", "first_token", "runs", "run_table", "run_worker", "run_count", "start_ns", "requests_ns", "completions_ns", "tokens_ns", "notes_ns", "requests_before", "completions_before", "tokens_before", "requests", "completions", "tokens", "notes_bytes", "notes")
    FIRST_ID_FIELD_NUMBER: _ClassVar[int]
    FIRST_TOKEN_FIELD_NUMBER: _ClassVar[int]
    RUNS_FIELD_NUMBER: _ClassVar[int]
    RUN_TABLE_FIELD_NUMBER: _ClassVar[int]
    RUN_WORKER_FIELD_NUMBER: _ClassVar[int]
    RUN_COUNT_FIELD_NUMBER: _ClassVar[int]
    START_NS_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_NS_FIELD_NUMBER: _ClassVar[int]
    COMPLETIONS_NS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_NS_FIELD_NUMBER: _ClassVar[int]
    NOTES_NS_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_BEFORE_FIELD_NUMBER: _ClassVar[int]
    COMPLETIONS_BEFORE_FIELD_NUMBER: _ClassVar[int]
    TOKENS_BEFORE_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    COMPLETIONS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    NOTES_BYTES_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    first_id: int
    first_token: int
    runs: int
    run_table: bytes
    run_worker: bytes
    run_count: bytes
    start_ns: int
    requests_ns: bytes
    completions_ns: bytes
    tokens_ns: bytes
    notes_ns: bytes
    requests_before: bytes
    completions_before: bytes
    tokens_before: bytes
    requests: PackedRequests
    completions: PackedCompletions
    tokens: PackedTokens
    notes_bytes: int
    notes: bytes
    def __init__(self, first_id: _Optional[int] = ..., first_token: _Optional[int] = ..., runs: _Optional[int] = ..., run_table: _Optional[bytes] = ..., run_worker: _Optional[bytes] = ..., run_count: _Optional[bytes] = ..., start_ns: _Optional[int] = ..., requests_ns: _Optional[bytes] = ..., completions_ns: _Optional[bytes] = ..., tokens_ns: _Optional[bytes] = ..., notes_ns: _Optional[bytes] = ..., requests_before: _Optional[bytes] = ..., completions_before: _Optional[bytes] = ..., tokens_before: _Optional[bytes] = ..., requests: _Optional[_Union[PackedRequests, _Mapping]] = ..., completions: _Optional[_Union[PackedCompletions, _Mapping]] = ..., tokens: _Optional[_Union[PackedTokens, _Mapping]] = ..., notes_bytes: _Optional[int] = ..., notes: _Optional[bytes] = ...) -> None: ...

class PackedRequests(_message.Message):
    __slots__ = ("kind", "flags", "disk", "offset_from", "offset", "length", "digest", "fsync_covers", "contents")
    class OffsetFrom(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        OFFSET_FROM_ZERO: _ClassVar[PackedRequests.OffsetFrom]
        OFFSET_FROM_END: _ClassVar[PackedRequests.OffsetFrom]
        OFFSET_FROM_END_OF_KIND: _ClassVar[PackedRequests.OffsetFrom]
    OFFSET_FROM_ZERO: PackedRequests.OffsetFrom
    OFFSET_FROM_END: PackedRequests.OffsetFrom
    OFFSET_FROM_END_OF_KIND: PackedRequests.OffsetFrom
    KIND_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    DISK_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FROM_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    FSYNC_COVERS_FIELD_NUMBER: _ClassVar[int]
    CONTENTS_FIELD_NUMBER: _ClassVar[int]
    kind: bytes
    flags: bytes
    disk: bytes
    offset_from: PackedRequests.OffsetFrom
    offset: bytes
    length: bytes
    digest: bytes
    fsync_covers: bytes
    contents: bytes
    def __init__(self, kind: _Optional[bytes] = ..., flags: _Optional[bytes] = ..., disk: _Optional[bytes] = ..., offset_from: _Optional[_Union[PackedRequests.OffsetFrom, str]] = ..., offset: _Optional[bytes] = ..., length: _Optional[bytes] = ..., digest: _Optional[bytes] = ..., fsync_covers: _Optional[bytes] = ..., contents: _Optional[bytes] = ...) -> None: ...

class PackedCompletions(_message.Message):
    __slots__ = ("sequence", "result", "digest", "has_contents", "contents")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    HAS_CONTENTS_FIELD_NUMBER: _ClassVar[int]
    CONTENTS_FIELD_NUMBER: _ClassVar[int]
    sequence: bytes
    result: bytes
    digest: bytes
    has_contents: bytes
    contents: bytes
    def __init__(self, sequence: _Optional[bytes] = ..., result: _Optional[bytes] = ..., digest: _Optional[bytes] = ..., has_contents: _Optional[bytes] = ..., contents: _Optional[bytes] = ...) -> None: ...

class PackedTokens(_message.Message):
    __slots__ = ("clock_ns", "mode", "released", "has_deadline", "deadline_ns", "order", "delivered")
    CLOCK_NS_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    HAS_DEADLINE_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_NS_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    DELIVERED_FIELD_NUMBER: _ClassVar[int]
    clock_ns: bytes
    mode: bytes
    released: bytes
    has_deadline: bytes
    deadline_ns: bytes
    order: bytes
    delivered: bytes
    def __init__(self, clock_ns: _Optional[bytes] = ..., mode: _Optional[bytes] = ..., released: _Optional[bytes] = ..., has_deadline: _Optional[bytes] = ..., deadline_ns: _Optional[bytes] = ..., order: _Optional[bytes] = ..., delivered: _Optional[bytes] = ...) -> None: ...

class Notes(_message.Message):
    __slots__ = ("notes",)
    NOTES_FIELD_NUMBER: _ClassVar[int]
    notes: _containers.RepeatedCompositeFieldContainer[_messages_pb2.Note]
    def __init__(self, notes: _Optional[_Iterable[_Union[_messages_pb2.Note, _Mapping]]] = ...) -> None: ...

class Index(_message.Message):
    __slots__ = ("snapshots",)
    SNAPSHOTS_FIELD_NUMBER: _ClassVar[int]
    snapshots: _containers.RepeatedCompositeFieldContainer[Snapshot]
    def __init__(self, snapshots: _Optional[_Iterable[_Union[Snapshot, _Mapping]]] = ...) -> None: ...

class Snapshot(_message.Message):
    __slots__ = ("offset", "block", "requests", "completions", "tokens", "worker", "worker_requests", "worker_completions", "worker_tokens", "in_flight_worker", "in_flight_sequence", "in_flight_id", "waiting_worker", "waiting_id", "contents")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    COMPLETIONS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    WORKER_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    WORKER_COMPLETIONS_FIELD_NUMBER: _ClassVar[int]
    WORKER_TOKENS_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_WORKER_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_ID_FIELD_NUMBER: _ClassVar[int]
    WAITING_WORKER_FIELD_NUMBER: _ClassVar[int]
    WAITING_ID_FIELD_NUMBER: _ClassVar[int]
    CONTENTS_FIELD_NUMBER: _ClassVar[int]
    offset: int
    block: int
    requests: int
    completions: int
    tokens: int
    worker: bytes
    worker_requests: bytes
    worker_completions: bytes
    worker_tokens: bytes
    in_flight_worker: bytes
    in_flight_sequence: bytes
    in_flight_id: bytes
    waiting_worker: bytes
    waiting_id: bytes
    contents: int
    def __init__(self, offset: _Optional[int] = ..., block: _Optional[int] = ..., requests: _Optional[int] = ..., completions: _Optional[int] = ..., tokens: _Optional[int] = ..., worker: _Optional[bytes] = ..., worker_requests: _Optional[bytes] = ..., worker_completions: _Optional[bytes] = ..., worker_tokens: _Optional[bytes] = ..., in_flight_worker: _Optional[bytes] = ..., in_flight_sequence: _Optional[bytes] = ..., in_flight_id: _Optional[bytes] = ..., waiting_worker: _Optional[bytes] = ..., waiting_id: _Optional[bytes] = ..., contents: _Optional[int] = ...) -> None: ...

class Seal(_message.Message):
    __slots__ = ("end", "text", "requests", "completions", "tokens", "digest", "elapsed_ns", "made", "faults", "contents", "undos", "snapshots", "index_offset")
    class End(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        END_UNKNOWN: _ClassVar[Seal.End]
        END_FINISHED: _ClassVar[Seal.End]
        END_WORKER_DIED: _ClassVar[Seal.End]
        END_INTERRUPTED: _ClassVar[Seal.End]
        END_ERROR: _ClassVar[Seal.End]
        END_DIVERGED: _ClassVar[Seal.End]
        END_STALLED: _ClassVar[Seal.End]
        END_STOPPED: _ClassVar[Seal.End]
    END_UNKNOWN: Seal.End
    END_FINISHED: Seal.End
    END_WORKER_DIED: Seal.End
    END_INTERRUPTED: Seal.End
    END_ERROR: Seal.End
    END_DIVERGED: Seal.End
    END_STALLED: Seal.End
    END_STOPPED: Seal.End
    END_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    COMPLETIONS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    ELAPSED_NS_FIELD_NUMBER: _ClassVar[int]
    MADE_FIELD_NUMBER: _ClassVar[int]
    FAULTS_FIELD_NUMBER: _ClassVar[int]
    CONTENTS_FIELD_NUMBER: _ClassVar[int]
    UNDOS_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOTS_FIELD_NUMBER: _ClassVar[int]
    INDEX_OFFSET_FIELD_NUMBER: _ClassVar[int]
    end: Seal.End
    text: str
    requests: int
    completions: int
    tokens: int
    digest: str
    elapsed_ns: int
    made: _containers.RepeatedCompositeFieldContainer[FinalContents]
    faults: int
    contents: int
    undos: int
    snapshots: int
    index_offset: int
    def __init__(self, end: _Optional[_Union[Seal.End, str]] = ..., text: _Optional[str] = ..., requests: _Optional[int] = ..., completions: _Optional[int] = ..., tokens: _Optional[int] = ..., digest: _Optional[str] = ..., elapsed_ns: _Optional[int] = ..., made: _Optional[_Iterable[_Union[FinalContents, _Mapping]]] = ..., faults: _Optional[int] = ..., contents: _Optional[int] = ..., undos: _Optional[int] = ..., snapshots: _Optional[int] = ..., index_offset: _Optional[int] = ...) -> None: ...

class FinalContents(_message.Message):
    __slots__ = ("disk", "contents")
    DISK_FIELD_NUMBER: _ClassVar[int]
    CONTENTS_FIELD_NUMBER: _ClassVar[int]
    disk: int
    contents: Fingerprint
    def __init__(self, disk: _Optional[int] = ..., contents: _Optional[_Union[Fingerprint, _Mapping]] = ...) -> None: ...
