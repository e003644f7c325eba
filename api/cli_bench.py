"""The command `ringtape bench`: its options and its help. What it does is in `cli_bench_run`."""

from __future__ import annotations

import enum
from typing import Annotated, Any

import typer

from ringtape.cli_bench_compare import CODES as COMPARE_CODES
from ringtape.cli_bench_compare import compare

_CODES = """\
[bold]Exit codes[/]
[cyan]  0[/]  done
[cyan]  1[/]  a request failed, or data was not what it should be; or a worker died
[cyan]  2[/]  a job, a disk or a file cannot be used
[cyan]  5[/]  there is no usable io_uring here
[cyan]130[/]  interrupted; a tape is sealed and can be replayed"""

bench_app = typer.Typer(help="Measure disks: jobs as fio users know them, recorded where wanted.")


class Pattern(enum.StrEnum):
    """What a job does."""

    READ = "read"
    WRITE = "write"
    RANDREAD = "randread"
    RANDWRITE = "randwrite"
    RW = "rw"
    RANDRW = "randrw"
    TRIM = "trim"
    RANDTRIM = "randtrim"


class Mode(enum.StrEnum):
    """Whether there is a tape."""

    PLAIN = "plain"
    RECORD = "record"


class Data(enum.StrEnum):
    """How much of the data goes on the tape."""

    ORDER = "order"
    DIGEST = "digest"
    FULL = "full"


def _option(*names: str, help: str, metavar: str = "N", default: str | bool = False) -> Any:
    return typer.Option(*names, help=help, metavar=metavar, show_default=default)


def _switch(*names: str, help: str) -> Any:
    return typer.Option(*names, help=help, show_default=False)


