from ringtape.proto import messages_pb2 as _messages_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WorkerMessage(_message.Message):
    __slots__ = ("ready", "batch", "stack", "refusal", "before", "stopped", "touched", "data")
    READY_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    STACK_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    STOPPED_FIELD_NUMBER: _ClassVar[int]
    TOUCHED_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    ready: Ready
    batch: Batch
    stack: StackAnswer
    refusal: Refusal
    before: Before
    stopped: Stopped
    touched: Touched
    data: DataAnswer
    def __init__(self, ready: _Optional[_Union[Ready, _Mapping]] = ..., batch: _Optional[_Union[Batch, _Mapping]] = ..., stack: _Optional[_Union[StackAnswer, _Mapping]] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ..., before: _Optional[_Union[Before, _Mapping]] = ..., stopped: _Optional[_Union[Stopped, _Mapping]] = ..., touched: _Optional[_Union[Touched, _Mapping]] = ..., data: _Optional[_Union[DataAnswer, _Mapping]] = ...) -> None: ...

class Ready(_message.Message):
    __slots__ = ("ring",)
    RING_FIELD_NUMBER: _ClassVar[int]
    ring: str
    def __init__(self, ring: _Optional[str] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("reason", "text")
    class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        REASON_UNKNOWN: _ClassVar[Refusal.Reason]
        REASON_PROGRAM: _ClassVar[Refusal.Reason]
        REASON_DISK: _ClassVar[Refusal.Reason]
        REASON_RING: _ClassVar[Refusal.Reason]
        REASON_PROTOCOL: _ClassVar[Refusal.Reason]
    REASON_UNKNOWN: Refusal.Reason
    REASON_PROGRAM: Refusal.Reason
    REASON_DISK: Refusal.Reason
    REASON_RING: Refusal.Reason
    REASON_PROTOCOL: Refusal.Reason
    REASON_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    reason: Refusal.Reason
    text: str
    def __init__(self, reason: _Optional[_Union[Refusal.Reason, str]] = ..., text: _Optional[str] = ...) -> None: ...

class Before(_message.Message):
    __slots__ = ("disk", "offset", "data")
    DISK_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    disk: int
    offset: int
    data: bytes
    def __init__(self, disk: _Optional[int] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class Stopped(_message.Message):
    __slots__ = ("stopped", "quit")
    STOPPED_FIELD_NUMBER: _ClassVar[int]
    QUIT_FIELD_NUMBER: _ClassVar[int]
    stopped: bool
    quit: bool
    def __init__(self, stopped: _Optional[bool] = ..., quit: _Optional[bool] = ...) -> None: ...

class Touched(_message.Message):
    __slots__ = ("sequence", "completed", "result", "offset", "data")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    completed: bool
    result: int
    offset: int
    data: bytes
    def __init__(self, sequence: _Optional[int] = ..., completed: _Optional[bool] = ..., result: _Optional[int] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class Batch(_message.Message):
    __slots__ = ("requests", "requests_ns", "notes", "completions", "completions_ns", "checkpoint", "capture", "finish", "ids", "turns", "passed", "oldest", "contents")
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_NS_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    COMPLETIONS_FIELD_NUMBER: _ClassVar[int]
    COMPLETIONS_NS_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    CAPTURE_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    TURNS_FIELD_NUMBER: _ClassVar[int]
    PASSED_FIELD_NUMBER: _ClassVar[int]
    OLDEST_FIELD_NUMBER: _ClassVar[int]
    CONTENTS_FIELD_NUMBER: _ClassVar[int]
    requests: _messages_pb2.Requests
    requests_ns: int
    notes: _containers.RepeatedCompositeFieldContainer[_messages_pb2.Note]
    completions: _messages_pb2.Completions
    completions_ns: int
    checkpoint: Checkpoint
    capture: CaptureAsk
    finish: Finish
    ids: IdsAsk
    turns: Turns
    passed: int
    oldest: int
    contents: NewContents
    def __init__(self, requests: _Optional[_Union[_messages_pb2.Requests, _Mapping]] = ..., requests_ns: _Optional[int] = ..., notes: _Optional[_Iterable[_Union[_messages_pb2.Note, _Mapping]]] = ..., completions: _Optional[_Union[_messages_pb2.Completions, _Mapping]] = ..., completions_ns: _Optional[int] = ..., checkpoint: _Optional[_Union[Checkpoint, _Mapping]] = ..., capture: _Optional[_Union[CaptureAsk, _Mapping]] = ..., finish: _Optional[_Union[Finish, _Mapping]] = ..., ids: _Optional[_Union[IdsAsk, _Mapping]] = ..., turns: _Optional[_Union[Turns, _Mapping]] = ..., passed: _Optional[int] = ..., oldest: _Optional[int] = ..., contents: _Optional[_Union[NewContents, _Mapping]] = ...) -> None: ...

class Turns(_message.Message):
    __slots__ = ("requests", "notes", "completions", "requests_ns", "completions_ns", "clock_ns", "deadline_ns", "mode", "released", "delivered")
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    COMPLETIONS_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_NS_FIELD_NUMBER: _ClassVar[int]
    COMPLETIONS_NS_FIELD_NUMBER: _ClassVar[int]
    CLOCK_NS_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_NS_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    DELIVERED_FIELD_NUMBER: _ClassVar[int]
    requests: bytes
    notes: bytes
    completions: bytes
    requests_ns: bytes
    completions_ns: bytes
    clock_ns: bytes
    deadline_ns: bytes
    mode: bytes
    released: bytes
    delivered: bytes
    def __init__(self, requests: _Optional[bytes] = ..., notes: _Optional[bytes] = ..., completions: _Optional[bytes] = ..., requests_ns: _Optional[bytes] = ..., completions_ns: _Optional[bytes] = ..., clock_ns: _Optional[bytes] = ..., deadline_ns: _Optional[bytes] = ..., mode: _Optional[bytes] = ..., released: _Optional[bytes] = ..., delivered: _Optional[bytes] = ...) -> None: ...

class IdsAsk(_message.Message):
    __slots__ = ("first_sequence", "count")
    FIRST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    first_sequence: int
    count: int
    def __init__(self, first_sequence: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class NewContents(_message.Message):
    __slots__ = ("length", "list", "digest")
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    LIST_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    length: bytes
    list: bytes
    digest: bytes
    def __init__(self, length: _Optional[bytes] = ..., list: _Optional[bytes] = ..., digest: _Optional[bytes] = ...) -> None: ...

class Checkpoint(_message.Message):
    __slots__ = ("number", "mode", "deadline_ns")
    class Mode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        MODE_WAIT: _ClassVar[Checkpoint.Mode]
        MODE_POLL: _ClassVar[Checkpoint.Mode]
    MODE_WAIT: Checkpoint.Mode
    MODE_POLL: Checkpoint.Mode
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_NS_FIELD_NUMBER: _ClassVar[int]
    number: int
    mode: Checkpoint.Mode
    deadline_ns: int
    def __init__(self, number: _Optional[int] = ..., mode: _Optional[_Union[Checkpoint.Mode, str]] = ..., deadline_ns: _Optional[int] = ...) -> None: ...

class CaptureAsk(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class Finish(_message.Message):
    __slots__ = ("outcome", "pickled", "requests", "checkpoints")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    PICKLED_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINTS_FIELD_NUMBER: _ClassVar[int]
    outcome: _messages_pb2.Outcome
    pickled: bytes
    requests: int
    checkpoints: int
    def __init__(self, outcome: _Optional[_Union[_messages_pb2.Outcome, _Mapping]] = ..., pickled: _Optional[bytes] = ..., requests: _Optional[int] = ..., checkpoints: _Optional[int] = ...) -> None: ...

class StackAnswer(_message.Message):
    __slots__ = ("text",)
    TEXT_FIELD_NUMBER: _ClassVar[int]
    text: str
    def __init__(self, text: _Optional[str] = ...) -> None: ...

class DataAnswer(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class CoordinatorMessage(_message.Message):
    __slots__ = ("start", "token", "capture", "stack", "admission", "faults", "kept", "given", "ids", "mail", "lease", "data")
    START_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    CAPTURE_FIELD_NUMBER: _ClassVar[int]
    STACK_FIELD_NUMBER: _ClassVar[int]
    ADMISSION_FIELD_NUMBER: _ClassVar[int]
    FAULTS_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    GIVEN_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    MAIL_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    start: Start
    token: Token
    capture: CaptureAnswer
    stack: StackAsk
    admission: Admission
    faults: Faults
    kept: Kept
    given: Given
    ids: Ids
    mail: Mail
    lease: Lease
    data: DataAsk
    def __init__(self, start: _Optional[_Union[Start, _Mapping]] = ..., token: _Optional[_Union[Token, _Mapping]] = ..., capture: _Optional[_Union[CaptureAnswer, _Mapping]] = ..., stack: _Optional[_Union[StackAsk, _Mapping]] = ..., admission: _Optional[_Union[Admission, _Mapping]] = ..., faults: _Optional[_Union[Faults, _Mapping]] = ..., kept: _Optional[_Union[Kept, _Mapping]] = ..., given: _Optional[_Union[Given, _Mapping]] = ..., ids: _Optional[_Union[Ids, _Mapping]] = ..., mail: _Optional[_Union[Mail, _Mapping]] = ..., lease: _Optional[_Union[Lease, _Mapping]] = ..., data: _Optional[_Union[DataAsk, _Mapping]] = ...) -> None: ...

class Start(_message.Message):
    __slots__ = ("worker", "workers", "seed", "data", "plain", "disks", "program", "arguments", "started_at_ns", "overlap", "main_file", "offline", "disturbance", "faults", "breaks", "debugger_lock", "watched", "leased", "replay")
    WORKER_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    PLAIN_FIELD_NUMBER: _ClassVar[int]
    DISKS_FIELD_NUMBER: _ClassVar[int]
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    OVERLAP_FIELD_NUMBER: _ClassVar[int]
    MAIN_FILE_FIELD_NUMBER: _ClassVar[int]
    OFFLINE_FIELD_NUMBER: _ClassVar[int]
    DISTURBANCE_FIELD_NUMBER: _ClassVar[int]
    FAULTS_FIELD_NUMBER: _ClassVar[int]
    BREAKS_FIELD_NUMBER: _ClassVar[int]
    DEBUGGER_LOCK_FIELD_NUMBER: _ClassVar[int]
    WATCHED_FIELD_NUMBER: _ClassVar[int]
    LEASED_FIELD_NUMBER: _ClassVar[int]
    REPLAY_FIELD_NUMBER: _ClassVar[int]
    worker: int
    workers: int
    seed: int
    data: _messages_pb2.DataLevel
    plain: bool
    disks: _containers.RepeatedCompositeFieldContainer[WorkerDisk]
    program: Program
    arguments: bytes
    started_at_ns: int
    overlap: str
    main_file: str
    offline: bool
    disturbance: Disturbance
    faults: bool
    breaks: _containers.RepeatedCompositeFieldContainer[Break]
    debugger_lock: str
    watched: _containers.RepeatedCompositeFieldContainer[WatchedRange]
    leased: bool
    replay: bool
    def __init__(self, worker: _Optional[int] = ..., workers: _Optional[int] = ..., seed: _Optional[int] = ..., data: _Optional[_Union[_messages_pb2.DataLevel, str]] = ..., plain: _Optional[bool] = ..., disks: _Optional[_Iterable[_Union[WorkerDisk, _Mapping]]] = ..., program: _Optional[_Union[Program, _Mapping]] = ..., arguments: _Optional[bytes] = ..., started_at_ns: _Optional[int] = ..., overlap: _Optional[str] = ..., main_file: _Optional[str] = ..., offline: _Optional[bool] = ..., disturbance: _Optional[_Union[Disturbance, _Mapping]] = ..., faults: _Optional[bool] = ..., breaks: _Optional[_Iterable[_Union[Break, _Mapping]]] = ..., debugger_lock: _Optional[str] = ..., watched: _Optional[_Iterable[_Union[WatchedRange, _Mapping]]] = ..., leased: _Optional[bool] = ..., replay: _Optional[bool] = ...) -> None: ...

class Break(_message.Message):
    __slots__ = ("sequence", "text")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    text: str
    def __init__(self, sequence: _Optional[int] = ..., text: _Optional[str] = ...) -> None: ...

class WatchedRange(_message.Message):
    __slots__ = ("disk", "offset", "length")
    DISK_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    disk: int
    offset: int
    length: int
    def __init__(self, disk: _Optional[int] = ..., offset: _Optional[int] = ..., length: _Optional[int] = ...) -> None: ...

class Disturbance(_message.Message):
    __slots__ = ("seed", "completion_delay_ns_max", "checkpoint_delay_ns_max", "kernel_depth_max", "cpus")
    SEED_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_DELAY_NS_MAX_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_DELAY_NS_MAX_FIELD_NUMBER: _ClassVar[int]
    KERNEL_DEPTH_MAX_FIELD_NUMBER: _ClassVar[int]
    CPUS_FIELD_NUMBER: _ClassVar[int]
    seed: int
    completion_delay_ns_max: int
    checkpoint_delay_ns_max: int
    kernel_depth_max: int
    cpus: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, seed: _Optional[int] = ..., completion_delay_ns_max: _Optional[int] = ..., checkpoint_delay_ns_max: _Optional[int] = ..., kernel_depth_max: _Optional[int] = ..., cpus: _Optional[_Iterable[int]] = ...) -> None: ...

class Mail(_message.Message):
    __slots__ = ("deliveries",)
    DELIVERIES_FIELD_NUMBER: _ClassVar[int]
    deliveries: _containers.RepeatedCompositeFieldContainer[Delivery]
    def __init__(self, deliveries: _Optional[_Iterable[_Union[Delivery, _Mapping]]] = ...) -> None: ...

class Lease(_message.Message):
    __slots__ = ("checkpoint", "turns", "requests", "released", "ids")
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    TURNS_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    checkpoint: bytes
    turns: Turns
    requests: _messages_pb2.Requests
    released: _messages_pb2.Completions
    ids: _containers.RepeatedCompositeFieldContainer[IdRange]
    def __init__(self, checkpoint: _Optional[bytes] = ..., turns: _Optional[_Union[Turns, _Mapping]] = ..., requests: _Optional[_Union[_messages_pb2.Requests, _Mapping]] = ..., released: _Optional[_Union[_messages_pb2.Completions, _Mapping]] = ..., ids: _Optional[_Iterable[_Union[IdRange, _Mapping]]] = ...) -> None: ...

class Admission(_message.Message):
    __slots__ = ("sequences",)
    SEQUENCES_FIELD_NUMBER: _ClassVar[int]
    sequences: bytes
    def __init__(self, sequences: _Optional[bytes] = ...) -> None: ...

class Faults(_message.Message):
    __slots__ = ("sequence", "result", "last")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    sequence: bytes
    result: bytes
    last: bool
    def __init__(self, sequence: _Optional[bytes] = ..., result: _Optional[bytes] = ..., last: _Optional[bool] = ...) -> None: ...

class Kept(_message.Message):
    __slots__ = ("disk", "offset")
    DISK_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    disk: int
    offset: int
    def __init__(self, disk: _Optional[int] = ..., offset: _Optional[int] = ...) -> None: ...

class Given(_message.Message):
    __slots__ = ("sequence", "length", "data")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    sequence: bytes
    length: bytes
    data: bytes
    def __init__(self, sequence: _Optional[bytes] = ..., length: _Optional[bytes] = ..., data: _Optional[bytes] = ...) -> None: ...

class WorkerDisk(_message.Message):
    __slots__ = ("name", "path", "size", "block_size", "direct", "block_device", "used", "shared", "undo")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    BLOCK_SIZE_FIELD_NUMBER: _ClassVar[int]
    DIRECT_FIELD_NUMBER: _ClassVar[int]
    BLOCK_DEVICE_FIELD_NUMBER: _ClassVar[int]
    USED_FIELD_NUMBER: _ClassVar[int]
    SHARED_FIELD_NUMBER: _ClassVar[int]
    UNDO_FIELD_NUMBER: _ClassVar[int]
    name: str
    path: str
    size: int
    block_size: int
    direct: bool
    block_device: bool
    used: bool
    shared: bool
    undo: bool
    def __init__(self, name: _Optional[str] = ..., path: _Optional[str] = ..., size: _Optional[int] = ..., block_size: _Optional[int] = ..., direct: _Optional[bool] = ..., block_device: _Optional[bool] = ..., used: _Optional[bool] = ..., shared: _Optional[bool] = ..., undo: _Optional[bool] = ...) -> None: ...

class Program(_message.Message):
    __slots__ = ("file", "module", "function", "pickled")
    FILE_FIELD_NUMBER: _ClassVar[int]
    MODULE_FIELD_NUMBER: _ClassVar[int]
    FUNCTION_FIELD_NUMBER: _ClassVar[int]
    PICKLED_FIELD_NUMBER: _ClassVar[int]
    file: str
    module: str
    function: str
    pickled: bytes
    def __init__(self, file: _Optional[str] = ..., module: _Optional[str] = ..., function: _Optional[str] = ..., pickled: _Optional[bytes] = ...) -> None: ...

class Token(_message.Message):
    __slots__ = ("number", "checkpoint", "clock_ns", "sequences", "ids", "started_ns", "deliveries", "delivered_before", "results")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    CLOCK_NS_FIELD_NUMBER: _ClassVar[int]
    SEQUENCES_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    STARTED_NS_FIELD_NUMBER: _ClassVar[int]
    DELIVERIES_FIELD_NUMBER: _ClassVar[int]
    DELIVERED_BEFORE_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    number: int
    checkpoint: int
    clock_ns: int
    sequences: bytes
    ids: _containers.RepeatedCompositeFieldContainer[IdRange]
    started_ns: int
    deliveries: _containers.RepeatedCompositeFieldContainer[Delivery]
    delivered_before: int
    results: bytes
    def __init__(self, number: _Optional[int] = ..., checkpoint: _Optional[int] = ..., clock_ns: _Optional[int] = ..., sequences: _Optional[bytes] = ..., ids: _Optional[_Iterable[_Union[IdRange, _Mapping]]] = ..., started_ns: _Optional[int] = ..., deliveries: _Optional[_Iterable[_Union[Delivery, _Mapping]]] = ..., delivered_before: _Optional[int] = ..., results: _Optional[bytes] = ...) -> None: ...

class Delivery(_message.Message):
    __slots__ = ("payload", "barrier", "sender")
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    BARRIER_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    payload: bytes
    barrier: str
    sender: int
    def __init__(self, payload: _Optional[bytes] = ..., barrier: _Optional[str] = ..., sender: _Optional[int] = ...) -> None: ...

class IdRange(_message.Message):
    __slots__ = ("first_sequence", "first_id", "count")
    FIRST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    FIRST_ID_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    first_sequence: int
    first_id: int
    count: int
    def __init__(self, first_sequence: _Optional[int] = ..., first_id: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class Ids(_message.Message):
    __slots__ = ("ranges",)
    RANGES_FIELD_NUMBER: _ClassVar[int]
    ranges: _containers.RepeatedCompositeFieldContainer[IdRange]
    def __init__(self, ranges: _Optional[_Iterable[_Union[IdRange, _Mapping]]] = ...) -> None: ...

class CaptureAnswer(_message.Message):
    __slots__ = ("call", "recorded")
    CALL_FIELD_NUMBER: _ClassVar[int]
    RECORDED_FIELD_NUMBER: _ClassVar[int]
    call: bool
    recorded: _messages_pb2.Captured
    def __init__(self, call: _Optional[bool] = ..., recorded: _Optional[_Union[_messages_pb2.Captured, _Mapping]] = ...) -> None: ...

class StackAsk(_message.Message):
    __slots__ = ("sequence",)
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    def __init__(self, sequence: _Optional[int] = ...) -> None: ...

class DataAsk(_message.Message):
    __slots__ = ("sequence", "start", "length")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    start: int
    length: int
    def __init__(self, sequence: _Optional[int] = ..., start: _Optional[int] = ..., length: _Optional[int] = ...) -> None: ...
