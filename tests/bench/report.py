# SPDX-License-Identifier: MIT
"""What comes out: sections of tables, the figures to judge, the plot, the file RESULTS.md."""
import math
import os
import shutil
import statistics
import subprocess


class Verdict:
    """One figure against its bound; at_least: bigger is better."""

    def __init__(self, number, what, measured, bound, unit="", at_least=False):
        self.number, self.what, self.measured, self.bound = number, what, measured, bound
        self.unit, self.at_least = unit, at_least

    @property
    def reached(self):
        if self.measured is None:
            return None
        return self.measured >= self.bound if self.at_least else self.measured <= self.bound

    def row(self):
        said = {None: "not measured", True: "yes", False: "**no**"}[self.reached]
        measured = "-" if self.measured is None else figure(self.measured) + self.unit
        bound = ("at least " if self.at_least else "at most ") + figure(self.bound) + self.unit
        return [str(self.number), self.what, measured, bound, said]


VERDICT_HEADER = ["figure", "what", "measured", "bound", "reached"]


class Section:
    """What one workload found."""

    def __init__(self, letter, title):
        self.letter, self.title, self.parts, self.verdicts = letter, title, [], []

    def say(self, words):
        self.parts.append(words + "\n")

    def table(self, header, rows):
        self.parts.append(table(header, rows))

    def judge(self, *args, **more):
        self.verdicts.append(Verdict(*args, **more))

    def text(self):
        parts = ["## (%s) %s\n" % (self.letter, self.title), *self.parts]
        if self.verdicts:
            parts.append(table(VERDICT_HEADER, [v.row() for v in self.verdicts]))
        return "\n".join(parts)


def figure(x):
    """A number with three or four digits that count."""
    if isinstance(x, int):
        return str(x)
    if isinstance(x, str):
        return x
    if x is None:
        return "-"
    size = abs(x)
    return "%.0f" % x if size >= 1000 else "%.1f" % x if size >= 100 else (
        "%.2f" % x if size >= 1 else "%.3f" % x
    )


def table(header, rows):
    """Markdown that is readable as it is."""
    cells = [[figure(c) for c in row] for row in [header, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths)) + " |" for row in cells]
    lines.insert(1, "| " + " | ".join("-" * w for w in widths) + " |")
    return "\n".join(lines) + "\n"


def median(values):
    return statistics.median(values)


def ratio(ours, theirs):
    """The median of the ratios of what was measured side by side."""
    return median([a / b for a, b in zip(ours, theirs)])


def interval(values, sure=0.95):
    """Between which of the values the true median lies, at least so surely (by the binomial of how
    many lie below it, whatever the distribution); the outermost ones where there are too few."""
    values, count = sorted(values), len(values)

    def surely(out):
        return 1 - 2 * sum(math.comb(count, i) for i in range(out + 1)) / 2**count >= sure

    out = max(filter(surely, range(count // 2)), default=0)
    return values[out], values[count - 1 - out]


def median_between(ours, theirs):
    """In words: the median of the ratios, and between what it is."""
    ratios = [a / b for a, b in zip(ours, theirs)]
    return "%.3f (%.3f to %.3f)" % (median(ratios), *interval(ratios))


def cost_rows(samples, reference="gatherd"):
    """Rows for COST_HEADER of {name: [Sample]}, with the reference's CPU against each one's."""
    ours = [s.cpu_us_per_fetch for s in samples[reference]]
    for name, several in samples.items():
        cpu = [s.cpu_us_per_fetch for s in several]
        peak = max(s.peak_kb for s in several)
        yield [
            name,
            median(cpu),
            "%s to %s" % (figure(min(cpu)), figure(max(cpu))),
            median([s.fetches_per_s for s in several]),
            peak / 1024 if peak else None,
            ratio(ours, cpu) if name != reference else None,
        ]


COST_HEADER = [
    "subject", "CPU us/fetch", "range", "fetches/s", "peak MiB", "gatherd's CPU / its CPU",
]

PLOT = """\
set terminal svg size 760,420 font "sans-serif,13" background rgb "white"
set output "{svg}"
set logscale x
set xlabel "members of the batch"
set ylabel "CPU, us per URL"
set y2label "wall time, ms"
set logscale y2
set y2tics
set ytics nomirror
set yrange [0:*]
set grid x y
set key above
plot "{data}" using 1:2 with linespoints pt 7 title "CPU per URL", \\
     "{data}" using 1:3 axes x1y2 with linespoints pt 5 title "wall time of the batch"
"""


def plot(svg, rows, scratch):
    """cost.svg of [(members, CPU us per URL, wall ms)]; False without gnuplot."""
    if not shutil.which("gnuplot"):
        return False
    data = os.path.join(scratch, "cost.data")
    with open(data, "w", encoding="ascii") as file:
        for row in rows:
            file.write("%d %f %f\n" % row)
    script = PLOT.format(svg=svg, data=data)
    subprocess.run(["gnuplot"], input=script.encode(), check=True, timeout=60)
    return True
