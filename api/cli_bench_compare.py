"""The command `ringtape bench compare`: reports side by side.

It turns words into calls of `ringtape.jobs` and what comes back into words, and decides nothing else.
"""

from __future__ import annotations

from typing import Annotated

import typer

from ringtape.cli_runs import look

CODES = """\
[bold]Exit codes[/]
[cyan]  0[/]  done
[cyan]  2[/]  a report cannot be read, they have nothing in common, or the output cannot be written"""


def compare(
    reports: Annotated[
        list[str],
        typer.Argument(
            metavar="A B...",
            show_default=False,
            help="Reports of [bold]ringtape bench --json[/] or [bold]fio --output-format=json[/]; a folder is all "
            "its *.json, as repeated runs of the same. All are compared with the first.",
        ),
    ],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    plot: Annotated[
        str | None,
        typer.Option(
            "--plot",
            metavar="FILE",
            show_default=False,
            help="Write an HTML page that shows them; it needs nothing else. Of a folder it shows the first report.",
        ),
    ] = None,
) -> int:
    """Compare reports: differences, and how sure they are.

    [cyan]ringtape bench compare before.json after.json[/]
    [cyan]ringtape bench compare fio-runs/ ringtape-runs/[/]
    """

    def act() -> None:
        from ringtape.jobs import compare as comparing
        from ringtape.jobs.errors import JobError

        if len(reports) < 2:
            raise JobError(f"there is nothing to compare {reports[0]} with: name two reports or more")
        first, *others = [comparing.load(path) for path in reports]
        rows = comparing.compare(first, others)
        notes = comparing.notes(first, others, rows)
        if plot is not None:
            from ringtape.jobs.plot import new_page, write_page

            with new_page(plot) as file:
                write_page(file, [(one.label, one.runs[0]) for one in (first, *others)])
        if json:
            from json import dumps

            print(dumps(comparing.as_json(first, others, rows, notes)))
            return
        from ringtape.jobs.compare_table import show
        from ringtape.screen import Screen

        show(Screen(highlight=False), first, others, rows, notes)

    return look(act)
