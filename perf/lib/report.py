"""What a run says: medians, spreads and ratios, as text, markdown and JSON."""

import dataclasses
import json
import statistics

from .rows import OURS

# What a row is about: how to take it from a sample, how to print it, and the words for it.
UNITS = {
    "us": (lambda sample: sample.cpu_us_per_request, "{:.2f} µs", "CPU per request"),
    "s_per_gb": (lambda sample: sample.cpu_seconds_per_gb, "{:.3f} s", "CPU per GB"),
    "us_handshake": (lambda sample: sample.cpu_us_per_request, "{:.1f} µs", "CPU per handshake"),
    "bytes": (lambda footprint: footprint.pss_per_connection / 1024, "{:.2f} KiB", "memory per idle connection"),
}
NAMES = {"haproxy": "HAProxy", "classic": "nginx → HAProxy → axum on hyper"}
BUSY_ENOUGH = 0.95
STRANGERS_MAX = 0.05


@dataclasses.dataclass(frozen=True)
class Line:
    """One server in one row, all rounds made one."""

    server: str
    cost: float  # median of what the row is about
    cost_min: float
    cost_max: float
    ratio: float | None  # cost against ours in the same run; None: we were not measured
    cells: dict  # the other columns, printed


@dataclasses.dataclass(frozen=True)
class Target:
    """What a row should come to, and what it came to. Shares of what nginx takes: below 1 is less than nginx."""

    share: float
    share_max: float

    @property
    def is_met(self):
        return self.share <= self.share_max

    def __str__(self):
        return f"{self.share:.3f} of nginx, target ≤ {self.share_max:.2f}: {'met' if self.is_met else 'MISSED'}"


def target(result):
    """None: the row has no target, or one of the two was not measured."""
    costs = {line.server: line.cost for line in lines(result)}
    if result.row.target is None or OURS not in costs or not costs.get("nginx"):
        return None
    return Target(costs[OURS] / costs["nginx"], result.row.target)


def name(server):
    return NAMES.get(server, server)


def lines(result):
    """The servers of a row in their order, or nothing when it failed."""
    take, _, _ = UNITS[result.row.unit]
    costs = {server: [take(sample) for sample in samples] for server, samples in result.samples.items()}
    ours = statistics.median(costs[OURS]) if OURS in costs else None
    made = []
    for server, values in costs.items():
        cost = statistics.median(values)
        ratio = cost / ours if ours else None
        made.append(Line(server, cost, min(values), max(values), ratio, cells(result, result.samples[server])))
    return made


def cells(result, samples):
    """The columns beside the cost."""
    def median(take):
        return statistics.median(take(sample) for sample in samples)

    if result.row.unit == "bytes":
        return {
            "RSS per connection": f"{median(lambda f: f.rss_per_connection) / 1024:.2f} KiB",
            "without connections": f"{median(lambda f: f.pss_before) / 2**20:.1f} MiB",
            f"with {samples[0].connections:,}": f"{median(lambda f: f.pss_idle) / 2**20:.1f} MiB",
        }
    latency = {}
    if all(sample.p50_us is not None for sample in samples):
        latency = {"p50": f"{median(lambda s: s.p50_us):,.0f} µs", "p99": f"{median(lambda s: s.p99_us):,.0f} µs"}
    busy = {"core used": f"{median(lambda s: s.busy):.0%}"}
    if result.row.unit == "s_per_gb":
        return {"MB/s": f"{median(lambda s: s.megabytes_per_second):,.0f}", **latency, **busy}
    if result.row.unit == "us_handshake":
        given = {"tickets each": f"{median(lambda s: s.tickets):.1f}"}
        return {"handshakes/s": f"{median(lambda s: s.requests_per_second):,.0f}", **latency, **busy, **given}
    return {"requests/s": f"{median(lambda s: s.requests_per_second):,.0f}", **latency, **busy}


def cost_text(result, value):
    return UNITS[result.row.unit][1].format(value)


def ratio_text(line):
    """How much more than one-server this server needs; nothing for one-server itself."""
    return "" if line.ratio is None or line.server == OURS else f"{line.ratio:.2f}×"


def warnings(result):
    """Reasons to doubt a row, in words."""
    if result.row.unit == "bytes":
        return []
    found = []
    for server, samples in result.samples.items():
        busy = statistics.median(sample.busy for sample in samples)
        strangers = max(sample.strangers for sample in samples)
        if strangers > STRANGERS_MAX:
            found.append(f"something else took up to {strangers:.0%} of the server core while {name(server)} was measured: "
                         "the machine is not quiet")
        elif busy < BUSY_ENOUGH and result.row.connections > 1:
            found.append(f"{name(server)} used {busy:.0%} of its core: its requests/s are the limit of the load or the "
                         "backend, so compare the CPU")
    return found


