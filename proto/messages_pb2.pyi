from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    KIND_UNKNOWN: _ClassVar[Kind]
    KIND_READ: _ClassVar[Kind]
    KIND_WRITE: _ClassVar[Kind]
    KIND_WRITE_ZEROES: _ClassVar[Kind]
    KIND_DISCARD: _ClassVar[Kind]
    KIND_FSYNC: _ClassVar[Kind]

class RequestFlag(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REQUEST_FLAG_NONE: _ClassVar[RequestFlag]
    REQUEST_FLAG_FUA: _ClassVar[RequestFlag]
    REQUEST_FLAG_DATA_ONLY: _ClassVar[RequestFlag]

class DataLevel(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DATA_LEVEL_UNKNOWN: _ClassVar[DataLevel]
    DATA_LEVEL_ORDER: _ClassVar[DataLevel]
    DATA_LEVEL_DIGEST: _ClassVar[DataLevel]
    DATA_LEVEL_FULL: _ClassVar[DataLevel]
KIND_UNKNOWN: Kind
KIND_READ: Kind
KIND_WRITE: Kind
KIND_WRITE_ZEROES: Kind
KIND_DISCARD: Kind
KIND_FSYNC: Kind
REQUEST_FLAG_NONE: RequestFlag
REQUEST_FLAG_FUA: RequestFlag
REQUEST_FLAG_DATA_ONLY: RequestFlag
DATA_LEVEL_UNKNOWN: DataLevel
DATA_LEVEL_ORDER: DataLevel
DATA_LEVEL_DIGEST: DataLevel
DATA_LEVEL_FULL: DataLevel

class Requests(_message.Message):
    __slots__ = ("kind", "flags", "disk", "offset", "length", "digest", "fsync_covers", "contents")
    KIND_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    DISK_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    FSYNC_COVERS_FIELD_NUMBER: _ClassVar[int]
    CONTENTS_FIELD_NUMBER: _ClassVar[int]
    kind: bytes
    flags: bytes
    disk: bytes
    offset: bytes
    length: bytes
    digest: bytes
    fsync_covers: bytes
    contents: bytes
    def __init__(self, kind: _Optional[bytes] = ..., flags: _Optional[bytes] = ..., disk: _Optional[bytes] = ..., offset: _Optional[bytes] = ..., length: _Optional[bytes] = ..., digest: _Optional[bytes] = ..., fsync_covers: _Optional[bytes] = ..., contents: _Optional[bytes] = ...) -> None: ...

class Completions(_message.Message):
    __slots__ = ("sequence", "result", "digest", "contents")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    CONTENTS_FIELD_NUMBER: _ClassVar[int]
    sequence: bytes
    result: bytes
    digest: bytes
    contents: bytes
    def __init__(self, sequence: _Optional[bytes] = ..., result: _Optional[bytes] = ..., digest: _Optional[bytes] = ..., contents: _Optional[bytes] = ...) -> None: ...

class Captured(_message.Message):
    __slots__ = ("name", "pickled", "raised")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PICKLED_FIELD_NUMBER: _ClassVar[int]
    RAISED_FIELD_NUMBER: _ClassVar[int]
    name: str
    pickled: bytes
    raised: bool
    def __init__(self, name: _Optional[str] = ..., pickled: _Optional[bytes] = ..., raised: _Optional[bool] = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("digest", "pickled_bytes", "raised", "exception", "text", "traceback", "summary", "refused", "where", "stalled")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    PICKLED_BYTES_FIELD_NUMBER: _ClassVar[int]
    RAISED_FIELD_NUMBER: _ClassVar[int]
    EXCEPTION_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TRACEBACK_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    WHERE_FIELD_NUMBER: _ClassVar[int]
    STALLED_FIELD_NUMBER: _ClassVar[int]
    digest: bytes
    pickled_bytes: int
    raised: bool
    exception: str
    text: str
    traceback: str
    summary: str
    refused: bool
    where: str
    stalled: bool
    def __init__(self, digest: _Optional[bytes] = ..., pickled_bytes: _Optional[int] = ..., raised: _Optional[bool] = ..., exception: _Optional[str] = ..., text: _Optional[str] = ..., traceback: _Optional[str] = ..., summary: _Optional[str] = ..., refused: _Optional[bool] = ..., where: _Optional[str] = ..., stalled: _Optional[bool] = ...) -> None: ...

class Sent(_message.Message):
    __slots__ = ("to", "size", "digest", "payload")
    TO_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    to: int
    size: int
    digest: bytes
    payload: bytes
    def __init__(self, to: _Optional[int] = ..., size: _Optional[int] = ..., digest: _Optional[bytes] = ..., payload: _Optional[bytes] = ...) -> None: ...

class Note(_message.Message):
    __slots__ = ("after_requests", "log", "captured", "outcome", "sent", "barrier")
    AFTER_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    SENT_FIELD_NUMBER: _ClassVar[int]
    BARRIER_FIELD_NUMBER: _ClassVar[int]
    after_requests: int
    log: str
    captured: Captured
    outcome: Outcome
    sent: Sent
    barrier: str
    def __init__(self, after_requests: _Optional[int] = ..., log: _Optional[str] = ..., captured: _Optional[_Union[Captured, _Mapping]] = ..., outcome: _Optional[_Union[Outcome, _Mapping]] = ..., sent: _Optional[_Union[Sent, _Mapping]] = ..., barrier: _Optional[str] = ...) -> None: ...
