"""Applications behind nginx, which others start, and behind one-server, which starts them itself."""

import getpass
import os

from . import process
from .servers import CONNECTIONS, Server, one_server_head

# Of each php-fpm: processes for scripts. one-server lets one request less in and keeps the last one for checks.
PHP_WORKERS = 8
GUNICORN_WORKERS = 2
# Of each worker in the row about threads, so that every client of the load has one.
GUNICORN_THREADS = 8
PHP_SCRIPT = "<?php echo str_repeat('All the world is a stage, and all. ', 15), \"end.\\n\";\n"
WSGI_APPLICATION = """\
BODY = b"All the world is a stage, and all. " * 15

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(BODY)))])
    return [BODY]
"""
# The names of nginx's own fastcgi.conf, and PATH_INFO.
PARAMS = {
    "SCRIPT_FILENAME": "$document_root$fastcgi_script_name", "PATH_INFO": "$fastcgi_path_info", "QUERY_STRING": "$query_string",
    "REQUEST_METHOD": "$request_method", "CONTENT_TYPE": "$content_type", "CONTENT_LENGTH": "$content_length",
    "SCRIPT_NAME": "$fastcgi_script_name", "REQUEST_URI": "$request_uri", "DOCUMENT_URI": "$document_uri",
    "DOCUMENT_ROOT": "$document_root", "SERVER_PROTOCOL": "$server_protocol", "REQUEST_SCHEME": "$scheme",
    "HTTPS": "$https if_not_empty", "GATEWAY_INTERFACE": "CGI/1.1", "SERVER_SOFTWARE": "nginx/$nginx_version",
    "REMOTE_ADDR": "$remote_addr", "REMOTE_PORT": "$remote_port", "SERVER_ADDR": "$server_addr", "SERVER_PORT": "$server_port",
    "SERVER_NAME": "$server_name", "REDIRECT_STATUS": "200",
}


def php_user():
    """Who PHP is: www-data where we are root, which it should not be; else we ourselves."""
    return "www-data" if os.geteuid() == 0 else getpass.getuser()


class Apps:
    """Puts up servers with their applications by means of `starter`, a `Starter`; all of it has the server's core."""

    def __init__(self, starter):
        self.starter, self.stage, self.paths, self.core = starter, starter.stage, starter.paths, starter.server_core

    # PHP.

    def php(self, name, folder):
        """`name` serves the site in `folder`: its files, and its scripts by a php-fpm of its own."""
        port = process.free_port()
        if name == "nginx":
            socket = self.stage.folder / f"php-{port}.sock"
            behind = self.php_fpm(socket)
            location = NGINX_PHP.format(folder=folder, socket=socket,
                                        params="".join(f" fastcgi_param {key} {value};" for key, value in PARAMS.items()))
            return Server(name, port, [self.starter.nginx("php", port, CONNECTIONS, location, "")], behind=[behind])
        user = f'user = "{php_user()}"' if os.geteuid() == 0 else ""
        text = ONE_SERVER_PHP.format(folder=folder, php=self.paths["php-fpm"], user=user,
                                     workers=PHP_WORKERS - 1)
        return Server(name, port, [self.one_server("php", port, text)])

    def php_fpm(self, socket):
        """Set up as one-server sets up its own."""
        config = socket.with_suffix(".conf")
        user = f"user = {php_user()}\n" if os.geteuid() == 0 else ""
        config.write_text(PHP_FPM.format(log=socket.with_suffix(".log"), socket=socket, user=user, workers=PHP_WORKERS))
        self.starter.keep("php-fpm", config)
        child = self.stage.start("php-fpm", [self.paths["php-fpm"], "-F", "-y", config], self.core)
        child.wait_ready(lambda: os.stat(socket))
        return child

    # Python.

    def gunicorn(self, name, has_threads=False):
        """`name` serves an application of WSGI in a gunicorn of its own, by HTTP over a Unix socket. `has_threads`: with workers
        that keep connections. `nginx-keepalive` keeps its own, too."""
        port = process.free_port()
        folder = self.stage.folder / f"wsgi-{port}"
        folder.mkdir()
        (folder / "app.py").write_text(WSGI_APPLICATION)
        threads = ["--worker-class", "gthread", "--threads", str(GUNICORN_THREADS)] if has_threads else []
        words = [self.paths["gunicorn"], "--workers", str(GUNICORN_WORKERS), *threads, "--chdir", str(folder), "--bind"]
        job = "gunicorn threads" if has_threads else "gunicorn"
        if name != "one-server":
            socket = folder / "socket"
            behind = self.stage.start("gunicorn", [*words, f"unix:{socket}", "app:application"], self.core)
            behind.wait_ready(lambda: os.stat(socket))
            keeps = name == "nginx-keepalive"
            upstream = f"upstream app {{ server unix:{socket} fail_timeout=0; {NGINX_KEEPALIVE[0] if keeps else ''}}}"
            location = NGINX_GUNICORN.format(keepalive=NGINX_KEEPALIVE[1] if keeps else "")
            front = self.starter.nginx(job + " keepalive" * keeps, port, CONNECTIONS, location, upstream)
            return Server(name, port, [front], behind=[behind])
        command = ", ".join(f'"{word}"' for word in [*words, "unix:{socket}", "app:application"])
        text = ONE_SERVER_GUNICORN.format(command=command)
        return Server(name, port, [self.one_server(job, port, text)])

    # Files of a site.

    def files_alone(self, folder):
        """One-server with nothing but the files in `folder`."""
        port = process.free_port()
        text = ONE_SERVER_FILES.format(folder=folder)
        return Server("files", port, [self.one_server("files", port, text)])

    # Ours.

    def one_server(self, job, port, text):
        """With a site of which `text` is all but the begin."""
        head = one_server_head(self.core, port) + "[site.main]\n"
        return self.starter.one_server_of(f"one-server {job}", port, head + text)


