"""The report as one HTML file: no script, no network, everything inside."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np

from ..statistics import AGGREGATES, Estimate, student_from
from . import figures
from .runs import of
from .summary import Summary

CSS = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 0 1rem 3rem; font: 1rem/1.5 system-ui, sans-serif; color: #111;
  background: #fff; overflow-wrap: anywhere; }
h1 { margin: 1rem 0 0; line-height: 1.2; } h2 { margin: 2.2rem 0 .4rem; border-bottom: 2px solid #111; }
a { color: #00449e; } a:focus, summary:focus, .scroll:focus { outline: 3px solid #111; outline-offset: 2px; }
.skip { position: absolute; left: -100rem; } .skip:focus { left: 1rem; top: 0; background: #fff;
  padding: .5rem; z-index: 1; }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; padding: 0; list-style: none; }
nav a { display: inline-block; padding: .3rem 0; }
.warnings { border: 2px solid #111; border-left-width: .6rem; padding: .2rem 1rem; }
.scroll { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #999; text-align: right; white-space: nowrap; }
td:first-child { white-space: normal; min-width: 7rem; max-width: 16rem; }
th:first-child, td:first-child, td.text, th.text { text-align: left; }
td.text { white-space: normal; min-width: 12rem; }
.pictures { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); }
figure { margin: 0; max-width: 34rem; } figure svg { display: block; width: 100%; height: auto; }
figcaption, .note { color: #333; font-size: .9rem; }
pre { white-space: pre-wrap; background: #f2f2f2; padding: .6rem; margin: .4rem 0; }
summary { cursor: pointer; padding: .3rem 0; }
@media (max-width: 30rem) { td:first-child { max-width: 8rem; } th, td { padding: .25rem .4rem; } }
@media print { nav, .skip { display: none; } .scroll { overflow: visible; } }
"""


def page(s: Summary, command: Sequence[str]) -> str:
    """The whole report."""
    sections = {
        "Results": results(s),
        "Learning curves": curves(s),
        "Aggregates": aggregates(s),
        "Performance profiles": profiles(s),
        "Probability of improvement": improvements(s),
        "Sample efficiency": efficiency(s),
        "Speed and memory": speed(s),
        "Published scores": published(s),
        "Protocol": protocol(s),
        "Repeat it": commands(s, command),
    }
    sections = {title: body for title, body in sections.items() if body}
    ids = {title: title.lower().replace(" ", "-") for title in sections}
    links = "".join(f'<li><a href="#{ids[title]}">{title}</a></li>' for title in sections)
    bodies = "".join(
        f'<section aria-labelledby="{ids[title]}"><h2 id="{ids[title]}">{title}</h2>{body}</section>'
        for title, body in sections.items()
    )
    title = escape(f"{', '.join(s.contestants) or 'Published scores'} in {', '.join(s.tasks)}")
    warnings = "".join(f"<li>{escape(text)}</li>" for text in s.warnings)
    box = f'<div class="warnings" role="note" aria-label="Warnings"><ul>{warnings}</ul></div>' if warnings else ""
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{title}</title><style>{CSS}</style></head><body>"
        f'<a class="skip" href="#main">To the results</a><header><h1>Comparison</h1><p>{title}</p></header>'
        f'<nav aria-label="Sections"><ul>{links}</ul></nav><main id="main">{box}{bodies}</main></body></html>\n'
    )


def table(about: str, columns: Sequence[str], lines: Iterable[Sequence[str]], text: Sequence[int] = ()) -> str:
    """A table that scrolls by itself where the screen is narrow, also with the keyboard. `text` columns break lines.

    So does the first, of contestants' names.
    """

    def cells(tag: str, line: Sequence[str]) -> str:
        kinds = (' class="text"' if place in text else "" for place in range(len(line)))
        words = ("<wbr>".join(map(escape, figures.pieces(line[0]))), *map(escape, line[1:]))
        return "".join(f"<{tag}{kind}>{cell}</{tag}>" for kind, cell in zip(kinds, words, strict=True))

    body = "".join(f"<tr>{cells('td', line)}</tr>" for line in lines)
    head = f"<thead><tr>{cells('th', columns)}</tr></thead>"
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(about, quote=True)}">'
        f"<table>{head}<tbody>{body}</tbody></table></div>"
    )