def table(header, rows_):
    """Columns as wide as they must be; the first one to the left, the others to the right."""
    widths = [max(len(str(row[i])) for row in [header, *rows_]) for i in range(len(header))]
    return "\n".join(
        "  " + "  ".join(str(cell).ljust(width) if i == 0 else str(cell).rjust(width)
                         for i, (cell, width) in enumerate(zip(row, widths)))
        for row in [header, *rows_])


def text(result):
    """One row for the terminal."""
    title = f"{result.row.key}  {result.row.title}"
    if result.failure:
        return f"{title}\n  FAILED: {result.failure}"
    made = lines(result)
    _, _, words = UNITS[result.row.unit]
    header = ["server", words, "min – max", f"against {OURS}", *made[0].cells]
    rows_ = [
        [name(line.server), cost_text(result, line.cost),
         f"{cost_text(result, line.cost_min)} – {cost_text(result, line.cost_max)}", ratio_text(line), *line.cells.values()]
        for line in made
    ]
    extra = [f"  target: {reached}"] if (reached := target(result)) else []
    extra += [f"  all with {result.negotiated}"] if result.negotiated else []
    return "\n".join([title, table(header, rows_), *extra, *(f"  note: {warning}" for warning in warnings(result))])


def targets(results):
    """All rows that have a target, for the end of a run; empty when there are none."""
    rows_ = []
    for result in results:
        reached = target(result)
        if reached:
            rows_.append([result.row.title, f"{reached.share:.3f}", f"≤ {reached.share_max:.2f}", met_text(reached)])
        elif result.failure and result.row.target is not None:
            rows_.append([result.row.title, "failed", f"≤ {result.row.target:.2f}", "no"])
    return "targets\n" + table([f"{OURS} against nginx", "share", "target", "met"], rows_) + "\n" if rows_ else ""


def met_text(reached):
    return "yes" if reached.is_met else "no"


def markdown(results, facts):
    """Tables for a README: the costs side by side, then everything that was measured."""
    servers = []
    for result in results:
        servers.extend(server for server in result.samples if server not in servers and server != OURS)
    head = ["comparison", OURS, *(name(server) for server in servers), "share of nginx", "target", "met"]
    out = ["CPU of all server processes per request or handshake (per GB for large files), or memory per idle connection; "
           f"in brackets how much that is against {OURS} in the same run. The share is the other way round: what {OURS} "
           "takes of what nginx takes.", "", markdown_row(head),
           markdown_row(["---"] + ["---:"] * (len(head) - 1))]
    for result in results:
        by_server = {line.server: line for line in lines(result)}
        row = [result.row.title]
        for server in [OURS, *servers]:
            line = by_server.get(server)
            bracket = f" ({ratio_text(line)})" if line and ratio_text(line) else ""
            row.append(cost_text(result, line.cost) + bracket if line else "failed" if result.failure else "–")
        out.append(markdown_row(row + target_cells(result)))
    for result in results:
        made = lines(result)
        if made:
            head = ["server", UNITS[result.row.unit][2], "min – max", *made[0].cells]
            out += ["", f"**{result.row.title}**", "", markdown_row(head), markdown_row(["---"] + ["---:"] * (len(head) - 1))]
            out += [markdown_row([name(line.server), cost_text(result, line.cost),
                                  f"{cost_text(result, line.cost_min)} – {cost_text(result, line.cost_max)}",
                                  *line.cells.values()]) for line in made]
            out += ["", f"All with {result.negotiated}."] if result.negotiated else []
    out += ["", "Measured on: " + "; ".join(f"{label} {value}" for label, value in facts) + "."]
    return "\n".join(out) + "\n"


def target_cells(result):
    """Share of nginx, target, met."""
    if result.row.target is None:
        return ["–", "–", "–"]
    reached = target(result)
    if reached is None:
        return ["–", f"≤ {result.row.target:.2f}", "–"]
    return [f"{reached.share:.3f}", f"≤ {reached.share_max:.2f}", met_text(reached) if reached.is_met else "**no**"]


def markdown_row(row):
    return "| " + " | ".join(row) + " |"


def as_json(results, facts, arguments):
    """Everything, raw numbers and printouts of the load included."""
    document = {"measured_on": dict(facts), "arguments": arguments, "rows": []}
    for result in results:
        reached = target(result)
        document["rows"].append({
            "row": dataclasses.asdict(result.row),
            "failure": result.failure or None,
            "target": {**dataclasses.asdict(reached), "is_met": reached.is_met} if reached else None,
            "negotiated": result.negotiated or None,
            "warnings": warnings(result),
            "medians": [{"server": line.server, "cost": line.cost, "cost_min": line.cost_min, "cost_max": line.cost_max,
                         "ratio": line.ratio, **line.cells} for line in lines(result)],
            "samples": {server: [dataclasses.asdict(sample) for sample in samples]
                        for server, samples in result.samples.items()},
            "commands": result.commands,
            "configs": result.configs,
        })
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"
