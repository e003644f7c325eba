"""Job files of fio, the part of them that means the same here. What this does not know it names, and does not run.

Written from fio's HOWTO ("Job file format", "Job file parameters"), version 3.33. An option that changes what is asked
of the disks, and that there is no way to ask for here, is refused; one that only says how fio does it is left out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ringtape.disks import Disk
from ringtape.jobs.errors import JobError
from ringtape.jobs.job import Percent
from ringtape.jobs.options import OPTIONS, seconds
from ringtape.jobs.toml import JobFile, text_of

# fio's other names for an option, and ours where it is only called something else.
_NAMES = {
    "readwrite": "rw",
    "blocksize": "bs",
    "blocksize_range": "bsrange",
    "io_limit": "io_size",
    "numjobs": "workers",
    "wait_for_previous": "stonewall",
}
# Without a meaning for what is asked of the disks.
_LEFT_OUT = {
    *("description", "group_reporting", "new_group", "thread", "randrepeat", "randseed", "allrandrepeat"),
    *("registerfiles", "fixedbufs", "hipri", "sqthread_poll", "nonvectored", "gtod_reduce", "disable_lat"),
    *("disable_clat", "disable_slat", "disable_bw_measurement", "clat_percentiles", "lat_percentiles"),
    *("slat_percentiles", "percentile_list", "eta", "invalidate", "create_on_open", "norandommap_warn"),
    *("fallocate", "refill_buffers", "overwrite"),
}
# Engines that do what is asked as ringtape does: through the kernel, many at once.
_ENGINES = ("io_uring", "libaio", "posixaio", "sync", "psync", "pread", "vsync", "pvsync", "pvsync2")
_SYNC_ENGINES = _ENGINES[3:]
_VERIFY = (
    *("md5", "crc64", "crc32c", "crc32c-intel", "crc32", "crc16", "crc7", "xxhash", "sha512", "sha256"),
    *("sha1", "sha3-224", "sha3-256", "sha3-384", "sha3-512", "meta"),
)
_FLAGS = {"1": True, "true": True, "": True, "0": False, "false": False}
# Whether writes are on stable storage when they complete.
_SYNC = {"none": False, "0": False, "dsync": True, "sync": True, "1": True}
# What the text of a value is taken over as it is.
_SAME = ("rw", "rwmixread", "iodepth", "workers", "number_ios", "rate_iops", "fsync", "fdatasync")
_SIZES = ("size", "io_size", "offset")
_OTHERS = (
    *("filename", "directory", "bs", "bsrange", "bssplit", "rwmixwrite", "runtime", "time_based", "loops"),
    *("norandommap", "sync", "random_distribution", "verify", "do_verify", "stonewall", "ioengine"),
    *("direct", "buffered", "name"),
)
_KNOWN = {*_SAME, *_SIZES, *_OTHERS, *_LEFT_OUT}


@dataclass(frozen=True)
class _Word:
    """The value of an option, and the line that it is on."""

    text: str
    line: int


@dataclass
class _Reading:
    """What is made of a file on the way."""

    path: str
    disks: dict[str, Disk] = field(default_factory=dict)  # by path
    notes: list[str] = field(default_factory=list)

    def error(self, line: int, text: str) -> JobError:
        return JobError(f"{self.path}, line {line}: {text}")

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def read_fio(path: str | os.PathLike[str], *, skip_unknown: bool = False) -> JobFile:
    """The jobs of a file of fio, with a disk for each file name in it.

    A file that is missing is made with what `size` and `offset` need. With `skip_unknown` a note names the options that
    are not known. Else, and for values that cannot be taken over, raises `JobError`.
    """
    reading = _Reading(os.fspath(path))
    sections = _sections(reading)
    unknown = [
        f"{name} (line {word.line})"
        for _, own in sections
        for name, word in own.items()
        if name not in _KNOWN
    ]
    unknown = list(dict.fromkeys(unknown))
    if unknown and not skip_unknown:
        raise JobError(
            f"{reading.path}: ringtape does not know {', '.join(unknown)}; without would be another job, which "
            "--skip-unknown runs"
        )
    if unknown:
        reading.note(f"not known and left out: {', '.join(unknown)}")
    jobs: dict[str, dict[str, Any]] = {}
    for section, own in sections:
        name = own["name"].text if "name" in own else section
        if name in jobs:
            raise JobError(f"{reading.path}: job {name} is there twice; ringtape wants a name for each")
        jobs[name] = _job(reading, {option: word for option, word in own.items() if option in _KNOWN})
    if not jobs:
        raise JobError(f"{reading.path}: there is no job; a section [NAME] is one")
    return JobFile(jobs, {}, tuple(reading.disks.values()), tuple(reading.notes), lenient=True)


def _sections(reading: _Reading) -> list[tuple[str, dict[str, _Word]]]:
    """The jobs with all that applies to each: what was global when it began, and its own."""
    shared: dict[str, _Word] = {}
    jobs: list[tuple[str, dict[str, _Word]]] = []
    current: dict[str, _Word] | None = None
    for number, raw in enumerate(text_of(reading.path).splitlines(), 1):
        line = raw.strip()
        if not line or line[0] in ";#":
            continue
        if line.startswith("include "):
            raise reading.error(number, "include is not followed; put the file's lines here")
        if line.startswith("["):
            if not line.endswith("]") or len(line) == 2:
                raise reading.error(number, f"{line!r} is no section")
            name = line[1:-1]
            current = shared
            if name != "global":
                current = dict(shared)
                jobs.append((name, current))
            continue
        if current is None:
            raise reading.error(
                number, f"{line[:60]!r} stands before the first section: it is no job file of fio"
            )
        option, _, value = line.partition("=")
        value = re.split(r"\s[;#]", value)[0].strip()
        if "${" in value or "$" in value:
            raise reading.error(
                number, f"{option.strip()} has a variable of the environment or of fio: {value}"
            )
        option = _NAMES.get(option.strip(), option.strip())
        # A job's own says more than what is global, and of two the later counts.
        current[option] = _Word(value, number)
        if option in ("bs", "bsrange", "bssplit"):
            for other in {"bs", "bsrange", "bssplit"} - {option}:
                current.pop(other, None)
    return jobs


def _job(reading: _Reading, words: Mapping[str, _Word]) -> dict[str, Any]:
    """The options of one job in our words."""
    _check_engine(reading, words)
    if "do_verify" in words and not _flag(reading, words["do_verify"], "do_verify"):
        raise reading.error(words["do_verify"].line, "do_verify=0: what is verified is read back here")
    own: dict[str, Any] = {name: words[name].text for name in _SAME if name in words}
    if own.get("rw") == "readwrite":
        own["rw"] = "rw"
    for name in _SIZES:
        if name in words:
            own[name] = _size(reading, words[name], name)
    if own.get("io_size") == 0:
        del own["io_size"]
    for name, convert in _CONVERSIONS.items():
        if name in words:
            convert(reading, words[name], own)
    if "stonewall" in words:
        own["stonewall"] = _flag(reading, words["stonewall"], "stonewall")
    if "rate_iops" in words and own.get("rw") in ("rw", "randrw"):
        line = words["rate_iops"].line
        raise reading.error(
            line, "rate_iops of a mix is a rate for each direction in fio; here it is one for both"
        )
    _give_disks(reading, words, own)
    _limit(reading, words, own)
    return own


def _check_engine(reading: _Reading, words: Mapping[str, _Word]) -> None:
    """Raise for a way of doing requests that is not ours."""
    engine = words.get("ioengine")
    if engine is not None and engine.text not in _ENGINES:
        raise reading.error(
            engine.line, f"ioengine {engine.text} does something else than reads and writes here"
        )
    depth = words.get("iodepth")
    if (engine is None or engine.text in _SYNC_ENGINES) and depth is not None and depth.text != "1":
        of = f"ioengine {engine.text}" if engine else "fio's own engine, psync,"
        raise reading.error(
            depth.line, f"iodepth {depth.text}: {of} has one request under way; name io_uring"
        )


def _buffered(reading: _Reading, words: Mapping[str, _Word]) -> bool:
    """Whether the job's files are used through the page cache; what is said last counts."""
    said = [(words[name], name) for name in ("direct", "buffered") if name in words]
    if not said:
        reading.note("requests go around the page cache, as with direct=1")
        return False
    word, name = max(said, key=lambda one: one[0].line)
    buffered = _flag(reading, word, name) is (name == "buffered")
    if buffered and "filename" not in words:
        raise reading.error(
            word.line, f"{name}={word.text} without filename: name the disk with --disk NAME=PATH,buffered"
        )
    if buffered:
        reading.note("what the page cache holds of a file is not dropped before a job begins, as fio does it")
    return buffered


