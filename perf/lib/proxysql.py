"""ProxySQL in front of MySQL: reads go to the replica and the rest to the primary, by the rules that its documentation has for that.

See "How to set up ProxySQL for Read/Write Splitting", "Configuration file" and "Startup options" in
https://proxysql.com/documentation. The file is read because the folder for data is a new one; in an old one ProxySQL goes by the
database it has there.
"""

import subprocess

from . import process
from .database import PASSWORD, SERVER_CONNECTIONS, USER

WRITER, READER = 10, 20
ADMIN = "admin"  # user and password; it is let in from this machine alone
ANSWER_SECONDS = 10


def start(starter, port, database, connections):
    """Puts it up on `port` for so many clients at once, and waits until its admin port says that it has both servers."""
    folder = starter.stage.folder / f"proxysql-{port}"
    folder.mkdir()
    config, admin_port = folder / "proxysql.cnf", process.free_port()
    config.write_text(CONFIG.format(
        folder=folder, port=port, admin_port=admin_port, pgsql=process.free_port(), pgsql_admin=process.free_port(), admin=ADMIN,
        user=USER, password=PASSWORD, connections=connections, server_connections=SERVER_CONNECTIONS, writer=WRITER, reader=READER,
        primary=database.primary.port, replica=database.replica.port))
    starter.keep("proxysql", config)
    # A second thread has the clients that idle, without which each of them would cost a busy one time.
    command = [starter.paths["proxysql"], "--idle-threads", "-f", "-c", config, "-D", folder]
    child = starter.stage.start("proxysql", command, starter.server_core)
    wanted = [f"{WRITER}\t{database.primary.port}", f"{READER}\t{database.replica.port}"]
    child.wait_ready(lambda: expect_online(starter.paths["mariadb"], admin_port, wanted))
    return child


def expect_online(client, admin_port, wanted):
    """ConnectionError: nobody answers at the admin port yet, or the servers in use are not those."""
    sql = "SELECT hostgroup_id, port FROM runtime_mysql_servers WHERE status = 'ONLINE' ORDER BY hostgroup_id"
    command = [client, "--no-defaults", "--skip-ssl", "-h127.0.0.1", f"-P{admin_port}", f"-u{ADMIN}", f"-p{ADMIN}", "-N", "-B",
               "-e", sql]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECONDS)
    except subprocess.TimeoutExpired:
        raise ConnectionError(f"the admin port does not answer in {ANSWER_SECONDS} s") from None
    if done.returncode != 0:
        raise ConnectionError(f"admin port: {done.stderr.strip()}")
    if done.stdout.splitlines() != wanted:
        raise ConnectionError(f"its servers are {done.stdout.splitlines()}, not {wanted}")


# The primary answers no reads, as it answers none with one-server either. Two settings differ from what they are by default for
# the sake of speed and memory: the number of threads, and the statements after which a connection is reset, which are fewer (20)
# than sysbench has (some 40 with 4 tables). The ports of PostgreSQL are only said so that they are free ones of the loopback;
# versions below 3.0 have none.
CONFIG = """\
datadir = "{folder}"
admin_variables =
{{
    admin_credentials = "{admin}:{admin}"
    mysql_ifaces = "127.0.0.1:{admin_port}"
    pgsql_ifaces = "127.0.0.1:{pgsql_admin}"
}}
mysql_variables =
{{
    threads = 1
    interfaces = "127.0.0.1:{port}"
    max_connections = {connections}
    max_stmts_per_connection = 200
    monitor_username = "{user}"
    monitor_password = "{password}"
    monitor_writer_is_also_reader = false
}}
pgsql_variables =
{{
    threads = 1
    interfaces = "127.0.0.1:{pgsql}"
}}
mysql_servers =
(
    {{ address = "127.0.0.1", port = {primary}, hostgroup = {writer}, max_connections = {server_connections} }},
    {{ address = "127.0.0.1", port = {replica}, hostgroup = {reader}, max_connections = {server_connections} }}
)
mysql_replication_hostgroups =
(
    {{ writer_hostgroup = {writer}, reader_hostgroup = {reader}, check_type = "read_only", comment = "bench" }}
)
mysql_users =
(
    {{ username = "{user}", password = "{password}", default_hostgroup = {writer}, max_connections = {connections},
       transaction_persistent = 1, active = 1 }}
)
mysql_query_rules =
(
    {{ rule_id = 1, active = 1, match_digest = "^SELECT.*FOR UPDATE$", destination_hostgroup = {writer}, apply = 1 }},
    {{ rule_id = 2, active = 1, match_digest = "^SELECT", destination_hostgroup = {reader}, apply = 1 }}
)
"""
