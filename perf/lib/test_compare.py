"""Tests of what perf/compare computes; run with `python3 -m unittest discover -s perf/lib -t perf`."""

import json
import sys
import unittest
import xml.dom.minidom

sys.dont_write_bytecode = True

from lib import chart, report, rows  # noqa: E402
from lib.idle import Footprint  # noqa: E402
from lib.load import Sample, check_body, sample  # noqa: E402
from lib.process import Failed, Stage, free_port, is_zombie  # noqa: E402
from lib.servers import Server  # noqa: E402

NUMBERS = {"requests": 1000, "microseconds": 2_000_000, "bytes": 500_000_000, "p50": 90, "p99": 400, "maximum": 900,
           "connect": 0, "read": 0, "write": 0, "status": 0, "timeout": 0}


def result(key, samples):
    [row] = [row for row in rows.ROWS if row.key == key]
    return rows.Result(row, samples)


def samples(*cpu_seconds):
    return [Sample(1000, 1.0, 1_000_000, 100, 200, cpu, cpu, "") for cpu in cpu_seconds]


class Samples(unittest.TestCase):
    def test_costs_follow_from_the_counts(self):
        made = sample("x", NUMBERS, cpu=0.01, core=0.5, text="")
        self.assertAlmostEqual(made.cpu_us_per_request, 10)
        self.assertAlmostEqual(made.requests_per_second, 500)
        self.assertAlmostEqual(made.cpu_seconds_per_gb, 0.02)
        self.assertAlmostEqual(made.busy, 0.005)
        self.assertAlmostEqual(made.strangers, 0.245)

    def test_any_error_wrk_saw_fails_the_round(self):
        for kind in ("connect", "read", "write", "status", "timeout"):
            with self.assertRaisesRegex(Failed, kind):
                sample("x", NUMBERS | {kind: 1}, 0.01, 0.01, "")
        with self.assertRaisesRegex(Failed, "not one request"):
            sample("x", NUMBERS | {"requests": 0}, 0.01, 0.01, "")


class Reports(unittest.TestCase):
    def setUp(self):
        memory = [Footprint(10_000, 0, 0, 20 << 20, 10 << 20)]
        self.results = [
            result("a64", {"one-server": samples(0.004, 0.006, 0.005), "nginx": samples(0.01, 0.011, 0.009)}),
            result("e-proxy", {"one-server": memory, "haproxy": [Footprint(10_000, 0, 0, 60 << 20, 30 << 20)]}),
        ]
        failed = result("c64", {})
        failed.failure = "wrk saw <errors>"
        self.results.append(failed)
        self.facts = [("cpu", "A & B <C>"), ("kernel", "Linux"), ("nginx", "1.2")]

    def test_cost_is_the_median_and_ratios_are_against_one_server(self):
        ours, nginx = report.lines(self.results[0])
        self.assertAlmostEqual(ours.cost, 5)
        self.assertAlmostEqual(nginx.cost_max, 11)
        self.assertAlmostEqual(nginx.ratio, 2)
        self.assertAlmostEqual(report.lines(self.results[1])[1].ratio, 3)

    def test_without_one_server_there_is_no_ratio(self):
        [line] = report.lines(result("a64", {"nginx": samples(0.01)}))
        self.assertIsNone(line.ratio)
        self.assertEqual(report.ratio_text(line), "")

    def test_text_shows_numbers_and_failures(self):
        self.assertIn("2.00×", report.text(self.results[0]))
        self.assertIn("FAILED: wrk saw <errors>", report.text(self.results[2]))

    def test_markdown_has_as_many_cells_as_its_header(self):
        lines = report.markdown(self.results, self.facts).splitlines()
        tables = [line for line in lines if line.startswith("|")][:5]
        self.assertEqual({line.count("|") for line in tables}, {tables[0].count("|")})
        self.assertIn("| failed |", tables[4])

    def test_json_keeps_every_sample(self):
        document = json.loads(report.as_json(self.results, self.facts, []))
        self.assertEqual(len(document["rows"][0]["samples"]["nginx"]), 3)
        self.assertEqual(document["rows"][2]["failure"], "wrk saw <errors>")

    def test_the_chart_is_xml_with_a_bar_for_each_server(self):
        drawing = xml.dom.minidom.parseString(chart.svg(self.results, self.facts))
        bars = [rect for rect in drawing.getElementsByTagName("rect") if "bar" in rect.getAttribute("class")]
        self.assertEqual(len(bars), 4)
        self.assertGreater(float(bars[1].getAttribute("width")), float(bars[0].getAttribute("width")))

    def test_a_disturbed_run_says_so(self):
        disturbed = [Sample(1000, 1.0, 1, 1, 1, 0.5, 0.9, "")]
        [note] = report.warnings(result("a64", {"nginx": disturbed}))
        self.assertIn("not quiet", note)


class Processes(unittest.TestCase):
    def test_the_stage_stops_what_it_started_and_removes_its_folder(self):
        with Stage() as stage:
            process = stage.start("sleeper", ["sh", "-c", "sleep 60 & wait"], 0)
            process.wait_ready(lambda: self.needs_child(process))
            tree = process.tree()
        self.assertFalse(stage.folder.exists())
        for pid in tree:
            self.assertTrue(is_zombie(pid), f"process {pid} outlived its stage")

    def needs_child(self, process):
        if len(process.tree()) < 2:
            raise OSError("no child yet")

    def test_a_server_that_ends_is_reported_with_its_last_words(self):
        with Stage() as stage:
            process = stage.start("dying", ["sh", "-c", "echo no port left; exit 3"], 0)
            with self.assertRaisesRegex(Failed, "status 3:\nno port left"):
                check_body(Server("dying", free_port(), [process]), "/", None)

    def test_time_on_a_core_is_counted_for_the_whole_tree(self):
        with Stage() as stage:
            spin = "import time\nwhile time.process_time() < 0.3: pass\ntime.sleep(60)"
            process = stage.start("spinner", ["sh", "-c", f"{sys.executable} -c '{spin}' & wait"], 0)
            process.wait_ready(lambda: self.needs_time(process))
            self.assertLess(process.cpu_seconds(), 2)

    def needs_time(self, process):
        if process.cpu_seconds() < 0.3:
            raise OSError("not yet")


if __name__ == "__main__":
    unittest.main()
