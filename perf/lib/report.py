"""What a run says: medians, spreads and ratios, as text, markdown and JSON."""

import dataclasses
import json
import statistics

from .rows import OURS, RATE_ROUNDS, RATE_SHARE

# What a row is about: how to take it from a sample, how to print it, and the words for it.
UNITS = {
    "us": (lambda sample: sample.cpu_us_per_request, "{:.2f} µs", "CPU per request"),
    "s_per_gb": (lambda sample: sample.cpu_seconds_per_gb, "{:.3f} s", "CPU per GB"),
    "us_handshake": (lambda sample: sample.cpu_us_per_request, "{:.1f} µs", "CPU per handshake"),
    "us_question": (lambda sample: sample.cpu_us_per_request, "{:.2f} µs", "CPU per question"),
    "us_query": (lambda sample: sample.cpu_us_per_request, "{:.2f} µs", "CPU per query"),
    "s_result": (lambda sample: sample.seconds / sample.requests, "{:.3f} s", "time"),
    "us_front": (lambda sample: sample.front_us_per_request, "{:.1f} µs", "CPU of the server in front per request"),
    "ms_page": (lambda sample: sample.ms_per_request, "{:.2f} ms", "time per page"),
    "us_p99": (lambda sample: sample.p99_us, "{:,.0f} µs", "p99"),
    "bytes": (lambda footprint: footprint.pss_per_connection / 1024, "{:.2f} KiB", "memory per idle connection"),
}
NAMES = {"haproxy": "HAProxy", "proxysql": "ProxySQL", "classic": "nginx → HAProxy → axum on hyper", "one-route": "one server, one route", "direct": "nobody between",
         "files": "its file tier alone", "nginx-keepalive": "nginx, keeping connections"}
BUSY_ENOUGH = 0.95
STRANGERS_MAX = 0.05
# Of a load of a constant rate: it got so much of that rate answered, and its own lateness is no more than so much of a p99.
RATE_REACHED = 0.98
LAG_MAX = 0.50


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
    """What a row should come to, and what it came to. Shares of what the peer takes: below 1 is less than the peer. Without a
    peer it is no share but what we take."""

    peer: str
    share: float
    share_max: float
    what: str = ""  # where it is not the cost of the row
    form: str = ""  # how it is printed where it is no share

    @property
    def is_met(self):
        return self.share <= self.share_max

    def __str__(self):
        met = "met" if self.is_met else "MISSED"
        return f"{self.what}{self.taken}, target {self.limit}: {met}"

    @property
    def taken(self):
        return f"{self.share:.3f} of {name(self.peer)}" if self.peer else self.form.format(self.share)

    @property
    def limit(self):
        return f"≤ {(self.form or '{:.2f}').format(self.share_max)}"


def wanted(result):
    """The targets about the cost of a row: a peer and the share of it, or nobody and a cost."""
    own = [] if result.row.cost_max is None else [("", result.row.cost_max)]
    return [*result.row.targets.items(), *own]


