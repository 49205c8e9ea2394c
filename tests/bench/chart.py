#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Draws the figures of a run as an SVG chart, or prints what was to be reached as a table.

usage: chart.py RESULTS.json CHART.svg [CASE | WORKLOAD]...
       chart.py --table RESULTS.json [CASE | WORKLOAD]...

One group of bars for each case and metric that has a goal (or for the first metric of a case that
has none), one bar for each peer. A bar tells how many times as good as the case's first peer it is:
the median of the paired ratios, turned round where less is better, so that right is always good.
The whisker spans the quartiles, the mark is what numaperf must reach. The scale is logarithmic.
"""
import json
import math
import sys
import xml.etree.ElementTree as ET

LABEL = 170  # pixels for names
PLOT = 560
RIGHT = 60  # for the number behind a bar
BAR = 15
GAP = 16
TOP = 92
BOTTOM = 34
SCALE_MIN = 1 / 64
SCALE_MAX = 64
INK = "#1f2933"
FAINT = "#cbd2d9"
OURS = "#1769aa"
THEIRS = "#9aa5b1"
MUST = "#c0392b"
FONT = "DejaVu Sans, Helvetica, Arial, sans-serif"


def turned(spread, lower_is_better):
    """(median, low, high) as times as good."""
    values = [spread["median"], spread["q1"], spread["q3"]]
    if lower_is_better:
        values = [1 / values[0], 1 / values[2], 1 / values[1]]
    return values


def metric_rows(case, name):
    """[(peer, lower_is_better, ratio or None for the first peer, value)] of one metric."""
    return [(m["peer"], m["lower_is_better"], m.get("ratio"), m["value"])
            for m in case["metrics"] if m["metric"] == name]


def must_of(case, goal, rows):
    """Where the goal's mark stands, as times as good as the first peer; None: nowhere."""
    if "must" not in goal:
        return None
    by_peer = {peer: (lower, ratio, value) for peer, lower, ratio, value in rows}
    first = rows[0]
    lower = first[1]
    must = goal["must"]
    if not goal["against"]:  # of the values themselves
        must /= first[3]["median"]
    elif goal["against"] != case["against"]:
        if goal["against"] not in by_peer:
            return None
        must *= by_peer[goal["against"]][1]["median"]
    return 1 / must if lower else must


def is_wanted(case, wanted):
    return not wanted or case["case"] in wanted or case["case"].split(".")[0] in wanted


def groups(results, wanted):
    """What is drawn: (title, [(peer, (median, low, high))], must)."""
    for case in results["cases"]:
        if not is_wanted(case, wanted) or "left_out" in case or not case.get("metrics"):
            continue
        goals = {}
        for goal in case.get("goals", []):
            if "must" in goal:
                goals.setdefault(goal["metric"], goal)
        for name in list(goals) or [case["metrics"][0]["metric"]]:
            rows = metric_rows(case, name)
            bars = [(peer, turned(ratio, lower)) for peer, lower, ratio, _ in rows
                    if ratio is not None]
            if not bars:
                continue
            must = must_of(case, goals[name], rows) if name in goals else None
            yield f"{case['case']}: {name}", f"1 = {case['against']}", bars, must


class Chart:
    """An SVG document that grows downwards."""

    def __init__(self):
        self.root = ET.Element("svg", xmlns="http://www.w3.org/2000/svg")
        self.y = TOP

    def text(self, x, y, words, size=12, anchor="start", fill=INK, weight="normal"):
        element = ET.SubElement(self.root, "text", {
            "x": f"{x:g}", "y": f"{y:g}", "font-family": FONT, "font-size": str(size),
            "text-anchor": anchor, "fill": fill, "font-weight": weight})
        element.text = words
        return element

    def rect(self, x, y, size, fill):
        ET.SubElement(self.root, "rect", {
            "x": f"{x:.1f}", "y": f"{y:g}", "width": f"{max(size[0], 1):.1f}",
            "height": f"{size[1]:g}", "fill": fill})

    def line(self, start, end, stroke, width=1.0):
        ET.SubElement(self.root, "line", {
            "x1": f"{start[0]:.1f}", "y1": f"{start[1]:g}", "x2": f"{end[0]:.1f}",
            "y2": f"{end[1]:g}", "stroke": stroke, "stroke-width": f"{width:g}"})

    def group(self, where, title, against, bars, must):
        note = ET.SubElement(self.text(8, self.y + 11, title, weight="bold"), "tspan", {
            "font-size": "10", "font-weight": "normal", "fill": "#616e7c", "dx": "10"})
        note.text = against
        self.y += BAR + 3
        first = self.y
        for peer, (median, low, high) in bars:
            ours = peer.startswith("numaperf")
            self.text(LABEL - 8, self.y + 11, peer, size=11, anchor="end")
            left, right = sorted((where(1), where(median)))
            self.rect(left, self.y + 2, (right - left, BAR - 4), OURS if ours else THEIRS)
            middle = self.y + BAR / 2
            self.line((where(low), middle), (where(high), middle), INK, 1.5)
            for end in (low, high):
                self.line((where(end), middle - 3), (where(end), middle + 3), INK, 1.5)
            digits = 3 if median < 0.1 else 2 if median < 10 else 1
            self.text(LABEL + PLOT + 12, self.y + 11, f"{median:.{digits}f}", size=10)
            self.y += BAR
        if must is not None:
            x = where(must)
            self.line((x, first - 2), (x, self.y + 2), MUST, 2)
            self.text(x, self.y + 11, f"must {must:.3g}", size=9, anchor="middle", fill=MUST)
            self.y += 6
        self.y += GAP


