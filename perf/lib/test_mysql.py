"""Tests of the rows of MySQL: which there are, what they share, and ProxySQL, for which a program stands in that speaks no MySQL."""

import contextlib
import importlib.machinery
import importlib.util
import io
import os
import socket
import sys
import unittest
from types import SimpleNamespace
from unittest import mock

sys.dont_write_bytecode = True

from lib import machine, proxysql, report, rows  # noqa: E402
from lib.idle import Footprint  # noqa: E402
from lib.load import Sample  # noqa: E402
from lib.process import Failed, Stage, free_port  # noqa: E402
from lib.servers import Starter  # noqa: E402

DATABASE = SimpleNamespace(primary=SimpleNamespace(port=3301), replica=SimpleNamespace(port=3302))
MYSQL = [row for row in rows.ROWS if row.group == "mysql"]

# In place of proxysql: wants its command line as it is documented and a config that names its ports, then takes connections at both.
STAND_IN = f"""\
#!{sys.executable}
import re, select, socket, sys
if sys.argv[1:] == ["--version"]:
    sys.exit(print("ProxySQL version 2.7.3-12-g50b7f85, codename Truls"))
idle, foreground, c, config, d, folder = sys.argv[1:]
assert (idle, foreground, c, d) == ("--idle-threads", "-f", "-c", "-D"), sys.argv
text = open(config).read()
assert f'datadir = "{{folder}}"' in text, text
ports = [int(re.search(rf' {{key}} = "127.0.0.1:([0-9]+)"', text).group(1)) for key in ("mysql_ifaces", "interfaces")]
if {{refuse!r}} in text:
    sys.exit("bind(): Address already in use")
listening = [socket.create_server(("127.0.0.1", port)) for port in ports]
while True:
    for one in select.select(listening, [], [])[0]:
        one.accept()
"""

# In place of the client: says what servers there are if somebody takes connections at the port.
CLIENT = f"""\
#!{sys.executable}
import socket, sys
[port] = [int(word[2:]) for word in sys.argv if word.startswith("-P")]
assert {{"-h127.0.0.1", "-uadmin", "-padmin", "--no-defaults", "-N", "-B"}} <= set(sys.argv), sys.argv
assert "FROM runtime_mysql_servers" in sys.argv[-1], sys.argv
try:
    socket.create_connection(("127.0.0.1", port))
except OSError as error:
    sys.exit(f"ERROR 2002 (HY000): Can't connect: {{error}}")
print("10\\t3301\\n20\\t3302")
"""


def program(folder, name, text):
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


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
    def setUp(self):
        environment = {name: value for name, value in os.environ.items() if name != "PROXYSQL"}
        patch = mock.patch.dict(os.environ, environment, clear=True)
        patch.start()
        self.addCleanup(patch.stop)

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

    def test_proxysql_is_measured_where_somebody_names_it(self):
        self.assertEqual(keys("--rows", "q-rows,e-mysql"), {
            "q-rows": ("one-server", "haproxy", "direct"), "e-mysql": ("one-server", "haproxy")})
        self.assertIn("with --proxysql PATH or PROXYSQL=PATH", refusal("mysql", "--only", "proxysql"))
        with mock.patch.dict(os.environ, {"PROXYSQL": "/opt/proxysql"}):
            self.assertEqual(keys("--rows", "q-rows,e-mysql,c64"), {
                "c64": ("one-server", "nginx", "haproxy"), "q-rows": ("one-server", "haproxy", "proxysql", "direct"),
                "e-mysql": ("one-server", "haproxy", "proxysql")})
            self.assertEqual(set(keys("mysql", "--only", "proxysql").values()), {("proxysql",)})
            self.assertIn("proxysql", rows.programs([MYSQL[0].with_proxysql()]))
        for words in (["--rows", "a"], ["mysql", "--only", "direct"]):
            self.assertIn("none of these rows measures it", refusal(*words, "--proxysql", "/opt/proxysql"))

    def test_the_flag_counts_more_than_the_environment(self):
        with mock.patch.dict(os.environ, {"PROXYSQL": "/of/the/environment"}):
            keys("mysql", "--proxysql", "/of/the/flag")
            self.assertEqual(os.environ["PROXYSQL"], "/of/the/flag")