def reached(result):
    """The targets of a row, without those of which one of the two was not measured."""
    costs = {line.server: line.cost for line in lines(result)}
    made = [Target(peer, costs[OURS] / costs[peer], share_max) for peer, share_max in result.row.targets.items()
            if OURS in costs and costs.get(peer)]
    if result.row.cost_max is not None and OURS in costs:
        made.append(Target("", costs[OURS], result.row.cost_max, form=UNITS[result.row.unit][1]))
    if result.row.time_max:
        times = {server: statistics.median(sample.ms_per_request for sample in samples) for server, samples in result.samples.items()}
        made += [Target(peer, times[OURS] / times[peer], share_max, "time per request, ")
                 for peer, share_max in result.row.time_max.items() if OURS in times and peer in times]
    if result.row.added_max and {OURS, "direct", *result.row.added_max} <= set(result.samples):
        p99 = {server: statistics.median(sample.p99_us for sample in samples) for server, samples in result.samples.items()}
        added = {server: max(p99[server] - p99["direct"], 1) for server in p99}
        made += [Target(peer, added[OURS] / added[peer], share_max, "p99 added, ") for peer, share_max in result.row.added_max.items()]
    return made


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
    if result.row.unit == "us_question":
        return {"questions/s": f"{median(lambda s: s.requests_per_second):,.0f}", **latency, **busy}
    if result.row.unit in ("us_front", "ms_page"):
        whole = {"CPU with the application": f"{median(lambda s: s.cpu_us_per_request):,.1f} µs"}
        front = {"of that in front": f"{median(lambda s: s.front_us_per_request):,.1f} µs"}
        return {"requests/s": f"{median(lambda s: s.requests_per_second):,.0f}", **latency, **whole, **front, **busy}
    if result.row.unit == "s_result":
        return {"CPU": f"{median(lambda s: s.cpu_seconds):.3f} s", **busy}
    if result.row.unit == "us_query":
        direct = result.samples.get("direct")
        added = median(lambda s: s.p99_us) - statistics.median(s.p99_us for s in direct) if direct else None
        late = {"p99 added": "–" if added is None or samples is direct else f"{added:,.0f} µs"}
        return {"queries/s": f"{median(lambda s: s.requests_per_second):,.0f}", **latency, **late, **busy}
    if result.row.unit == "us_p99":
        own = {"CPU per request": f"{median(lambda s: s.cpu_us_per_request):.2f} µs"}
        late = {"load late, p99": f"{median(lambda s: s.lag_p99_us):,.0f} µs"}
        early = {"p50": latency["p50"], "p90": f"{median(lambda s: s.p90_us):,.0f} µs"}
        return {"requests/s": f"{median(lambda s: s.requests_per_second):,.0f}", **early, **own, **busy, **late}
    return {"requests/s": f"{median(lambda s: s.requests_per_second):,.0f}", **latency, **busy}


def cost_text(result, value):
    if value == 0:
        return "–"  # nobody is between
    return UNITS[result.row.unit][1].format(value)


def spread_text(result, line):
    least, most = cost_text(result, line.cost_min), cost_text(result, line.cost_max)
    return least if line.cost_max == 0 else f"{least} – {most}"


def ratio_text(line):
    """How much more than one-server this server needs; nothing for one-server itself."""
    return "" if not line.ratio or line.server == OURS else f"{line.ratio:.2f}×"


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
        elif 0 < busy < BUSY_ENOUGH and result.row.connections > 1 and not result.row.rate:
            found.append(f"{name(server)} used {busy:.0%} of its core: its requests/s are the limit of the load or the "
                         "backend, so compare the CPU")
    return found + rate_warnings(result)


def rate_warnings(result):
    """Of a row whose load has a constant rate: whether the rate was the right one, was offered and was answered."""
    if not result.row.rate or not result.samples:
        return []
    found = []
    if (busy := statistics.median(sample.busy for sample in result.top)) < BUSY_ENOUGH:
        found.append(f"at its top rate {name(result.row.rate_of)} used {busy:.0%} of its core: that rate is the limit of the "
                     "load or the backend")
    for server, samples in result.samples.items():
        rate, lag, p99 = (statistics.median(values) for values in zip(
            *((sample.requests_per_second, sample.lag_p99_us, sample.p99_us) for sample in samples)))
        if rate < RATE_REACHED * result.row.rate:
            found.append(f"{name(server)} answered {rate:,.0f} of {result.row.rate:,} requests/s: it did not keep up, so its "
                         "times grow with the length of a round")
        if lag > LAG_MAX * p99:
            found.append(f"the load on {name(server)} was itself late by {lag:,.0f} µs (p99): much of its times is the load "
                         "core's")
    return found


