"""Tests of what perf/compare computes; run with `python3 -m unittest discover -s perf/lib -t perf`."""

import hashlib
import json
import os
import shutil
import sys
import tempfile
import unittest
import xml.dom.minidom
from dataclasses import replace
from pathlib import Path
from unittest import mock

sys.dont_write_bytecode = True

from lib import chart, content, database, machine, report, rows, stalls, tls, wordpress  # noqa: E402
from lib.apps import Apps  # noqa: E402
from lib.idle import Footprint  # noqa: E402
from lib.load import Sample, agrees, check_body, plausible, sample  # noqa: E402
from lib.process import Failed, Stage, free_port, is_zombie  # noqa: E402
from lib.servers import Files, Proxied, Server, Starter  # noqa: E402
from lib.tools import Datagrams, H2load, Handshakes, LongResult, Steady, Sysbench, Wrk  # noqa: E402

NO_ERRORS = {"connect": 0, "read": 0, "write": 0, "status": 0, "timeout": 0}
SYSBENCH = """\
Latency histogram (values are in milliseconds)
       value  ------------- distribution ------------- count
       1.100 |*********                                100
       1.320 |**************************************** 400
       2.810 |*                                        9

SQL statistics:
    queries:                             12345  (6165.20 per sec.)
    ignored errors:                      0      (0.00 per sec.)
    reconnects:                          0      (0.00 per sec.)

General statistics:
    total time:                          2.0031s
    total number of events:              12345

Latency (ms):
         min:                                    0.10
         99th percentile:                        2.81
"""
NUMBERS = {"requests": 1000, "microseconds": 2_000_000, "bytes": 500_000_000, "p50": 90, "p99": 400, "errors": NO_ERRORS,
           "tickets": None, "seen": ""}

H2LOAD = """\
starting benchmark...
TLS Protocol: TLSv1.3
Cipher: TLS_AES_128_GCM_SHA256
Server Temp Key: X25519 253 bits
Application protocol: h2

finished in 2.03s, 44743.50 req/s, 27.18MB/s
requests: 89487 total, 89807 started, 89487 done, 89487 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 89486 2xx, 0 3xx, 1 4xx, 0 5xx
traffic: 54.36MB (57003709) total, 9.13MB (9575109) headers (space savings 39.89%), 43.69MB (45817344) data
"""
HANDSHAKES = {"handshakes": 100, "resumed": 99, "errors": 0, "first_error": None, "without_close_notify": 0, "tickets": 150,
              "seconds": 1.5, "body_bytes": 51_200, "p50_us": 900, "p99_us": 2000, "version": "TLSv1.3",
              "cipher": "TLS_AES_128_GCM_SHA256", "group": "X25519"}
S_CLIENT = """\
Peer signing digest: SHA256
Peer signature type: ECDSA
Server Temp Key: X25519, 253 bits
---
New, TLSv1.3, Cipher is TLS_AES_128_GCM_SHA256
"""


def row(key):
    [found] = [row for row in rows.ROWS if row.key == key]
    return found


def result(key, samples):
    return rows.Result(row(key), samples)


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

    def test_any_error_the_load_saw_fails_the_round(self):
        for kind in NO_ERRORS:
            with self.assertRaisesRegex(Failed, kind):
                sample("x", NUMBERS | {"errors": NO_ERRORS | {kind: 1}}, 0.01, 0.01, "")
        with self.assertRaisesRegex(Failed, "not one request"):
            sample("x", NUMBERS | {"requests": 0}, 0.01, 0.01, "")


    def test_answers_that_are_too_short_or_too_long_are_noticed(self):
        a64 = row("a64")  # 64 answers may be under way
        self.assertTrue(plausible({"requests": 1000, "bytes": 1000 * 700}, a64, 512))
        self.assertTrue(plausible({"requests": 1000, "bytes": 940 * 512}, a64, 512))
        self.assertFalse(plausible({"requests": 1000, "bytes": 900 * 512}, a64, 512))
        self.assertFalse(plausible({"requests": 1000, "bytes": 1000 * 30_000}, a64, 8_000), "not compressed")