@bench_app.callback(invoke_without_command=True, epilog=_CODES)
def bench(
    context: typer.Context,
    job: Annotated[
        str | None,
        _option(
            "--job", metavar="FILE", help="A file of jobs, in TOML. Options here count more than its own."
        ),
    ] = None,
    from_fio: Annotated[
        str | None,
        _option("--from-fio", metavar="FILE", help="A file of jobs for fio. What is not known is named."),
    ] = None,
    skip_unknown: Annotated[
        bool, typer.Option("--skip-unknown", help="Leave out what of fio's file is not known.")
    ] = False,
    disk: Annotated[
        list[str] | None,
        typer.Option(
            "--disk",
            "-d",
            metavar="NAME=PATH[,...]",
            show_default=False,
            help="A file or a block device, with options as in [bold]ringtape record[/]; once for each disk. A name "
            "that the file of jobs has is this disk instead.",
        ),
    ] = None,
    rw: Annotated[
        Pattern | None,
        typer.Option(
            "--rw", show_default="read", help="Reads, writes, a mix of both or discards; in order or random."
        ),
    ] = None,
    bs: Annotated[
        str | None,
        _option(
            "--bs",
            metavar="SIZE",
            default="4k",
            help="Block size; [bold]4k-64k[/] is a range, [bold]4k/60:64k/40[/] are shares in percent; after a comma "
            "comes that of writes.",
        ),
    ] = None,
    rwmixread: Annotated[
        int | None, _option("--rwmixread", default="50", help="Of a mix, the share of reads in percent.")
    ] = None,
    iodepth: Annotated[
        int | None,
        _option("--iodepth", default="1", help="So many requests of a worker are under way at once."),
    ] = None,
    workers: Annotated[
        int | None,
        _option("--workers", "-w", default="1", help="So many processes do this job, each all of it."),
    ] = None,
    offset: Annotated[
        str | None,
        _option("--offset", metavar="SIZE|N%", default="0", help="Where it begins on each disk."),
    ] = None,
    size: Annotated[
        str | None,
        _option(
            "--size",
            metavar="SIZE|N%",
            default="up to the end",
            help="How much of each disk it uses; or percent of it.",
        ),
    ] = None,
    io_size: Annotated[
        str | None,
        _option(
            "--io-size",
            metavar="SIZE",
            default="once through all, or no limit beside another",
            help="A worker ends after so many bytes.",
        ),
    ] = None,
    runtime: Annotated[
        str | None,
        _option(
            "--runtime",
            metavar="TIME",
            help="A worker ends after so long: [bold]30[/], [bold]500ms[/], [bold]2m[/].",
        ),
    ] = None,
    number_ios: Annotated[
        int | None, _option("--number-ios", help="A worker ends after so many requests, fsyncs not counted.")
    ] = None,
    rate_iops: Annotated[
        int | None, _option("--rate-iops", help="A worker makes so many requests a second at most.")
    ] = None,
    fsync: Annotated[
        int | None, _option("--fsync", default="none", help="An fsync after so many writes on a disk.")
    ] = None,
    fdatasync: Annotated[
        int | None, _option("--fdatasync", default="none", help="The same, of data only.")
    ] = None,
    fua: Annotated[
        bool | None, _switch("--fua", help="Writes are on stable storage when they complete.")
    ] = None,
    random_distribution: Annotated[
        str | None,
        _option(
            "--random-distribution",
            metavar="SHAPE",
            default="random",
            help="[bold]random[/], [bold]zipf:THETA[/], [bold]pareto:H[/] or [bold]normal:SIGMA[/].",
        ),
    ] = None,
    random_map: Annotated[
        bool | None,
        _switch(
            "--random-map/--no-random-map",
            help="Each random place once before any comes again, or not; where the block size is one and the "
            "distribution random, yes by default.",
        ),
    ] = None,
    verify: Annotated[
        bool | None,
        _switch(
            "--verify", help="Write data that says what it is, and check it when it is read, and at the end."
        ),
    ] = None,
    mode: Annotated[
        Mode | None,
        typer.Option(
            "--mode", show_default="record with --output, else plain", help="Without a tape, or recorded."
        ),
    ] = None,
    output: Annotated[
        str | None,
        _option(
            "--output", "-o", metavar="TAPE", default="run.tape", help="The tape to write; replaces one."
        ),
    ] = None,
    data: Annotated[
        Data | None,
        typer.Option(
            "--data", show_default="digest", help="What the tape keeps of the data read and written."
        ),
    ] = None,
    strict: Annotated[
        bool | None,
        _switch(
            "--strict",
            help="In a recording every worker waits for every token; see [bold]ringtape record[/].",
        ),
    ] = None,
    seed: Annotated[
        int | None, _option("--seed", default="chosen", help="Of everything that is drawn.")
    ] = None,
    json: Annotated[
        bool,
        typer.Option("--json", help="Print the report as one JSON object, laid out as fio lays out its own."),
    ] = False,
    log_interval: Annotated[
        int | None,
        _option(
            "--log-interval",
            metavar="MS",
            help="Write logs over time as fio does, averages of so many milliseconds; the report's numbers over time "
            "are by these too.",
        ),
    ] = None,
    log_folder: Annotated[
        str | None,
        _option("--log-folder", metavar="DIR", default="the current one", help="Where the logs go."),
    ] = None,
    plot: Annotated[
        str | None,
        _option("--plot", metavar="FILE", help="Write an HTML page that shows it; it needs nothing else."),
    ] = None,
) -> int | None:
    """Measure disks by jobs: requests of one kind or two, so long, so many at once, here and there.

    [cyan]ringtape bench --rw randread --iodepth 32 --runtime 10 --disk a=a.img,size=1G[/]
    [cyan]ringtape bench --rw randwrite --bs 4k-64k --verify --disk a=/dev/loop0 -o bench.tape[/]
    [cyan]ringtape bench --job jobs.toml[/]
    [cyan]ringtape bench --from-fio nightly.fio --disk nvme=/dev/nvme0n1[/]

    A job without an end of its own goes once through its part of each disk.
    """
    if context.invoked_subcommand is not None:
        return None
    given = {
        name: value
        for name, value in {
            "rw": rw and rw.value,
            "bs": bs,
            "rwmixread": rwmixread,
            "iodepth": iodepth,
            "workers": workers,
            "offset": offset,
            "size": size,
            "io_size": io_size,
            "runtime": runtime,
            "number_ios": number_ios,
            "rate_iops": rate_iops,
            "fsync": fsync,
            "fdatasync": fdatasync,
            "fua": fua,
            "random_distribution": random_distribution,
            "random_map": random_map,
            "verify": verify,
        }.items()
        if value is not None
    }
    recording = {
        name: value
        for name, value in {"tape": output, "data": data and data.value, "strict": strict}.items()
        if value is not None
    }
    asked = mode or (Mode.RECORD if output is not None else Mode.PLAIN)
    source = (job, from_fio, skip_unknown)
    from ringtape.cli_bench_run import Reports, conduct

    reports = Reports(json, log_interval, log_folder, plot)
    return conduct(source, given, disk or [], reports, mode=asked.value, recording=recording, seed=seed)


bench_app.command(epilog=COMPARE_CODES)(compare)