def offered(result):
    """What the load of a constant rate was, in words; empty for other rows."""
    if not result.row.rate:
        return ""
    top = statistics.median(sample.requests_per_second for sample in result.top)
    return (f"offered: {result.row.rate:,} requests/s, {RATE_SHARE:.0%} of {name(result.row.rate_of)}'s top rate in this run "
            f"({top:,.0f}, median of {RATE_ROUNDS} rounds)")


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
        [name(line.server), cost_text(result, line.cost), spread_text(result, line), ratio_text(line), *line.cells.values()]
        for line in made
    ]
    extra = [f"  target: {one}" for one in reached(result)]
    extra += [f"  {offered(result)}"] if offered(result) else []
    extra += [f"  {result.stalls.text()}"] if result.stalls else []
    extra += [f"  all with {result.negotiated}"] if result.negotiated else []
    return "\n".join([title, table(header, rows_), *extra, *(f"  note: {warning}" for warning in warnings(result))])


def targets(results):
    """All rows that have a target, for the end of a run; empty when there are none."""
    rows_ = []
    for result in results:
        for one in reached(result):
            share = f"{one.share:.3f}" if one.peer else one.taken
            rows_.append([result.row.title, one.what + (name(one.peer) or "–"), share, one.limit, met_text(one)])
        for peer, most in wanted(result) if result.failure else ():
            rows_.append([result.row.title, name(peer) or "–", "failed", f"≤ {most:.2f}", "no"])
    return "targets\n" + table([OURS, "against", "share", "target", "met"], rows_) + "\n" if rows_ else ""


def met_text(target):
    return "yes" if target.is_met else "no"


def markdown(results, facts):
    """Tables for a README: the costs side by side, then everything that was measured."""
    servers = []
    for result in results:
        servers.extend(server for server in result.samples if server not in servers and server != OURS)
    head = ["comparison", OURS, *(name(server) for server in servers), "share", "target", "met"]
    out = ["CPU of all server processes per request or handshake (per GB for large files), memory per idle connection, or p99; "
           f"in brackets how much that is against {OURS} in the same run. The share is the other way round: what {OURS} "
           "takes of what the peer takes.", "", markdown_row(head),
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
            out += [markdown_row([name(line.server), cost_text(result, line.cost), spread_text(result, line), *line.cells.values()]) for line in made]
            out += ["", f"All with {result.negotiated}."] if result.negotiated else []
            out += ["", f"{offered(result)[0].upper()}{offered(result)[1:]}."] if offered(result) else []
    out += ["", "Measured on: " + "; ".join(f"{label} {value}" for label, value in facts) + "."]
    return "\n".join(out) + "\n"


def target_cells(result):
    """Share, target and met; of several targets, one below the other."""
    made = {one.peer: one for one in reached(result) if not one.what}
    cells_ = []
    for peer, most in wanted(result):
        if one := made.get(peer):
            cells_.append([one.taken, one.limit, met_text(one) if one.is_met else "**no**"])
        else:
            cells_.append([f"– of {name(peer)}" if peer else "–", f"≤ {most:.2f}", "–"])
    return ["<br>".join(column) for column in zip(*cells_)] or ["–", "–", "–"]


def markdown_row(row):
    return "| " + " | ".join(row) + " |"


def as_json(results, facts, arguments):
    """Everything, raw numbers and printouts of the load included."""
    document = {"measured_on": dict(facts), "arguments": arguments, "rows": []}
    for result in results:
        document["rows"].append({
            "row": dataclasses.asdict(result.row),
            "failure": result.failure or None,
            "targets": [{**dataclasses.asdict(one), "is_met": one.is_met} for one in reached(result)],
            "negotiated": result.negotiated or None,
            "warnings": warnings(result),
            "medians": [{"server": line.server, "cost": line.cost, "cost_min": line.cost_min, "cost_max": line.cost_max,
                         "ratio": line.ratio, **line.cells} for line in lines(result)],
            "samples": {server: [dataclasses.asdict(sample) for sample in samples]
                        for server, samples in result.samples.items()},
            "top": [dataclasses.asdict(sample) for sample in result.top],
            "stalls": dataclasses.asdict(result.stalls) if result.stalls else None,
            "commands": result.commands,
            "configs": result.configs,
        })
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"
