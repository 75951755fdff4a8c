//! A client of HTTP/3: aioquic, driven by `tests/peers/http3.py`, which `scripts/test` installs into `target/python`. One of
//! HTTP/2 follows the same plans: h2, driven by `tests/peers/http2.py`.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use base64::Engine;
use serde_json::{Value, json};

use super::server::Server;

/// What runs it; `None`, and a word about that, where it is not installed.
pub(crate) fn python() -> Option<std::path::PathBuf> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/python/bin/python3");
    if !python.is_file() {
        eprintln!("SKIPPED: aioquic is not installed: `scripts/test` does it");
        return None;
    }
    Some(python)
}

/// A client that follows its plan.
pub(crate) struct Running {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// What it saw.
pub(crate) struct Seen(pub(crate) Value);

/// The answer to one request.
pub(crate) struct Answer<'a>(&'a Value);

/// Starts a client at the listener `secure`; `settings` are those of the plan beside address and steps.
pub(crate) fn begin(server: &Server, settings: Value, steps: Value) -> Running {
    begin_at(server.address("secure"), settings, steps)
}

pub(crate) fn begin_at(address: SocketAddr, settings: Value, steps: Value) -> Running {
    start("http3.py", &plan(address, settings, steps))
}

/// Starts a client of HTTP/2.
pub(crate) fn begin_http2(server: &Server, steps: Value) -> Running {
    start("http2.py", &plan(server.address("secure"), json!({}), steps))
}

fn plan(address: SocketAddr, settings: Value, steps: Value) -> Value {
    let mut plan = json!({ "address": address.ip().to_string(), "port": address.port(), "steps": steps });
    if let (Some(plan), Value::Object(settings)) = (plan.as_object_mut(), settings) {
        plan.extend(settings);
    }
    plan
}

fn start(script: &str, plan: &Value) -> Running {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(script);
    let mut command = Command::new(python().expect("asked before"));
    let mut child =
        command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the client starts");
    let (mut input, output) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
    writeln!(input, "{plan}").expect("the plan is taken");
    Running { child, input, output: BufReader::new(output) }
}

/// Lets a client follow its plan to the end.
pub(crate) fn run(server: &Server, settings: Value, steps: Value) -> Seen {
    begin(server, settings, steps).end()
}

/// The same for several clients side by side: settings and steps of each.
pub(crate) fn run_all(server: &Server, plans: Vec<(Value, Value)>) -> Vec<Seen> {
    let address = server.address("secure");
    let plans: Vec<Value> = plans.into_iter().map(|(settings, steps)| plan(address, settings, steps)).collect();
    let Value::Array(seen) = start("http3.py", &json!({ "plans": plans })).end().0 else { panic!("one for each") };
    seen.into_iter().map(Seen).collect()
}

impl Running {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a line");
        assert!(!line.is_empty(), "the client failed: {:?}", self.child.wait());
        line
    }

    /// Waits until it has come to this step, `signal`.
    pub(crate) fn wait_for(&mut self, name: &str) {
        let line = self.line();
        assert_eq!(line.trim_end(), format!("@{name}"));
    }

    /// Lets it go on.
    pub(crate) fn go_on(&mut self) {
        writeln!(self.input).expect("it listens");
    }

    /// What it saw in all.
    pub(crate) fn end(mut self) -> Seen {
        let line = self.line();
        let status = self.child.wait().expect("it ends");
        assert!(status.success(), "the client failed: {status}");
        Seen(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Seen {
    pub(crate) fn answer(&self, name: &str) -> Answer<'_> {
        let answer = &self.0["answers"][name];
        assert!(answer.is_object(), "no request {name}: {}", self.0);
        Answer(answer)
    }

    /// The code of HTTP/3 that the server ended the connection with.
    pub(crate) fn closed(&self) -> Option<u64> {
        let closed = &self.0["closed"];
        closed["is_http"].as_bool().filter(|is_http| *is_http).and_then(|_| closed["code"].as_u64())
    }

    /// Ids of the GOAWAY frames.
    pub(crate) fn goaways(&self) -> Vec<u64> {
        self.0["goaways"].as_array().expect("a list").iter().filter_map(Value::as_u64).collect()
    }
}

impl Answer<'_> {
    pub(crate) fn status(&self) -> u64 {
        self.0["status"].as_u64().expect("a status")
    }

    pub(crate) fn fields(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        self.0["fields"].as_array().expect("a list").iter().map(|field| (text(&field[0]), text(&field[1]))).collect()
    }

    /// The one value of a field; panics when it occurs twice.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        let fields = self.fields();
        let mut values = fields.iter().filter(|(known, _)| known == name).map(|(_, value)| value.clone());
        let value = values.next();
        assert!(values.next().is_none(), "{name} occurs twice: {fields:?}");
        value
    }

    /// Statuses of the answers before it.
    pub(crate) fn interim(&self) -> Vec<u64> {
        self.0["interim"].as_array().expect("a list").iter().filter_map(|interim| interim[0].as_u64()).collect()
    }

    /// Content of which not much was kept.
    pub(crate) fn content(&self) -> Vec<u8> {
        let text = self.0["content"].as_str().expect("kept");
        base64::engine::general_purpose::STANDARD.decode(text).expect("Base64")
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.content()).into_owned()
    }

    pub(crate) fn length(&self) -> u64 {
        self.0["length"].as_u64().expect("a length")
    }

    pub(crate) fn sha256(&self) -> String {
        self.0["sha256"].as_str().expect("a digest").to_owned()
    }

    /// It came to its end.
    /// What came behind the content; empty where nothing did.
    pub(crate) fn trailers(&self) -> Vec<[String; 2]> {
        serde_json::from_value(self.0["trailers"].clone()).unwrap_or_default()
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.0["end"] == "whole"
    }

    /// The code that the stream was reset with.
    pub(crate) fn reset(&self) -> Option<u64> {
        self.0["end"].as_u64()
    }

    /// How long it took to its end.
    pub(crate) fn seconds(&self) -> f64 {
        self.0["seconds"].as_f64().expect("a whole answer")
    }

    /// The code with which the client was told to send no more.
    pub(crate) fn stopped(&self) -> Option<u64> {
        self.0["stopped"].as_u64()
    }
}

/// A request that is waited for.
pub(crate) fn ask(name: &str, path: &str) -> Value {
    json!({ "op": "request", "name": name, "path": path })
}

/// The same with further keys.
pub(crate) fn ask_with(name: &str, path: &str, more: Value) -> Value {
    let mut step = ask(name, path);
    if let (Some(step), Value::Object(more)) = (step.as_object_mut(), more) {
        step.extend(more);
    }
    step
}

/// The digest that the client would have of these bytes.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