def draw(results, wanted):
    drawn = list(groups(results, wanted))
    extremes = [v for _, _, bars, must in drawn for _, values in bars for v in values]
    extremes += [must for _, _, _, must in drawn if must is not None] + [0.5, 2]
    low = math.floor(math.log2(max(min(extremes), SCALE_MIN)))
    high = math.ceil(math.log2(min(max(extremes), SCALE_MAX)))

    def where(value):
        at = (math.log2(min(max(value, 2 ** low), 2 ** high)) - low) / (high - low)
        return LABEL + at * PLOT

    chart = Chart()
    grid = ET.SubElement(chart.root, "g")  # below the bars: filled in when the height is known
    for title, against, bars, must in drawn:
        chart.group(where, title, against, bars, must)
    width = LABEL + PLOT + RIGHT
    height = chart.y + BOTTOM
    chart.root.set("viewBox", f"0 0 {width} {height:g}")
    chart.root.set("width", str(width))
    chart.root.set("height", f"{height:g}")
    head(chart, results)
    ET.SubElement(grid, "rect", {"width": "100%", "height": "100%", "fill": "white"})
    for power in range(low, high + 1):
        x = where(2.0 ** power)
        name = str(2 ** power) if power >= 0 else f"1/{2 ** -power}"
        ET.SubElement(grid, "line", {
            "x1": f"{x:.1f}", "y1": str(TOP - 8), "x2": f"{x:.1f}", "y2": f"{chart.y:g}",
            "stroke": INK if power == 0 else FAINT, "stroke-width": "1"})
        for y in (TOP - 12, chart.y + 14):
            chart.text(x, y, name, size=10, anchor="middle")
    return chart.root


def head(chart, results):
    machine, software = results["machine"], results["software"]
    chart.text(8, 22, "numaperf and its peers", size=17, weight="bold")
    chart.text(8, 40, "How many times as good as the case's first peer (= 1): median of paired "
               "rounds, whiskers are quartiles; right is better.", size=11)
    cpus = "; ".join(f"node {n['node']}: PUs {n['cpus']}" for n in machine["nodes"])
    rounds = sorted({c["repetitions"] for c in results["cases"] if "repetitions" in c})
    chart.text(8, 56, f"{machine['cpu']}, {cpus}; Linux {machine['kernel']}; {results['date']}; "
               f"{'/'.join(map(str, rounds))} rounds; numaperf {software['numaperf']}, "
               f"{software['build']}", size=11, fill="#616e7c")


def digits(value):
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def table(results, wanted):
    """Markdown: one row for each goal, with its figure as it is in the JSON, not turned round."""
    yield "| case | metric | of | must | aim | median (quartiles) | reached |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for case in results["cases"]:
        for goal in case.get("goals", []) if is_wanted(case, wanted) else []:
            unit = next((m["unit"] for m in case["metrics"] if m["metric"] == goal["metric"]), "")
            of = f"{goal['peer']} / {goal['against']}" if goal["against"] else \
                f"{goal['peer']}, {unit}"
            lower = any(m["lower_is_better"] for m in case["metrics"]
                        if m["metric"] == goal["metric"])
            sign = "≤" if lower else "≥"
            must, aim = (f"{sign} {goal[k]:g}" if k in goal else "" for k in ("must", "aim"))
            figure = goal.get("figure")
            said = "a peer is absent" if figure is None else \
                f"{digits(figure['median'])} ({digits(figure['q1'])}–{digits(figure['q3'])})"
            yield (f"| `{case['case']}` | {goal['metric']} | {of} | {must} | {aim} | {said} | "
                   f"{goal.get('reached', '')} |")


def main():
    if len(sys.argv) >= 3 and sys.argv[1] == "--table":
        with open(sys.argv[2], encoding="utf-8") as file:
            print("\n".join(table(json.load(file), sys.argv[3:])))
        return 0
    if len(sys.argv) < 3:
        print(__doc__, file=sys.stderr)
        return 2
    with open(sys.argv[1], encoding="utf-8") as file:
        results = json.load(file)
    root = draw(results, sys.argv[3:])
    ET.indent(root, space=" ")
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        file.write(ET.tostring(root, encoding="unicode") + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