def _bs(reading: _Reading, word: _Word, own: dict[str, Any]) -> None:
    parts = word.text.split(",")
    if len(parts) > 2 and own.get("rw") not in ("trim", "randtrim"):
        parts = parts[:2]
    if own.get("rw") in ("trim", "randtrim"):
        parts = parts[-1:]
    elif own.get("rw") in ("write", "randwrite"):
        parts = parts[1:2] or parts
    elif own.get("rw") not in ("rw", "randrw"):
        parts = parts[:1]
    if any(not part.strip() for part in parts):
        raise reading.error(word.line, f"{word.text!r} leaves a block size to fio; give it")
    own["bs"] = ",".join(_block(reading, part) for part in parts)


def _block(reading: _Reading, text: str) -> str:
    """A size as we write it: fio has `4ki` and `4kb` as well; and a KiB of 1000 bytes (HOWTO, `kb_base`)."""

    def ours(found: re.Match[str]) -> str:
        number, letter, rest = found[1], found[2].lower(), (found[3] or "").lower()
        if rest != "ib":
            return number + letter
        size = int(number) * 1000 ** ("kmgtp".index(letter) + 1)
        reading.note(f"{found[0]} is {size} bytes, as in fio without kb_base=1000")
        return str(size)

    return re.sub(r"([0-9]+)([kmgtp])(ib?|b)?", ours, text.strip(), flags=re.IGNORECASE)