class Tools(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)
        self.server = Server("x", 4433, [])

    def test_wrk_sends_the_fields_of_the_row(self):
        command = Wrk("wrk", self.folder).command(self.server, row("i64"), 3)
        self.assertEqual(command[command.index("-H") + 1], "Accept-Encoding: br")
        self.assertEqual(command[-1], "http://127.0.0.1:4433/page.html")

    def test_h2load_is_read(self):
        numbers = H2load("h2load", self.folder).numbers(H2LOAD, row("h320"), 2)
        self.assertEqual((numbers["requests"], numbers["microseconds"], numbers["bytes"]), (89_487, 2_000_000, 57_003_709))
        self.assertEqual(numbers["errors"], {"failed": 0, "errored": 0, "timeout": 0, "status": 1})
        self.assertIsNone(H2load("h2load", self.folder).numbers("it broke", row("h320"), 2))

    def test_h2load_must_have_spoken_http2(self):
        text = H2LOAD.replace("protocol: h2", "protocol: http/1.1")
        with self.assertRaisesRegex(Failed, "not HTTP/2"):
            H2load("h2load", self.folder).numbers(text, row("h320"), 2)

    def test_a_handshake_of_the_other_kind_is_an_error(self):
        for key, others in (("g-full", 99), ("g-resumed", 1)):
            numbers = Handshakes("handshakes", self.folder).numbers(json.dumps(HANDSHAKES), row(key), 2)
            self.assertEqual(sum(numbers["errors"].values()), others)
            self.assertEqual((numbers["requests"], numbers["tickets"]), (100, 1.5))

    def test_only_the_resumed_row_resumes(self):
        commands = {key: Handshakes("handshakes", self.folder).command(self.server, row(key), 2) for key in ("g-full", "g-resumed")}
        self.assertNotIn("--resume", commands["g-full"])
        self.assertIn("--resume", commands["g-resumed"])


    def test_a_steady_load_offers_the_rate_of_the_row(self):
        steady = Steady("steady", self.folder)
        command = list(map(str, steady.command(self.server, replace(row("o64"), rate=12_345), 2)))
        for flag, value in (("--rate", "12345"), ("--connections", "64"), ("--body-bytes", "512"), ("--seconds", "2")):
            self.assertEqual(command[command.index(flag) + 1], value)

    def test_a_question_that_is_lost_is_an_error(self):
        datagrams = Datagrams("datagrams", self.folder)
        command = list(map(str, datagrams.command(self.server, row("p-each"), 2)))
        for flag, value in (("--connect", "127.0.0.1:4433"), ("--bytes", "64"), ("--clients", "64"), ("--seconds", "2")):
            self.assertEqual(command[command.index(flag) + 1], value)
        said = {"questions": 1000, "lost": 0, "late": 0, "seconds": 1.5, "bytes": 64_000, "p50_us": 90, "p99_us": 400}
        numbers = datagrams.numbers(json.dumps(said), row("p-each"), 2)
        self.assertTrue(plausible(numbers, row("p-each"), 64))
        self.assertEqual(sample("x", numbers, 0.01, 0.01, "").requests, 1000)
        self.assertIsNone(datagrams.numbers("error: nobody answers", row("p-each"), 2))
        for kind in ("lost", "late"):
            with self.assertRaisesRegex(Failed, kind):
                sample("x", datagrams.numbers(json.dumps(said | {kind: 1}), row("p-each"), 2), 0.01, 0.01, "")

    def test_sysbench_is_asked_for_the_row_and_read(self):
        sysbench = Sysbench("sysbench", self.folder)
        command = sysbench.command(self.server, row("q-point64-ps"), 2)
        for word in ("oltp_point_select", "--report-interval=1", "--mysql-port=4433", "--threads=64", "--time=2", "--db-ps-mode=auto"):
            self.assertIn(word, command)
        self.assertNotIn("--skip-trx=on", command)
        self.assertIn("--skip-trx=on", sysbench.command(self.server, row("q-read64"), 2))
        numbers = sysbench.numbers(SYSBENCH, row("q-point64"), 2)
        made = sample("x", numbers, 0.01, 0.01, "")
        self.assertEqual((made.requests, made.seconds, made.p50_us, made.p99_us), (12_345, 2.0031, 1_320, 2_810))
        second = "[ {0}s ] thds: 64 tps: 3.00 qps: 5.00 (r/w/o: 5.00/0.00/0.00) lat (ms,99%): {1} err/s: 0.00 reconn/s: 0.00\n"
        told = "".join(second.format(n, p99) for n, p99 in ((1, 3.1), (2, 70.5), (3, 2.5))) + SYSBENCH
        self.assertEqual(sample("x", sysbench.numbers(told, row("q-point64"), 3), 0.01, 0.01, "").p99_us, 3_100)
        for line in ("ignored errors:                      0", "reconnects:                          0"):
            with self.assertRaisesRegex(Failed, line.split(":")[0].split()[-1]):
                wrong = SYSBENCH.replace(line, line[:-1] + "3")
                sample("x", sysbench.numbers(wrong, row("q-point64"), 2), 0.01, 0.01, "")
        deadlocks = SYSBENCH.replace("ignored errors:                      0", "ignored errors:                      4")
        self.assertEqual(sysbench.numbers(deadlocks, row("q-write64"), 2)["errors"], {"errors": 0, "reconnects": 0})
        self.assertIsNone(sysbench.numbers("FATAL: unable to connect", row("q-point64"), 2))

    def test_a_long_result_must_have_all_its_rows(self):
        reader = LongResult("mariadb", self.folder)
        said = f"{LongResult.BYTES}\nTIME 0.731\n"
        self.assertEqual(sample("x", reader.numbers(said, row("q-rows"), 2), 0.01, 0.01, "").seconds, 0.731)
        with self.assertRaisesRegex(Failed, "wrong length"):
            sample("x", reader.numbers("1000\nTIME 0.731\n", row("q-rows"), 2), 0.01, 0.01, "")
        self.assertIsNone(reader.numbers("ERROR 2013", row("q-rows"), 2))

    def test_a_password_is_proved_as_mysql_wants_it(self):
        # Of SELECT SHA1(SHA1('bench')) on MariaDB: what the server keeps unmasks what the client sends.
        salt, stored = bytes(range(20)), hashlib.sha1(hashlib.sha1(b"bench").digest()).digest()
        mask = hashlib.sha1(salt + stored).digest()
        once = bytes(a ^ b for a, b in zip(database.native(b"bench", salt), mask))
        self.assertEqual(hashlib.sha1(once).digest(), stored)

    def test_a_steady_load_is_read_or_has_failed(self):
        steady = Steady("steady", self.folder)
        said = {"requests": 100, "seconds": 1.5, "bytes": 60_000, "p50_us": 90, "p90_us": 100, "p99_us": 400, "p999_us": 500, "max_us": 600,
                "lag_p99_us": 30}
        made = sample("x", steady.numbers(json.dumps(said), row("o64"), 2), 0.01, 0.01, "")
        times = (made.p50_us, made.p90_us, made.p99_us, made.lag_p99_us)
        self.assertEqual((made.requests, made.seconds, *times), (100, 1.5, 90, 100, 400, 30))
        self.assertIsNone(steady.numbers("error: the server closed a connection", row("o64"), 2))