def results(s: Summary) -> str:
    note = (
        f"<p class=\"note\">A run's score is its {s.which} evaluation. Intervals of 95%: Student's for means; for the "
        "IQM (interquartile mean) a bootstrap over runs, widened as Student's is for few runs.</p>"
    )
    columns = ("contestant", "mean [95%]", "IQM [95%]", "range of runs", "runs", "clock")
    parts = []
    for task in s.tasks:
        lines = []
        for c in s.contestants:
            if (c, task) in s.scores:
                scores, end = s.scores[c, task], max(int(run.clock[-1]) for run in of(s.runs, c, task))
                spread = f"{number(scores.min())} to {number(scores.max())}"
                means, iqms = interval(s.means[c, task]), interval(s.iqms[c, task])
                lines.append((c, means, iqms, spread, str(len(scores)), f"{end:,}"))
        if lines:
            parts.append(f"<h3>{escape(task)}</h3>{table(f'Results in {task}', columns, lines)}")
    return note + "".join(parts) if parts else ""


def curves(s: Summary) -> str:
    if not s.scores:
        return ""
    pictures = "".join(f"<figure>{svg}</figure>" for svg in figures.learning_curves(s).values())
    note = "Lines: mean over runs, unsmoothed. Bands: Student's 95% interval of that mean, at each point by itself."
    return f'<p class="note">{note}</p><div class="pictures">{pictures}</div>'


def aggregates(s: Summary) -> str:
    if not s.ranked:
        return ""
    scales = "; ".join(
        f"{task}: 0 = {number(s.scales[task][0])}, 1 = {number(s.scales[task][1])} ({s.scales[task][2]})"
        for task in s.common
    )
    note = (
        f"Normalised scores over {len(s.common)} task{'s' * (len(s.common) > 1)}. {scales}. Stratified bootstrap over "
        "runs within each task (Agarwal et al. 2021), 95%, widened for few runs; the optimality gap is the mean "
        "shortfall from score 1."
    )
    lines = [(c, *(interval(s.aggregates[c, name]) for name in AGGREGATES)) for c in s.ranked]
    pictures = "".join(f"<figure>{svg}</figure>" for svg in figures.aggregates(s).values())
    found = table("Aggregates", ("contestant", *AGGREGATES), lines)
    return f'<p class="note">{escape(note)}</p>{found}<div class="pictures">{pictures}</div>'


def profiles(s: Summary) -> str:
    if not s.ranked:
        return ""
    note = "Share of runs whose normalised score is above a level, averaged over tasks; bands: Wilson's 95% interval."
    return f"<figure>{figures.profiles(s)}<figcaption>{note}</figcaption></figure>"


def improvements(s: Summary) -> str:
    if not s.improvements:
        return ""
    note = "Probability that a run of the line's contestant beats one of the column's; half for a tie; 95% (Newcombe)."
    lines = [
        (one, *("" if one == other else interval(s.improvements[one, other]) for other in s.ranked)) for one in s.ranked
    ]
    return f'<p class="note">{note}</p>{table("Probability of improvement", ("", *s.ranked), lines)}'


def efficiency(s: Summary) -> str:
    lines = []
    for c, task in s.pairs():
        steps, (goal, why) = s.reached[c, task], s.thresholds[task]
        low, half, high = (count(value) for value in (steps.min(), np.median(steps), steps.max()))
        share = f"{np.isfinite(steps).sum()} of {len(steps)}"
        lines.append((c, task, f"{number(goal)} ({why})", half, f"{low} to {high}", share))
    columns = ("contestant", "task", "threshold", "steps: median of runs", "range of runs", "reached")
    note = "Steps until the first evaluation at or above the threshold; a range over runs, not an interval."
    return f'<p class="note">{note}</p>{table("Sample efficiency", columns, lines, (2,))}' if lines else ""