def _bssplit(reading: _Reading, word: _Word, own: dict[str, Any]) -> None:
    _bs(reading, _Word(",".join(part.rstrip(":") for part in word.text.split(",")), word.line), own)


def _rwmixwrite(reading: _Reading, word: _Word, own: dict[str, Any]) -> None:
    if not re.fullmatch(r"[0-9]{1,3}", word.text):
        raise reading.error(word.line, f"rwmixwrite {word.text!r} must be a whole number, 0 to 100")
    own["rwmixread"] = 100 - int(word.text)


def _norandommap(reading: _Reading, word: _Word, own: dict[str, Any]) -> None:
    if _flag(reading, word, "norandommap"):
        own["random_map"] = False


def _distribution(reading: _Reading, word: _Word, own: dict[str, Any]) -> None:
    shape = word.text.partition(":")[0]
    if word.text.count(":") > 1 or shape.startswith("zoned"):
        raise reading.error(word.line, f"random_distribution {word.text} has no equal here")
    if shape == "normal":
        reading.note("a normal distribution is about the middle of the stretch; fio scatters it")
    own["random_distribution"] = word.text


def _sync(reading: _Reading, word: _Word, own: dict[str, Any]) -> None:
    if word.text not in _SYNC:
        raise reading.error(word.line, f"sync {word.text!r} is none of {', '.join(_SYNC)}")
    own["fua"] = _SYNC[word.text]
    if own["fua"] and word.text != "dsync":
        reading.note(f"sync={word.text}: writes are on stable storage when they complete, as with dsync")


def _verify(reading: _Reading, word: _Word, own: dict[str, Any]) -> None:
    if word.text in ("0", "none"):
        return
    if word.text not in _VERIFY:
        raise reading.error(word.line, f"verify {word.text} is none of {', '.join(_VERIFY)}")
    own["verify"] = True
    reading.note(f"verify={word.text}: the data and its checksum are ringtape's own")


_CONVERSIONS: dict[str, Callable[[_Reading, _Word, dict[str, Any]], None]] = {
    "bs": _bs,
    "bsrange": _bs,
    "bssplit": _bssplit,
    "rwmixwrite": _rwmixwrite,
    "norandommap": _norandommap,
    "random_distribution": _distribution,
    "sync": _sync,
    "verify": _verify,
}