class Tls(unittest.TestCase):
    def test_what_openssl_negotiated_is_one_line(self):
        line = "TLSv1.3 TLS_AES_128_GCM_SHA256 X25519 ECDSA"
        self.assertEqual(tls.negotiated_line(S_CLIENT), line)
        newer = S_CLIENT.replace("Server Temp Key: X25519, 253 bits", "Negotiated TLS1.3 group: X25519")
        self.assertEqual(tls.negotiated_line(newer), line)
        self.assertIsNone(tls.negotiated_line("New, (NONE), Cipher is (NONE)"))

    def test_every_load_must_have_got_the_same(self):
        line = tls.negotiated_line(S_CLIENT)
        self.assertTrue(agrees(line, "TLSv1.3 TLS_AES_128_GCM_SHA256 X25519 253 bits"))
        self.assertTrue(agrees(line, "TLSv1_3 TLS_AES_128_GCM_SHA256 X25519"))
        self.assertFalse(agrees(line, "TLSv1.3 TLS_AES_256_GCM_SHA384 X25519"))
        self.assertFalse(agrees(line, "TLSv1.3 TLS_AES_128_GCM_SHA256 X25519MLKEM768"))

    def test_servers_that_differ_are_not_compared(self):
        one, two = Server("one", 1, []), Server("two", 2, [])
        one.negotiated, two.negotiated = "a", "b"
        with self.assertRaisesRegex(Failed, "one a; two b"):
            rows.same_tls([one, two])
        self.assertEqual(rows.same_tls([one]), "a")

    @unittest.skipUnless(shutil.which("openssl"), "openssl is not here")
    def test_a_certificate_is_made_that_clients_trust(self):
        with Stage() as stage:
            identity = tls.make(shutil.which("openssl"), stage.folder)
            [certificate] = identity.context().get_ca_certs()
            self.assertIn(("IP Address", "127.0.0.1"), certificate["subjectAltName"])