# As for WordPress: files, and what is none goes to the front controller.
ONE_SERVER_PHP = """\
[[site.main.route]]
path = "/"
files = {{ root = "{folder}", fallback = "@front" }}
[[site.main.route]]
regex = '(?i)\\.(css|js|png|jpe?g|gif|svg|woff2)$'
files = "{folder}"
expires = "30d"
[[site.main.route]]
regex = '\\.php(/|$)'
app = "php"
cgi = "{folder}"
[[site.main.route]]
name = "front"
app = "php"
cgi = {{ root = "{folder}", fallback = "/index.php" }}
[app.php]
type = "php"
command = "{php}"
workers = {workers}
{user}
"""

ONE_SERVER_GUNICORN = """\
[[site.main.route]]
path = "/"
app = "python"
[app.python]
type = "process"
command = [{command}]
"""

ONE_SERVER_FILES = """\
[[site.main.route]]
path = "/"
files = "{folder}"
"""

PHP_FPM = """\
[global]
error_log = {log}
daemonize = no
[bench]
listen = {socket}
{user}pm = static
pm.max_children = {workers}
catch_workers_output = yes
decorate_workers_output = no
"""

# The name is what PHP takes for its own host.
NGINX_PHP = """\
server_name 127.0.0.1;
        root {folder};
        index index.php;
        location / {{ try_files $uri $uri/ /index.php?$args; }}
        location ~* \\.(css|js|png|jpe?g|gif|svg|woff2)$ {{ expires 30d; }}
        location ~ \\.php(/|$) {{
            fastcgi_split_path_info ^(.+?\\.php)(/.*)$;
            {params}
            fastcgi_pass unix:{socket};
        }}"""

# As gunicorn's manual has it, with what one-server tells applications besides: who has more fields to read takes longer.
NGINX_GUNICORN = """\
location / {{
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $http_host;
            proxy_set_header X-Forwarded-Port $server_port;
            proxy_set_header X-Request-Id $request_id;
            proxy_set_header Host $http_host;
            proxy_redirect off;
            {keepalive}proxy_pass http://app;
        }}"""

# As nginx's manual has it (ngx_http_upstream_module, `keepalive`): of the upstream, of the location.
NGINX_KEEPALIVE = "keepalive 16; ", 'proxy_http_version 1.1; proxy_set_header Connection ""; '
