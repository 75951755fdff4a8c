"""The chart: one bar per server and row, as SVG that reads well on light and dark pages and needs no font of its own."""

from xml.sax.saxutils import escape

from .report import UNITS, cost_text, lines, name, ratio_text, reached
from .rows import OURS

WIDTH = 860
LEFT = 200  # where bars begin
RIGHT = 150  # room for the numbers behind the longest bar
BAR, GAP = 16, 5
HEADINGS = {
    "us": "CPU of the server per request, µs",
    "s_per_gb": "CPU of the server per GB, s",
    "us_handshake": "CPU of the server per TLS 1.3 handshake with one request, µs",
    "us_question": "CPU of the server per question and answer over UDP, µs",
    "us_query": "CPU of the proxy per query of MySQL, µs",
    "s_result": "time of a long result of MySQL, s",
    "us_front": "CPU of the server in front of an application per request, µs",
    "ms_page": "time per page of an application, ms",
    "us_p99": "p99 at a constant rate, from when a request was due, µs",
    "bytes": "memory of the server per idle keep-alive connection, KiB",
}

STYLE = """\
text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: #1f2328; }
.page { fill: #ffffff; stroke: #d1d9e0; }
.title { font-size: 17px; font-weight: 600; }
.heading { font-weight: 600; }
.row { font-size: 13px; fill: #3c444d; }
.small { font-size: 11px; fill: #59636e; }
.server { text-anchor: end; }
.ratio { font-weight: 600; }
.met { font-size: 11px; fill: #1a7f37; }
.missed { font-size: 11px; fill: #cf222e; }
.rule { stroke: #d1d9e0; }
.bar { fill: #8c959f; }
.ours { fill: #0969da; }
.floor { fill: #c8d1da; }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; }
  .page { fill: #0d1117; stroke: #3d444d; }
  .row { fill: #d1d7e0; }
  .small { fill: #9198a1; }
  .met { fill: #3fb950; }
  .missed { fill: #f85149; }
  .rule { stroke: #3d444d; }
  .bar { fill: #6e7681; }
  .ours { fill: #4493f8; }
  .floor { fill: #3d444d; }
}"""


class Drawing:
    """Lines of SVG, from the top down."""

    def __init__(self):
        self.parts, self.y = [], 36

    def text(self, x, words, kind, y=None):
        self.parts.append(f'<text x="{x:.1f}" y="{self.y if y is None else y:.1f}" class="{kind}">{words}</text>')

    def bar(self, width, kind):
        self.parts.append(f'<rect x="{LEFT}" y="{self.y:.1f}" width="{max(width, 1):.1f}" height="{BAR}" rx="2" class="{kind}"/>')

    def rule(self):
        self.parts.append(f'<line x1="24" x2="{WIDTH - 24}" y1="{self.y}" y2="{self.y}" class="rule"/>')


def svg(results, facts):
    """The chart of all rows that have numbers. Shorter is better; the ratio is against one-server in the same run."""
    drawing = Drawing()
    drawing.text(24, "What a request costs the server", "title")
    drawing.y += 20
    drawing.text(24, f"shorter is better · × = against {OURS} in the same run · medians · one core for the server", "small")
    for unit in UNITS:
        rows = [result for result in results if result.row.unit == unit and result.samples]
        if rows:
            section(drawing, unit, rows)
    drawing.y += 22
    facts = dict(facts)
    drawing.text(24, escape(" · ".join(str(facts[key]) for key in ("cpu", "kernel") if key in facts)[:130]), "small")
    versions = [f"{key} {value}" for key, value in facts.items() if key in ("nginx", "haproxy", "wrk", "h2load")]
    drawing.y += 16
    drawing.text(24, escape(" · ".join(versions)[:130]), "small")
    height = drawing.y + 20
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img"'
        ' aria-label="CPU per request and memory per connection, by server">',
        f"<style>{STYLE}</style>",
        f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="6" class="page"/>',
        *drawing.parts,
        "</svg>",
    ]) + "\n"


def section(drawing, unit, rows):
    """Rows of one unit, on one scale."""
    drawing.y += 18
    drawing.rule()
    drawing.y += 24
    drawing.text(24, HEADINGS[unit], "heading")
    longest = max(line.cost for result in rows for line in lines(result))
    scale = (WIDTH - LEFT - RIGHT) / longest if longest > 0 else 0
    for result in rows:
        drawing.y += 26
        drawing.text(LEFT, escape(result.row.title) + target_words(result), "row")
        drawing.y += 8
        for line in lines(result):
            one_bar(drawing, result, line, scale)


def target_words(result):
    """Behind the title of a row; nothing where it has no target."""
    return "".join(
        f'<tspan class="{"met" if one.is_met else "missed"}" dx="10">{escape(str(one).replace("target ", ""))}</tspan>'
        for one in reached(result))


def one_bar(drawing, result, line, scale):
    kind = {OURS: "bar ours", "floor": "bar floor"}.get(line.server, "bar")
    baseline = drawing.y + BAR - 4
    drawing.text(LEFT - 10, escape(SHORT.get(line.server, name(line.server))), "server", baseline)
    drawing.bar(max(line.cost, 0) * scale, kind)
    numbers = escape(cost_text(result, line.cost))
    if ratio_text(line):
        numbers += f' <tspan class="ratio">{escape(ratio_text(line))}</tspan>'
    drawing.text(LEFT + max(line.cost, 0) * scale + 8, numbers, "number", baseline)
    drawing.y += BAR + GAP


# What fits beside a bar.
SHORT = {"classic": "nginx → HAProxy → hyper"}