class Rows(unittest.TestCase):
    def test_keys_are_unique_and_every_row_measures_whom_it_has_a_target_against(self):
        self.assertEqual(len({row.key for row in rows.ROWS}), len(rows.ROWS))
        for one in rows.ROWS:
            peers = {*one.targets, *one.time_max, *one.added_max}
            self.assertTrue(not peers or {rows.OURS, *peers} <= set(one.servers), one.key)

    def test_every_unit_has_a_heading_in_the_chart(self):
        self.assertEqual(set(chart.HEADINGS), set(report.UNITS))
        self.assertLessEqual({row.unit for row in rows.ROWS}, set(report.UNITS))

    def test_rows_name_what_they_need(self):
        self.assertEqual(rows.programs([row("g-full")]), ["handshakes", "nginx", "one-server", "openssl"])
        self.assertEqual(rows.programs([row("h320")]), ["h2load", "nghttp", "nginx", "one-server", "openssl"])
        self.assertEqual(rows.programs([row("i64")]), ["brotli", "nginx", "nginx-brotli", "one-server", "wrk"])
        self.assertEqual(rows.programs([row("i64").only(["one-server"])]), ["brotli", "one-server", "wrk"])
        self.assertEqual(rows.programs([row("j4").only(["haproxy"])]), ["haproxy", "one-server", "wrk"])
        self.assertEqual(rows.programs([row("e-tls")]), ["nginx", "one-server", "openssl"])
        self.assertEqual(rows.programs([row("l64").only(["nginx"])]), ["nginx", "one-server", "wrk"])
        self.assertEqual(rows.programs([row("m64")]), ["floor", "haproxy", "nginx", "one-server", "openssl", "wrk"])
        self.assertEqual(rows.programs([row("n64").only(["one-route"])]), ["floor", "one-server", "wrk"])
        self.assertEqual(rows.programs([row("r-php")]), ["nginx", "one-server", "php-fpm", "wrk"])
        self.assertEqual(rows.programs([row("r-python").only(["one-server"])]), ["gunicorn", "one-server", "wrk"])
        self.assertEqual(rows.programs([row("r-wsgi-threads").only(["nginx-keepalive"])]), ["gunicorn", "nginx", "wrk"])
        self.assertIn("wordpress", rows.programs([row("r-asset").only(["files"])]), "the file is its own")
        rated = rows.programs([row("o64").only(["one-server"])])
        self.assertEqual(rated, ["floor", "haproxy", "one-server", "steady", "wrk"], "its rate is a share of HAProxy's")

    def test_everything_that_is_missing_is_named_with_its_package(self):
        environment = {"H2LOAD": "no-such-h2load", "BROTLI": "no-such-brotli", "NGINX_BROTLI": "/no/such/module.so"}
        with mock.patch.dict(os.environ, environment), self.assertRaises(machine.Missing) as raised:
            machine.find(["brotli", "h2load", "nginx-brotli"], print)
        for word in ("install nghttp2-client", "install brotli", "install libnginx-mod-http-brotli-static", "NGINX_BROTLI="):
            self.assertIn(word, str(raised.exception))

    def test_files_have_the_length_that_is_promised(self):
        with Stage() as stage:
            for at, (path, length) in enumerate(content.BYTES.items()):
                if path != "/hello":
                    self.assertEqual(len(content.write(stage.folder / str(at), path)), length)
        self.assertEqual(content.page(3000), content.page(3000))

    def test_configs_say_what_the_row_needs(self):
        class Recorder(Stage):
            def start(self, name, command, core, environment=None):
                return None

        with Recorder() as stage:
            identity = tls.Identity(Path("/c.pem"), Path("/k.pem"), Path("/o.cnf"), "openssl")
            starter = Starter(stage, {"nginx": "nginx", "one-server": "one-server", "nginx-brotli": "/m.so"}, 0, 1)
            for name in ("one-server", "nginx"):
                starter.static(name, Files(Path("/f"), tls=identity, http2=True))
            self.assertIn("ssl http2 backlog", starter.configs["nginx tls"])
            self.assertIn("ssl_ecdh_curve X25519;", starter.configs["nginx tls"])
            self.assertIn('chain = "/c.pem", key = "/k.pem"', starter.configs["one-server"])
            self.assertIn("http2 = true", starter.configs["one-server"])
            starter.static("nginx", Files(Path("/f"), precompressed=True))
            self.assertTrue(starter.configs["nginx br"].startswith("load_module /m.so;"))
            self.assertIn("brotli_static on;", starter.configs["nginx br"])
            starter.static("nginx", Files(Path("/f")))
            self.assertNotIn("ssl", starter.configs["nginx static"])


    def test_the_rate_offered_is_a_share_of_the_median_of_the_peers_top_rates(self):
        class Closed:
            warmed, rates = [], [900, 1_300, 1_000]

            def warm_up(self, server):
                self.warmed.append(server.name)

            def run(self, server, seconds, answer_bytes):
                return Sample(self.rates.pop() * seconds, seconds, 1, 1, 1, 1.0, 1.0, "")

        class Bench:
            row, plan, expected = row("o64"), rows.Plan(1, 2, 1, 1, 0, 1), b"x"
            asked = []

            def load_of(self, row):
                self.asked.append(row.tool)
                return Closed()

            def put_up(self, name):
                return Server(name, 1, [])

        for servers in ([Server("one-server", 2, []), Server("haproxy", 3, [])], [Server("one-server", 2, [])]):
            Closed.rates, made = [900, 1_300, 1_000], rows.Result(Bench.row)
            self.assertEqual(rows.find_rate(Bench(), made, servers).rate, 700)
            self.assertEqual(len(made.top), 3)
        self.assertEqual(Closed.warmed, ["haproxy", "haproxy"])
        self.assertEqual(Bench.asked, ["wrk", "wrk"])

    def test_proxies_are_configured_for_the_job(self):
        class Recorder(Stage):
            commands = []

            def start(self, name, command, core, environment=None):
                self.commands.append([str(word) for word in command])

        with Recorder() as stage:
            certificate, key = stage.folder / "c.pem", stage.folder / "k.pem"
            certificate.write_text("CERTIFICATE\n")
            key.write_text("KEY\n")
            identity = tls.Identity(certificate, key, Path("/o.cnf"), "openssl")
            starter = Starter(stage, {name: name for name in ("nginx", "one-server", "haproxy", "floor")}, 0, 1)
            self.assertEqual(starter.proxy("one-server", Proxied(9)).tls, None)
            self.assertIn("proxy", stage.commands[-1], "flags are enough")
            for name in rows.PROXIES:
                self.assertEqual(starter.proxy(name, Proxied(9, tls=identity)).tls, identity)
                starter.proxy(name, Proxied(9, large=True))
            starter.proxy("one-server", Proxied(9, for_ever=True))
            configs = starter.configs
            self.assertIn("tls.certificates", configs["one-server proxy"])
            self.assertIn("keep_alive_requests_max = 0", configs["one-server proxy"])
            self.assertIn("listen 127.0.0.1:PORT ssl backlog", configs["nginx proxy tls"])
            self.assertIn("ssl_ecdh_curve X25519;", configs["nginx proxy tls"])
            self.assertIn("proxy_pass http://backend;", configs["nginx proxy tls"])
            self.assertIn("ssl crt DIR/haproxy.pem ssl-min-ver TLSv1.3 curves X25519 backlog", configs["haproxy proxy tls"])
            self.assertEqual((stage.folder / "haproxy.pem").read_text(), "CERTIFICATE\nKEY\n")
            self.assertIn("proxy_max_temp_file_size 0;", configs["nginx proxy large"])
            self.assertIn("option splice-response", configs["haproxy proxy large"])

            starter.routes("one-server", 9)
            many = configs["one-server routes"]
            self.assertEqual((many.count("127.0.0."), many.count("[[site.proxied.route]]")), (1 + 50, 1_000))
            self.assertTrue(many.rstrip().endswith('path = "/service-1000"\nproxy = "backend"'), "the last one is asked for")
            self.assertTrue(row("n64").path.startswith("/service-1000"))
            starter.configs.clear()
            starter.routes("one-route", 9)
            one = configs["one-server proxy"]
            self.assertEqual((one.count("127.0.0."), one.count('path = "/service-1000"'), one.count("path =")), (2, 1, 1))
            starter.paths["nginx-stream"] = "/s.so"
            for flow_each in (False, True):
                for name in rows.PAIR:
                    starter.udp(name, 9, flow_each)
            self.assertTrue(configs["nginx udp"].startswith("load_module /s.so;"))
            self.assertIn("listen 127.0.0.1:PORT udp;", configs["nginx udp"])
            self.assertNotIn("proxy_responses", configs["nginx udp"])
            self.assertIn("proxy_responses 1;", configs["nginx udp each"])
            self.assertIn('udp = { upstream = "backend" }', configs["one-server udp"])
            self.assertIn('udp = { upstream = "backend", responses = 1 }', configs["one-server udp each"])
            starter.paths["nginx-stream"] = machine.BUILT_IN
            configs.clear()
            starter.udp("nginx", 9, False)
            self.assertNotIn("load_module", configs["nginx udp"])
            starter.floor(1, 9, host="0.0.0.0")
            self.assertIn("0.0.0.0:9", stage.commands[-1])

    def test_applications_have_the_same_room_at_both_servers(self):
        class Ready:
            def wait_ready(self, probe):
                pass

        class Recorder(Stage):
            commands = []

            def start(self, name, command, core, environment=None):
                self.commands.append((core, [str(word) for word in command]))
                return Ready()

        with Recorder() as stage:
            starter = Starter(stage, {name: name for name in ("nginx", "one-server", "php-fpm", "gunicorn")}, 0, 1)
            apps, configs = Apps(starter), starter.configs
            servers = [apps.php(name, Path("/f")) for name in rows.PAIR] + [apps.gunicorn(name) for name in rows.PAIR]
            self.assertEqual([len(server.behind) for server in servers], [0, 1, 0, 1], "ours starts them itself")
            self.assertIn("pm.max_children = 8\n", configs["php-fpm"])
            self.assertIn("workers = 7\n", configs["one-server php"], "and one for checks")
            self.assertIn("fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;", configs["nginx php"])
            self.assertIn("regex = '\\.php(/|$)'", configs["one-server php"])
            self.assertIn('"--workers", "2"', configs["one-server gunicorn"])
            [theirs] = [command for _, command in stage.commands if command[0] == "gunicorn"]
            self.assertEqual(theirs[1:3], ["--workers", "2"])
            self.assertNotIn("keepalive 16;", configs["nginx gunicorn"])
            for name in row("r-wsgi-threads").servers:
                apps.gunicorn(name, has_threads=True)
            threads = [command[3:7] for _, command in stage.commands if command[0] == "gunicorn"][1:]
            self.assertEqual(threads, [["--worker-class", "gthread", "--threads", "8"]] * 2)
            self.assertIn('"--worker-class", "gthread", "--threads", "8"', configs["one-server gunicorn threads"])
            self.assertNotIn("keepalive 16;", configs["nginx gunicorn threads"])
            self.assertIn("keepalive 16;", configs["nginx gunicorn threads keepalive"])
            self.assertIn("proxy_http_version 1.1; proxy_set_header Connection", configs["nginx gunicorn threads keepalive"])
            self.assertEqual({core for core, _ in stage.commands}, {0})
            apps.files_alone(Path("/f"))
            self.assertNotIn("[app.", configs["one-server files"])

    def test_a_wordpress_is_at_home_on_any_port(self):
        text = ("<?php\ndefine('DB_NAME', 'x');\ndefine('DB_HOST', 'localhost:/s');\ndefine('WP_HOME', 'https://h:1');\n"
                "define('WP_SITEURL', 'https://h:1');\nrequire 'x';\n")
        made = wordpress.localized(text, "127.0.0.1:4")
        self.assertIn("define('DB_HOST', '127.0.0.1:4');\n", made)
        self.assertNotIn("https://h:1", made)
        self.assertTrue(made.startswith("<?php\n") and made.endswith("require 'x';\n"))
        with self.assertRaisesRegex(Failed, "another wp-config.php"):
            wordpress.localized(text.replace("WP_HOME", "HOME"), "127.0.0.1:4")


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
        self.assertIn("| 0.500 of nginx | ≤ 0.70 | yes |", tables[2])
        self.assertIn("| – of nginx<br>– of HAProxy | ≤ 0.70<br>≤ 0.55 | –<br>– |", tables[4])

    def test_a_row_may_have_a_target_for_each_peer(self):
        made = result("c64", {"one-server": samples(0.006), "nginx": samples(0.01), "haproxy": samples(0.0101)})
        self.assertEqual([(one.peer, one.is_met) for one in report.reached(made)], [("nginx", True), ("haproxy", False)])
        self.assertIn("0.600 of nginx, target ≤ 0.70: met", report.text(made))
        self.assertIn("0.594 of HAProxy, target ≤ 0.55: MISSED", report.text(made))
        self.assertEqual([line.split()[-4:] for line in report.targets([made]).splitlines()[2:]],
                         [["0.600", "≤", "0.70", "yes"], ["0.594", "≤", "0.55", "no"]])
        self.assertIn("| 0.600 of nginx<br>0.594 of HAProxy | ≤ 0.70<br>≤ 0.55 | yes<br>**no** |",
                      report.markdown([made], self.facts))
        [one] = report.reached(result("c64", {"one-server": samples(0.006), "haproxy": samples(0.01)}))
        self.assertEqual(one.peer, "haproxy", "nginx was not measured")
        self.assertEqual(len(report.targets([self.results[2]]).splitlines()[2:]), 2, "both failed")
        drawing = chart.svg([made], self.facts)
        self.assertIn('class="met"', drawing)
        self.assertIn('class="missed"', drawing)

    def rated(self, requests=700, lag=10, busy=0.99):
        """A row with a constant rate of 700 a second."""
        steady = [Sample(requests, 1.0, 1, 50, p99, 0.01, 0.01, "", None, lag, 60) for p99 in (300, 100, 200)]
        made = result("o64", {"one-server": steady, "haproxy": [replace(one, p99_us=one.p99_us * 2) for one in steady]})
        made.row = replace(made.row, rate=700)
        made.top = [Sample(rate, 1.0, 1, 50, 90, busy, busy, "") for rate in (900, 1_300, 1_000)]
        return made

    def test_a_row_about_latency_compares_p99(self):
        made = self.rated()
        [ours, haproxy] = report.lines(made)
        self.assertEqual((ours.cost, ours.cost_min, ours.cost_max, haproxy.ratio), (200, 100, 300, 2))
        [one] = report.reached(made)
        self.assertEqual((one.peer, one.share, one.is_met), ("haproxy", 0.5, True))
        said = "offered: 700 requests/s, 70% of HAProxy's top rate in this run (1,000, median of 3 rounds)"
        self.assertIn(said, report.text(made))
        self.assertIn("60 µs", report.text(made), "p90")
        made.stalls = stalls.Stalls(2, (1.5, 6.5))
        self.assertIn("stood still 1 times a second for over 0.5 ms, up to 6.5 ms, 0.4% of the time", report.text(made))
        self.assertIn(said[1:], report.markdown([made], self.facts))
        self.assertEqual(report.warnings(made), [], "nobody is busy at 70 %")
        document = json.loads(report.as_json([made], self.facts, []))
        self.assertEqual((document["rows"][0]["row"]["rate"], len(document["rows"][0]["top"])), (700, 3))
        self.assertIn("p99 at a constant rate", chart.svg([made], self.facts))

    def test_a_clock_that_leaps_stood_still(self):
        readings = iter([0, 100_000, 2_600_000, 2_700_000, 3_000_000_000])
        self.assertEqual(stalls.gaps(lambda: next(readings), 1), [2.5, 2997.3])
        core = min(os.sched_getaffinity(0))
        self.assertLess(stalls.measure(core, core, 0.1).share, 1)
        self.assertIn("without a pause", stalls.Stalls(1, ()).text())

    def test_what_is_added_to_the_p99_is_compared(self):
        def timed(p99, cpu):
            return [Sample(1000, 1.0, 1, 50, p99, cpu, cpu, "")]

        made = result("q-point64", {"one-server": timed(900, 0.02), "haproxy": timed(1_100, 0.03), "direct": timed(500, 0)})
        [cost, added] = report.reached(made)
        self.assertEqual((round(cost.share, 3), cost.what, round(added.share, 3), added.what), (0.667, "", 0.667, "p99 added, "))
        text = report.text(made)
        self.assertIn("p99 added, 0.667 of HAProxy, target ≤ 1.20: met", text)
        self.assertRegex(text, r"nobody between +– +– ")
        self.assertIn("0.667 of HAProxy", report.markdown([made], self.facts))
        del made.samples["direct"]
        self.assertEqual(len(report.reached(made)), 1)

    def test_what_stands_in_front_of_an_application_is_counted_apart(self):
        def served(front, rate):
            return [Sample(rate, 1.0, 1, 50, 90, 0.9, 0.9, "", front_seconds=front * rate / 1e6)]

        made = result("r-php", {"one-server": served(20, 1_000), "nginx": served(30, 900)})
        [cost, time] = report.reached(made)
        self.assertEqual((round(cost.share, 3), cost.is_met), (0.667, True))
        self.assertEqual((round(time.share, 3), time.what, time.is_met), (0.9, "time per request, ", True))
        text = report.text(made)
        self.assertIn("20.0 µs", text)
        self.assertIn("900.0 µs", text, "with the application")
        [page] = report.reached(result("r-page", {"one-server": served(20, 1_000), "nginx": served(30, 900)}))
        self.assertEqual((round(page.share, 3), page.is_met), (0.9, True))
        self.assertIn("1.11 ms", report.text(result("r-page", {"nginx": served(30, 900)})))

    def test_a_constant_rate_that_was_none_is_noted(self):
        self.assertIn("answered 600 of 700", report.warnings(self.rated(requests=600))[0])
        self.assertIn("late by 150 µs", report.warnings(self.rated(lag=150))[0])
        [note] = report.warnings(self.rated(busy=0.6))
        self.assertIn("at its top rate HAProxy used 60%", note)
        failed = self.rated()
        failed.samples = {}
        self.assertEqual(report.warnings(failed), [])

    def test_targets_are_shares_of_the_peer(self):
        met, missed = self.results[0], result("f64", {"one-server": samples(0.01), "nginx": samples(0.01)})
        self.assertTrue(report.reached(met)[0].is_met)
        self.assertFalse(report.reached(missed)[0].is_met)
        self.assertEqual(report.reached(result("f64", {"one-server": samples(0.01)})), [], "nginx was not measured")
        self.assertEqual(report.reached(self.results[1]), [], "the row has none")
        self.assertIn("0.500 of nginx, target ≤ 0.70: met", report.text(met))
        failed = result("g-full", {})
        failed.failure = "no luck"
        table = report.targets([met, missed, failed]).splitlines()
        self.assertEqual([line.split()[-1] for line in table[2:]], ["yes", "no", "no"])
        self.assertEqual(report.targets([self.results[1]]), "")
        document = json.loads(report.as_json([met, missed], self.facts, []))
        self.assertEqual([one["targets"][0]["is_met"] for one in document["rows"]], [True, False])
        self.assertIn('class="missed"', chart.svg([met, missed], self.facts))

    def test_a_load_that_knows_no_latencies_has_no_columns_for_them(self):
        [sample_] = samples(0.01)
        sample_.p50_us = sample_.p99_us = None
        self.assertNotIn("p50", report.text(result("h320", {"one-server": [sample_]})))

    def test_handshakes_show_tickets_and_what_was_negotiated(self):
        [sample_] = samples(0.01)
        sample_.tickets = 2.0
        made = result("g-full", {"one-server": [sample_]})
        made.negotiated = "TLSv1.3 A B C"
        self.assertIn("CPU per handshake", report.text(made))
        self.assertIn("tickets each", report.text(made))
        self.assertIn("all with TLSv1.3 A B C", report.text(made))
        self.assertIn("All with TLSv1.3 A B C.", report.markdown([made], self.facts))

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
            self.assertLess(process.own_cpu_seconds(), 0.2, "the shell has only waited")

    def needs_time(self, process):
        if process.cpu_seconds() < 0.3:
            raise OSError("not yet")


if __name__ == "__main__":
    unittest.main()
