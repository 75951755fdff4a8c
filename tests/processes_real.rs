//! Applications that are processes, as people write and run them: gunicorn with Flask and Django, puma with Rails, Node, and a server in Rust.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;

use rustix::process::Signal;
use serde_json::Value;
use support::apps::{PEERS, eventually_gone, pids, shop, signal, site};
use support::load::under_load;
use support::*;

#[test]
fn gunicorn_is_reloaded_under_load_and_killed_with_all_its_workers() {
    if !has_program("gunicorn") {
        return;
    }
    for listening in ["\"--bind\", \"unix:{socket}\"]", "]\nlisten = \"fd\""] {
        let separator = if listening.starts_with(']') { "" } else { ", " };
        let command = format!(
            "command = [\"gunicorn\", \"--workers\", \"2\", \"--chdir\", \"$PEERS\", \"wsgi_app:application\"{separator}{listening}\nready_path = \"/status?code=204\"\n"
        );
        let server = site(&command).start();
        let first = pids(&server);
        assert_eq!(first.len(), 1);
        let workers = workers_of(first[0]);
        // One worker alone is killed: its master hears of it and starts another one.
        signal(workers[0], Signal::KILL);
        eventually("the place is filled", || {
            let now = children_of(first[0]);
            now.len() == 2 && !now.contains(&workers[0])
        });
        let workers = children_of(first[0]);
        let begun = std::time::Instant::now();
        let load = support::load::under_load_of(
            &server,
            "/digest",
            "0 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            || {
                server.ctl_ok(&["app", "reload", "shop"]);
                eventually("another one serves", || pids(&server).first().is_some_and(|pid| !first.contains(pid)));
                eventually_gone(&[&first[..], &workers].concat());
            },
        );
        load.assert_all_well(50);
        assert!(
            begun.elapsed() < std::time::Duration::from_secs(8),
            "it ended by itself, and was not killed in the end"
        );
        // Its master alone is killed: the workers must not go on without it.
        let master = pids(&server)[0];
        let workers = workers_of(master);
        signal(master, Signal::KILL);
        eventually_gone(&workers);
        eventually("another one serves", || pids(&server).first().is_some_and(|pid| *pid != master));
        let all = [pids(&server), workers_of(pids(&server)[0])].concat();
        server.signal(Signal::KILL);
        eventually_gone(&all);
    }
}

/// Both workers of a master, which start one after the other.
fn workers_of(master: u32) -> Vec<u32> {
    eventually("it has its workers", || children_of(master).len() == 2);
    children_of(master)
}

