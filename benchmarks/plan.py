"""What a run over the whole of MIMIC-CXR takes, from a measured rate: `python benchmarks/plan.py --rate R`.

Prints the table of docs/runs.md: hours and cost on 1, 8 and 64 GPUs, films read a second, and what the run's folder
takes. `--write` puts it there. The rate is cases a second of one GPU, whose work `--processes` share, as
`benchmarks/batches.py` measures it (of one worker on a CPU: `benchmarks/run.py rate`); the price of a GPU hour is an
assumption. Everything else was measured, and is said where it stands.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs" / "runs.md"
COMMAND = "python benchmarks/plan.py"
#: MIMIC-CXR 2.1.0.
IMAGES = 377_110
GPUS = (1, 8, 64)
#: US dollars a GPU hour: an assumption, the range of public lists for an H100 on demand in 2026, not a quotation.
PRICES = (2.0, 5.0)
#: Cases of a shard; the last shard of one process keeps all others waiting, in the worst case the whole of it.
SHARD = 256
#: Seconds to open and plan (`benchmarks/run.py large`), and, assumed, to load the model; where several processes are on
#: a GPU, the one that waits for them loads it before they do.
PLANNING, LOADING = 20.0, 40.0
#: Bytes a case in parts and seconds, of one method and of each further one (`benchmarks/run.py rate --cases 202`).
BYTES, BYTES_MORE = 1_800.0, 1_400.0
#: Bytes of a film of MIMIC-CXR-JPG, about; and measured seconds of a core until it is the model's input (8 megapixels).
FILM_BYTES, FILM_SECONDS = 1.5e6, 0.42


@dataclass(frozen=True)
class Plan:
    """What is to be asked, and how fast.

    Attributes:
        rate: Cases a second of one GPU.
        prices: Dollars a GPU hour, least and most.
        cases: In all: questions about films.
        methods: Maps a case.
        processes: On each GPU, which share the rate.
    """

    rate: float
    prices: tuple[float, float] = PRICES
    cases: int = IMAGES
    methods: int = 1
    processes: int = 1

    def hours(self, gpus: int) -> float:
        """Until the last process is done, in the worst case."""
        start = PLANNING + LOADING * (1 if self.processes == 1 else 2)
        return (self.cases / (self.rate * gpus) + start + SHARD * self.processes / self.rate) / 3600

    def dollars(self, gpus: int) -> tuple[float, float]:
        """Of all GPUs, until the last is done."""
        low, high = (self.hours(gpus) * gpus * price for price in self.prices)
        return low, high

    @property
    def gibibytes(self) -> float:
        """Of the run's folder."""
        return self.cases * (BYTES + (self.methods - 1) * BYTES_MORE) / 2**30

    def cores(self, gpus: int) -> float:
        """Processor cores that are busy reading films, one question a film."""
        return self.rate * gpus * FILM_SECONDS

    def megabytes_a_second(self, gpus: int) -> float:
        """Of films, one question a film."""
        return self.rate * gpus * FILM_BYTES / 1e6


def lines(plan: Plan) -> list[str]:
    """The table, with what it rests on."""
    low, high = plan.prices
    rows = [
        f"| {gpus} | {_hours(plan.hours(gpus))} | {_dollars(plan.dollars(gpus))} "
        f"| {plan.cores(gpus):,.0f} | {plan.megabytes_a_second(gpus):,.0f} MB |"
        for gpus in GPUS
    ]
    several = "methods" if plan.methods > 1 else "method"
    processes = f"{plan.processes} processes on each" if plan.processes > 1 else "one process on each"
    return [
        f"**{plan.rate:g} cases a second on one GPU**, {processes}; {plan.cases:,} cases, one question a film, "
        f"{plan.methods} {several}; a GPU hour at {low:g} to {high:g} US dollars, an assumption; folder of the run "
        f"{plan.gibibytes:.1f} GiB.",
        "",
        "| GPUs | time | dollars | cores that read films | films read a second |",
        "|---|---|---|---|---|",
        *rows,
    ]


def _hours(hours: float) -> str:
    return f"{hours * 60:.0f} min" if hours < 2 else f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


def _dollars(dollars: tuple[float, float]) -> str:
    return " to ".join(f"{each:,.0f}" for each in dollars)


def put(text: str, table: Sequence[str]) -> str:
    """The page with the table between its marks."""
    from medgemma_visualizer.reports.sensitivity import rewritten  # loads torch, which the table does not need

    return rewritten(text, "\n".join(table), COMMAND)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, required=True, help="cases a second of one GPU")
    parser.add_argument("--price", type=float, nargs=2, default=PRICES, help="dollars a GPU hour, least and most")
    parser.add_argument("--cases", type=int, default=IMAGES)
    parser.add_argument("--methods", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1, help="on each GPU, which share the rate")
    parser.add_argument("--write", action="store_true", help="put the table into docs/runs.md")
    chosen = parser.parse_args()
    table = lines(Plan(chosen.rate, tuple(chosen.price), chosen.cases, chosen.methods, chosen.processes))
    print("\n".join(table))
    if chosen.write:
        DOCS.write_text(put(DOCS.read_text("utf-8"), table), "utf-8")


if __name__ == "__main__":
    main()