def _limit(reading: _Reading, words: Mapping[str, _Word], own: dict[str, Any]) -> None:
    """When it ends: fio's runtime is the longest, and it ends before when it has moved `size`, but for time_based."""
    if "runtime" in words:
        word = words["runtime"]
        try:
            own["runtime"] = seconds(word.text)
        except ValueError as error:
            raise reading.error(word.line, f"runtime {word.text!r} must be {error}") from None
        if own["runtime"] == 0:
            del own["runtime"]
    time_based = "time_based" in words and _flag(reading, words["time_based"], "time_based")
    if time_based and "runtime" not in own:
        raise reading.error(words["time_based"].line, "time_based needs a runtime")
    if time_based:
        own.pop("io_size", None)
    elif "io_size" not in own and "size" in own and ("runtime" in own or "number_ios" in own):
        if isinstance(own["size"], str):
            raise reading.error(
                words["size"].line, f"size={own['size']} beside a runtime or number_ios: give it in bytes"
            )
        own["io_size"] = own["size"] * len(own.get("disks", [1]))
    if "loops" in words and not time_based:
        _loops(reading, words["loops"], own)


def _loops(reading: _Reading, word: _Word, own: dict[str, Any]) -> None:
    """All of it so many times."""
    if not re.fullmatch(r"[1-9][0-9]{0,8}", word.text):
        raise reading.error(word.line, f"loops {word.text!r} must be a whole number, 1 at least")
    if word.text == "1":
        return
    once = own.get("io_size", own.get("size"))
    if not isinstance(once, int):
        raise reading.error(word.line, f"loops={word.text} without a size in bytes")
    own["io_size"] = int(word.text) * (once if "io_size" in own else once * len(own.get("disks", [1])))


def _give_disks(reading: _Reading, words: Mapping[str, _Word], own: dict[str, Any]) -> None:
    """A disk for each of the job's files; `size` becomes that of each."""
    buffered = _buffered(reading, words)
    if "filename" not in words:
        return
    folder = words["directory"].text if "directory" in words else ""
    names = [one.replace("\\:", ":") for one in re.split(r"(?<!\\):", words["filename"].text) if one]
    if not names:
        raise reading.error(words["filename"].line, "filename names no file")
    # A share is one of each file.
    shares = [name for name in ("size", "offset") if isinstance(own.get(name), str)]
    if "size" in own and "size" not in shares:
        own["size"] //= len(names)
    needed = own["size"] + own.get("offset", 0) if "size" in own and not shares else None
    paths = [os.path.join(folder, name) for name in names]
    missing = [path for path in paths if shares and not os.path.exists(path) and path not in reading.disks]
    if missing:
        name = shares[0]
        raise reading.error(
            words[name].line, f"{name}={own[name]} of {missing[0]}, which is not there: give bytes"
        )
    own["disks"] = [_disk(reading, path, needed, buffered=buffered) for path in paths]


def _disk(reading: _Reading, path: str, needed: int | None, *, buffered: bool) -> str:
    there = reading.disks.get(path)
    if there is None:
        word = re.sub(r"[^A-Za-z0-9_.-]", "_", os.path.basename(path)) or "disk"
        taken = {disk.name for disk in reading.disks.values()}
        name, number = word, 1
        while name in taken:
            number += 1
            name = f"{word}-{number}"
        there = Disk(name, path, buffered=buffered)
    if there.buffered is not buffered:
        raise JobError(f"{reading.path}: one job uses {path} through the page cache and another around it")
    if needed is not None and not os.path.exists(path):
        there = replace(there, size=max(needed, int(there.size or 0)))
    reading.disks[path] = there
    return there.name


def _size(reading: _Reading, word: _Word, name: str) -> int | str:
    """Bytes, or a share of the disk as it stands there."""
    text = _block(reading, word.text)
    if re.fullmatch(r"[0-9]+", text):
        return int(text)
    try:
        size = OPTIONS[name](text)
        return text if isinstance(size, Percent) else int(size)
    except ValueError:
        raise reading.error(word.line, f"{name} {word.text!r} is not a number of bytes") from None


def _flag(reading: _Reading, word: _Word, name: str) -> bool:
    if word.text not in _FLAGS:
        raise reading.error(word.line, f"{name} {word.text!r} must be 0 or 1")
    return _FLAGS[word.text]