fn children_of(pid: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

#[test]
fn node_serves_on_a_socket_whose_path_is_its_port() {
    if !has_program("node") {
        return;
    }
    let script = "require('http').createServer((q, a) => a.end('here')).listen(process.env.PORT)";
    let server = site(&format!(
        "command = [\"node\", \"-e\", \"{script}\"]\nenvironment = {{ PORT = \"{{socket}}\" }}\ninstances = 2"
    ))
    .start();
    let first = pids(&server);
    let load = under_load(&server, || {
        server.ctl_ok(&["app", "reload", "shop"]);
        eventually_gone(&first);
    });
    load.assert_all_well(200);
    assert_eq!(pids(&server).len(), 2);
    eprintln!("{} answers", load.answers.load(Ordering::Relaxed));
}

/// `examples/passed_socket.rs`: what a person would write in Rust.
#[test]
fn a_program_in_rust_finishes_what_it_has_and_dies_alone() {
    // target/debug/deps/processes-… → target/debug/examples/passed_socket
    let own = std::env::current_exe().expect("a path");
    let target = own.parent().and_then(std::path::Path::parent).expect("target/debug");
    let program = target.join("examples/passed_socket");
    assert!(program.is_file(), "{} is not there: `cargo test` builds it", program.display());
    let lines = format!("command = \"{}\"\nlisten = \"fd\"\ninstances = 2\nbackoff = \"50ms\"", program.display());
    let server = site(&lines).start();
    let first = pids(&server);
    let begun = |count: usize| {
        eventually("it has begun", || {
            server.lines().iter().filter(|line| line.contains("begun app=shop")).count() == count
        })
    };
    let load = under_load(&server, || {
        // What an instance has is finished by it, although it is told to end meanwhile.
        let mut client = server.connect();
        client.send(post("/slow/1500", "x"));
        begun(1);
        server.ctl_ok(&["app", "restart", "shop"]);
        let answer = client.response("POST");
        assert!(answer.status == 200 && first.iter().any(|pid| pid.to_string() == answer.text()), "{}", answer.text());
        eventually_gone(&first);
        eventually("both are others", || pids(&server).len() == 2);
        // One that is killed takes with it what it has, and nothing of the other one.
        let mut clients: Vec<Client> = (0..2).map(|_| server.connect()).collect();
        let mut in_which = Vec::new();
        for (n, client) in clients.iter_mut().enumerate() {
            client.send(post("/slow/2000", "x"));
            begun(2 + n);
            let line = server.lines().into_iter().rfind(|line| line.contains("begun app=shop"));
            let place = line.and_then(|line| line.split("instance=").nth(1)?.split(' ').next()?.parse::<u64>().ok());
            in_which.push(place.expect("an instance"));
        }
        let instances = shop(&server)["instances"].as_array().cloned().expect("a list");
        let is_first = |instance: &&Value| instance["instance"].as_u64() == Some(in_which[0]);
        let killed = instances.iter().find(is_first).expect("it is there");
        signal(killed["pid"].as_u64().expect("a number") as u32, Signal::KILL);
        for (client, place) in clients.iter_mut().zip(&in_which) {
            let expect = if *place == in_which[0] { 502 } else { 200 };
            assert_eq!(client.response("POST").status, expect, "{in_which:?}");
        }
    });
    load.assert_all_well(200);
}

/// Keys of the README's first application that are about its machine, its user and its load.
const OF_THE_MACHINE: &[&str] =
    &["directory", "user", "instances", "requests_max", "ready_path", "restart_requests", "restart_memory"];

/// Starts such an application with `more` lines, replaces it under load, and asks it for an echo.
fn serves_and_is_replaced(what: &str, lines: &str, more: &str) {
    let server = site(&format!("{lines}\nready_path = \"/\"\nrequests_max = 8\n{more}")).start();
    let first = pids(&server);
    let load = under_load(&server, || {
        server.ctl_ok(&["app", "restart", "shop"]);
        eventually_gone(&first);
    });
    load.assert_all_well(50);
    assert_eq!(server.connect().ask(post("/echo", "body")).text(), "body", "{what}");
}

/// What the README says of an application, but for these keys, whose values are this machine's.
fn of_readme(app: &str, without: &[&str]) -> String {
    let readme = include_str!("../README.md");
    let (_, table) = readme.split_once(&format!("\n[app.{app}]")).expect("it is there");
    let lines = table.lines().skip(1).take_while(|line| !line.is_empty());
    let key = |line: &str| line.split(" = ").next().expect("a key").to_owned();
    let is_wanted = |line: &&str| key(line) != "type" && !without.contains(&&*key(line));
    lines.filter(is_wanted).collect::<Vec<_>>().join("\n")
}

/// The same, with more in its environment.
fn with_environment(lines: &str, more: &str) -> String {
    assert!(lines.contains("environment = { "), "{lines}");
    lines.replace("environment = { ", &format!("environment = {{ {more}, "))
}

/// What `scripts/test` puts into `target`; `None`, and said so: it is not there.
fn installed(path: &str, command: &mut Command) -> Option<PathBuf> {
    let is_there = command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    if !is_there {
        eprintln!("SKIPPED: {command:?} fails (scripts/test installs what it needs)");
    }
    is_there.then(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
}

/// A project as `django-admin startproject` makes it, served as the README has it.
#[test]
fn a_django_project_runs_as_its_manual_begins_one() {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/python/bin/python3");
    let mut has_django = Command::new(&python);
    let Some(python) = installed("target/python/bin/python3", has_django.args(["-c", "import django, gunicorn"]))
    else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let made = Command::new(&python).args(["-m", "django", "startproject", "shop"]).arg(folder.path()).status();
    assert!(made.expect("it runs").success());
    let project = folder.path().join("shop");
    std::fs::copy(format!("{PEERS}/django_urls.py"), project.join("urls.py")).expect("a copy");
    let settings = std::fs::read_to_string(project.join("settings.py")).expect("it was made");
    std::fs::write(project.join("settings.py"), settings + "\nALLOWED_HOSTS = [\"*\"]\nDEBUG = False\n")
        .expect("written");
    let gunicorn = format!("\"{}\", \"-m\", \"gunicorn\"", python.display());
    let lines = of_readme("flask", OF_THE_MACHINE).replace("\"gunicorn\"", &gunicorn).replace("shop:app", "shop.wsgi");
    serves_and_is_replaced("django", &lines, &format!("directory = \"{}\"", folder.path().display()));
}

#[test]
fn express_runs_as_its_manual_begins_one() {
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/node/node_modules");
    let mut has_express = Command::new("node");
    has_express.args(["-e", "require('express')"]).env("NODE_PATH", &modules);
    let Some(modules) = installed("target/node/node_modules", &mut has_express) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::copy(format!("{PEERS}/express_app.js"), folder.path().join("server.js")).expect("a copy");
    let modules = format!("NODE_PATH = \"{}\"", modules.display());
    let lines = with_environment(&of_readme("express", &["directory", "instances"]), &modules);
    serves_and_is_replaced("express", &lines, &format!("directory = \"{}\"\ninstances = 2", folder.path().display()));
}

/// A project as `rails new` makes it, served as the README has it.
#[test]
fn a_rails_project_runs_as_its_guide_begins_one() {
    if !has_program("rails") || !has_program("bundle") {
        eprintln!("SKIPPED: rails or bundle is not installed (scripts/test installs what it needs)");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let run = |command: &mut Command| {
        let output = command.env("HOME", folder.path()).stdin(Stdio::null()).output().expect("it runs");
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&said));
    };
    let project = folder.path().join("shop");
    // Without what it would fetch from elsewhere: it is made of Debian's packages.
    let new = ["new", "--minimal", "--api", "--skip-active-record", "--skip-test", "--skip-git", "--skip-bundle"];
    let without = ["--skip-bootsnap", "--skip-listen", "--skip-spring"];
    run(Command::new("rails").args(new).args(without).arg(&project));
    run(Command::new("bundle").args(["install", "--local"]).current_dir(&project));
    let controller = "class HomeController < ApplicationController\n  def index = render(plain: \"here\")\n  \
                      def echo = render(plain: request.raw_post)\nend\n";
    let routes = "Rails.application.routes.draw do\n  root \"home#index\"\n  post \"/echo\", to: \"home#echo\"\nend\n";
    std::fs::write(project.join("app/controllers/home_controller.rb"), controller).expect("written");
    std::fs::write(project.join("config/routes.rb"), routes).expect("written");
    let home = format!("HOME = \"{}\"", folder.path().display());
    let lines = with_environment(&of_readme("rails", &["directory"]), &home);
    serves_and_is_replaced("rails", &lines, &format!("directory = \"{}\"", project.display()));
}

/// As the README has them.
#[test]
fn flask_and_rack_applications_run_as_people_write_them() {
    let flask = Command::new("/usr/bin/python3").args(["-c", "import flask"]).stderr(Stdio::null()).status();
    let has_flask = flask.is_ok_and(|status| status.success()) && has_program("gunicorn");
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::copy(format!("{PEERS}/flask_app.py"), folder.path().join("shop.py")).expect("a copy");
    // Debian's, which has Debian's Flask.
    let gunicorn =
        of_readme("flask", OF_THE_MACHINE).replace("\"gunicorn\"", "\"/usr/bin/python3\", \"-m\", \"gunicorn\"");
    let puma = "command = [\"puma\", \"-b\", \"unix://{socket}\", \"-t\", \"1:8\", \"rack_app.ru\"]\nenvironment = { RACK_ENV = \"production\" }";
    let cases = [
        (has_flask, "flask", &*gunicorn, folder.path().display().to_string()),
        (has_program("puma"), "puma", puma, PEERS.to_owned()),
    ];
    for (is_there, what, lines, directory) in cases {
        if !is_there {
            eprintln!("skipped: {what} is not installed");
            continue;
        }
        let lines = with_environment(lines, "PYTHONDONTWRITEBYTECODE = \"1\"");
        serves_and_is_replaced(what, &lines, &format!("directory = \"{directory}\""));
    }
}
