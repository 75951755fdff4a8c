"""Debian's WordPress, installed by `scripts/wordpress`, for servers on any port."""

import re
import shutil
from pathlib import Path

from .machine import ROOT
from .process import Failed, free_port

INSTALL_SECONDS = 180.0
# The script lets its database end, which takes its time.
STOP_SECONDS = 60.0
# What `/` and a file beside it are called; of the file: one that is on nearly every page.
PAGE, ASSET = "/", "/wp-includes/js/jquery/jquery-migrate.min.js"
# Who is asked is who the page's links lead to, and the database is the primary itself: the servers differ in nothing else.
LOCAL = """\
define('DB_HOST', '{primary}');
define('WP_HOME', 'http://' . ($_SERVER['HTTP_HOST'] ?? 'localhost'));
define('WP_SITEURL', WP_HOME);
define('DISABLE_WP_CRON', true);
"""


def install(stage, one_server, core):
    """The folder of a site with one post, whose database runs on `core`."""
    folder = stage.folder / "wordpress"
    command = [ROOT / "scripts" / "wordpress", "--listen", f"127.0.0.1:{free_port()}", "--folder", folder]
    script = stage.start("wordpress", command, core, {"ONE_SERVER": str(one_server)}, STOP_SECONDS)

    def is_installed():
        if "open https://" not in script.log.read_text(errors="replace"):
            raise OSError("not installed yet")

    script.wait_ready(is_installed, INSTALL_SECONDS)
    assignments = dict(line.split("=", 1) for line in (folder / "db" / "env").read_text().splitlines())
    site = stage.folder / "site"
    shutil.copytree(folder / "site", site)
    config = site / "wp-config.php"
    config.write_text(localized(config.read_text(), assignments["PRIMARY"]))
    config.chmod(0o644)
    return site


def localized(text, primary):
    """wp-config.php without a host of its own. Failed: it does not look as the script writes it."""
    without, count = re.subn(r"^define\('(DB_HOST|WP_HOME|WP_SITEURL)'.*\n", "", text, flags=re.MULTILINE)
    if count != 3 or not without.startswith("<?php\n"):
        raise Failed(f"scripts/wordpress writes another wp-config.php than this expects: {count} of 3 lines")
    return without.replace("<?php\n", "<?php\n" + LOCAL.format(primary=primary), 1)


def asset(site):
    return Path(site, ASSET[1:]).read_bytes()
