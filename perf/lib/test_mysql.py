"""Tests of the rows of MySQL: which there are, and what they share."""

import contextlib
import importlib.machinery
import importlib.util
import io
import sys
import unittest
from unittest import mock

sys.dont_write_bytecode = True

from lib import machine, rows  # noqa: E402
from lib.process import Failed  # noqa: E402

MYSQL = [row for row in rows.ROWS if row.group == "mysql"]


def compare():
    """The program itself, as a module."""
    loader = importlib.machinery.SourceFileLoader("compare", str(machine.ROOT / "perf/compare"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("compare", loader))
    loader.exec_module(module)
    return module


def keys(*words):
    """What `perf/compare` measures for these words: servers by row."""
    with mock.patch.object(sys, "argv", ["compare", *words]):
        tool = compare()
        return {row.key: row.servers for row in tool.choose(tool.parse())}


def refusal(*words):
    with contextlib.redirect_stderr(io.StringIO()), unittest.TestCase().assertRaises(SystemExit) as raised:
        keys(*words)
    return str(raised.exception)


class Chosen(unittest.TestCase):
    def test_every_job_is_there_with_16_to_512_clients_with_and_without_prepared_statements(self):
        jobs = {(row.workload, row.connections, row.prepared) for row in MYSQL if row.tool == "sysbench"}
        workloads = ("oltp_point_select", "oltp_read_only", "oltp_read_write")
        self.assertEqual(jobs, {(name, clients, ps) for name in workloads for clients in (16, 64, 512) for ps in (False, True)})
        self.assertEqual(set(keys("mysql")), {row.key for row in MYSQL})
        for row in MYSQL:
            self.assertEqual(row.key.endswith("-ps"), row.prepared)

    def test_all_of_them_take_less_than_a_quarter_of_an_hour(self):
        seconds, warm_up, starting = 3, 1, 0.5
        load = [row for row in MYSQL if row.tool == "sysbench"]
        total = sum(len(row.servers) * (warm_up + row.rounds * seconds + starting * (1 + row.rounds)) for row in load)
        self.assertLess(total, 12 * 60)  # what is left is for 512 clients to come and go, and for the other rows

    def test_rows_are_chosen_by_group_key_and_pattern(self):
        self.assertEqual(list(keys("--rows", "q-read*-ps,q-rows")), ["q-read16-ps", "q-read64-ps", "q-read512-ps", "q-rows"])
        self.assertEqual(list(keys("mysql", "--rows", "q-write512")), ["q-write512"])
        self.assertEqual(list(keys("--rows", "b")), ["b64", "b4"], "a letter is a group and not a pattern")
        self.assertIn("no row q-nothing*; there are a1,", refusal("--rows", "q-nothing*"))


class Shared(unittest.TestCase):
    class Database:
        made = []

        def __init__(self, stage, paths, core):
            self.stage, self.settled = stage, 0
            self.made.append(self)

        def settle(self):
            self.settled += 1

    def test_rows_share_the_servers_of_mysql_until_one_fails(self):
        plan, nothing = rows.Plan(None, 1, 1, 1, 0, 1), lambda *_, **__: None
        outcomes = [None, None, Failed("no luck"), None]
        rounds = []

        def measure(bench, result, say):
            rounds.append(bench.plan.rounds)
            if (outcome := outcomes.pop(0)):
                raise outcome

        self.Database.made = []
        with mock.patch.object(rows.database, "Database", self.Database), mock.patch.object(rows, "load_rounds", measure):
            with rows.Common(plan, {"sysbench": "x"}) as common:
                results = [rows.run(row, plan, common.paths, nothing, common) for row in MYSQL[:4]]
        self.assertEqual([result.failure for result in results], ["", "", "no luck", ""])
        self.assertEqual([one.settled for one in self.Database.made], [3, 1])
        self.assertEqual(rounds, [3, 3, 3, 3], "as many as the rows want")
        self.assertFalse(any(one.stage.folder.exists() for one in self.Database.made))


if __name__ == "__main__":
    unittest.main()