def speed(s: Summary) -> str:
    lines = []
    for c, task in s.pairs():
        own = of(s.runs, c, task)
        rates = np.array([run.clock[-1] / run.seconds for run in own if run.seconds > 0])
        memory = np.array([run.memory for run in own if np.isfinite(run.memory)]) / 1e6
        lines.append((c, task, middle(rates), middle(memory)))
    note = (
        "Clock ticks per second of training, without evaluations, and the process's greatest memory: median over runs "
        "(range). Runs that shared the machine slowed each other."
    )
    columns = ("contestant", "task", "per second", "memory, MB")
    return f'<p class="note">{note}</p>{table("Speed and memory", columns, lines)}' if lines else ""


def published(s: Summary) -> str:
    lines = []
    for row in s.published:
        estimate = student_from(row.mean, row.deviation, row.seeds)
        spread = f"{number(row.std)} {row.spread}" if np.isfinite(row.std) else "not stated"
        clock = f"{row.clock:,}" if row.clock else "not stated"
        lines.append((row.contestant, row.env, interval(estimate), spread, str(row.seeds or "?"), clock, row.source))
    columns = ("contestant", "task", "mean [95%]", "spread", "runs", "clock", "source")
    note = (
        "As published: not run here, and under the protocol of its source. Intervals are Student's, where the spread "
        "is one over seeds."
    )
    return f'<p class="note">{note}</p>{table("Published scores", columns, lines, (3, 6))}' if lines else ""


def protocol(s: Summary) -> str:
    lines, versions = [], dict[str, list[str]]()
    for c, task in s.pairs():
        own = of(s.runs, c, task)
        first, seeds = own[0], " ".join(str(run.seed) for run in own)
        words = ", ".join(f"{name} {version}" for name, version in first.versions.items()) or "not recorded"
        versions.setdefault(words, []).append(c)
        differ = "; ".join(dict.fromkeys(text for run in own for text in run.untranslated)) or "-"
        hashes = "; ".join(dict.fromkeys(run.data_hash[:16] for run in own if run.data_hash)) or "-"
        cells = (f"{s.which} of {len(first.mean)}", first.protocol or "not stated", seeds, hashes)
        lines.append((c, task, *cells, differ, first.source))
    columns = ("contestant", "task", "evaluation", "how", "seeds", "data sha256", "untranslated", "first run")
    stated = "".join(
        f"<li>{escape(', '.join(dict.fromkeys(who)))}: {escape(words)}</li>" for words, who in versions.items()
    )
    return f"{table('Protocol', columns, lines, (3, 6, 7))}<h3>Versions</h3><ul>{stated}</ul>" if lines else ""


def commands(s: Summary, command: Sequence[str]) -> str:
    each = "\n".join(dict.fromkeys(run.command for run in s.runs if run.command))
    more = f"<details><summary>The command of each run</summary><pre>{escape(each)}</pre></details>" if each else ""
    return f"<pre>{escape(shlex.join(command))}</pre>{more}"


def interval(e: Estimate) -> str:
    """The number is never alone: its interval, or that there is none."""
    ends = f"[{number(e.low)}, {number(e.high)}]" if np.isfinite(e.low) else "(no interval)"
    return f"{number(e.value)} {ends}"


def middle(values: np.ndarray) -> str:
    """Median and range."""
    if not len(values):
        return "not recorded"
    return f"{np.median(values):,.0f} ({values.min():,.0f} to {values.max():,.0f})"


def count(steps: float) -> str:
    return f"{steps:,.0f}" if np.isfinite(steps) else "not reached"


def number(value: float) -> str:
    """Four digits that count."""
    value = float(f"{value:.4g}") + 0.0
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