class ProxySql(unittest.TestCase):
    def setUp(self):
        self.stage = Stage()
        self.addCleanup(self.stage.__exit__)
        folder = self.stage.folder
        self.paths = {"proxysql": program(folder, "proxysql", STAND_IN.replace("{refuse!r}", "'max_connections = 666'")),
                      "mariadb": program(folder, "mariadb", CLIENT)}
        core = min(os.sched_getaffinity(0))
        self.starter = Starter(self.stage, self.paths, core, core)

    def test_it_is_configured_as_its_documentation_splits_reads_from_writes(self):
        self.starter.mysql("proxysql", DATABASE, 1_234)
        text = self.starter.configs["proxysql"]
        for line in (
            'address = "127.0.0.1", port = 3301, hostgroup = 10, max_connections = 128',
            'address = "127.0.0.1", port = 3302, hostgroup = 20, max_connections = 128',
            'writer_hostgroup = 10, reader_hostgroup = 20, check_type = "read_only"',
            'match_digest = "^SELECT.*FOR UPDATE$", destination_hostgroup = 10, apply = 1',
            'match_digest = "^SELECT", destination_hostgroup = 20, apply = 1',
            'username = "bench", password = "bench", default_hostgroup = 10, max_connections = 1234',
            "    threads = 1\n    interfaces", "    max_connections = 1234\n",
        ):
            self.assertIn(line, text)
        self.assertLess(text.index("FOR UPDATE"), text.index('"^SELECT",'), "the narrower rule first")
        self.assertEqual((text.count("{"), text.count("(")), (text.count("}"), text.count(")")))
        self.assertNotIn("0.0.0.0", text)

    def test_it_is_ready_when_its_admin_port_says_so(self):
        server = self.starter.mysql("proxysql", DATABASE)
        socket.create_connection(("127.0.0.1", server.port), timeout=5).close()
        self.assertRegex(server.commands()[0], r"/proxysql --idle-threads -f -c (\S+)/proxysql.cnf -D \1$")
        self.assertGreater(server.cpu_seconds(), 0)
        [child] = server.processes
        self.assertEqual(os.sched_getaffinity(child.pid), {self.starter.server_core})

    def test_other_servers_than_ours_are_not_ready(self):
        with socket.create_server(("127.0.0.1", 0)) as admin:
            port = admin.getsockname()[1]
            proxysql.expect_online(self.paths["mariadb"], port, ["10\t3301", "20\t3302"])
            with self.assertRaisesRegex(ConnectionError, "its servers are"):
                proxysql.expect_online(self.paths["mariadb"], port, ["10\t3301", "20\t9"])
        with self.assertRaisesRegex(ConnectionError, "admin port: ERROR 2002"):
            proxysql.expect_online(self.paths["mariadb"], free_port(), [])

    def test_one_that_ends_is_reported_with_its_last_words(self):
        with self.assertRaisesRegex(Failed, "proxysql ended with status 1:\nbind.*in use"):
            self.starter.mysql("proxysql", DATABASE, 666)

    def test_what_is_no_proxysql_is_refused_before_anything_is_measured(self):
        for path, reason in (("/no/such/proxysql", "/no/such/proxysql is no program that may be run"),
                             (str(self.stage.folder), "is no program that may be run"),
                             (self.paths["mariadb"], "is not ProxySQL")):
            with mock.patch.dict(os.environ, {"PROXYSQL": path}), self.assertRaises(machine.Missing) as raised:
                machine.find(["proxysql"], print)
            self.assertIn(reason, str(raised.exception))
            self.assertIn("--proxysql", str(raised.exception))
        with mock.patch.dict(os.environ, {"PROXYSQL": self.paths["proxysql"]}):
            found = machine.find(["proxysql"], print)
        self.assertEqual(machine.versions(found), {"proxysql": "2.7.3-12-g50b7f85"})

    def test_the_report_calls_it_by_its_name(self):
        samples = [Sample(1000, 1.0, 1, 50, 200, 0.02, 0.02, "")]
        made = rows.Result(MYSQL[0].with_proxysql(), {"one-server": samples, "proxysql": samples})
        self.assertIn("\n  ProxySQL ", report.text(made))


class Memory(unittest.TestCase):
    def test_an_idle_client_has_a_target_of_its_own(self):
        [row] = [row for row in MYSQL if row.unit == "bytes"]
        for kib, met in ((3, "yes"), (5, "no")):
            made = rows.Result(row, {"one-server": [Footprint(1_000, 0, 0, 0, kib * 1_024_000)]})
            self.assertIn(f"target: {kib}.00 KiB, target ≤ 4.00 KiB: {'met' if kib < 4 else 'MISSED'}", report.text(made))
            self.assertRegex(report.targets([made]), rf"client of MySQL +– +{kib}.00 KiB +≤ 4.00 KiB +{met}\n")
            self.assertIn(f"| {kib}.00 KiB | ≤ 4.00 KiB | {'yes' if kib < 4 else '**no**'} |", report.markdown([made], []))
        failed = rows.Result(row, failure="no luck")
        self.assertRegex(report.targets([failed]), r"– +failed +≤ 4.00 +no\n")
        self.assertIn("| – | ≤ 4.00 | – |", report.markdown([failed], []))


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
