//! The soak: mixed requests at a running one-server for minutes, every body compared byte by byte.
//!
//! It starts the server and a small upstream behind it, then keeps a number of clients busy: HTTP/1.1 and HTTP/2, clear and
//! TLS; files from nothing to 50 MB, ranges, conditions, compressed answers, downloads that are given up, readers that are
//! slow, uploads that are echoed and uploads that break off. Meanwhile it samples the server's memory, descriptors and
//! connections. After a warm-up and again at the end the load rests, and what the server then holds must be the same. It
//! fails when one request did, or when something grew.
//!
//! | file | does |
//! |---|---|
//! | `options` | the command line |
//! | `content` | the files and their bytes |
//! | `upstream` | the server behind the proxy |
//! | `server` | one-server as a process: config, start, stop, what it says about itself |
//! | `watch` | samples of the process, and whether they grew |
//! | `tls_stream` | rustls over a tokio socket |
//! | `client` | one connection, HTTP/1.1 or HTTP/2 |
//! | `jobs` | the requests, and what their answers must be |
//! | `multipart` | `multipart/byteranges` |
//! | `tally` | what was done, and what failed |
//!
//! hyper is the client and the upstream, so that no code of the server judges itself; it stands on the `h2` crate as the
//! server does. Deliberately not a benchmark: the clients verify, and that takes longer than serving.

mod client;
mod content;
mod jobs;
mod multipart;
mod options;
mod server;
mod tally;
mod tls_stream;
mod upstream;
mod watch;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use client::{Client, Dialer, Transport};
use content::Content;
use options::Options;
use server::Server;
use tally::Tally;
use upstream::Upstream;
use watch::{Sample, Watch};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Requests on one HTTP/1.1 connection: some connections reach the server's limit, see [`server::REQUESTS_MAX`].
const REQUESTS_HTTP1_MAX: usize = server::REQUESTS_MAX + 40;
/// Rounds of requests on one HTTP/2 connection, and requests at a time in each.
const ROUNDS_HTTP2_MAX: usize = 12;
const STREAMS_HTTP2_MAX: usize = 10;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => return fail(&message),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.to_string()),
    };
    match runtime.block_on(until_interrupted(run(&options))) {
        Ok(problems) if problems.is_empty() => {
            println!("passed");
            ExitCode::SUCCESS
        }
        Ok(problems) => {
            problems.iter().for_each(|problem| println!("FAILED: {problem}"));
            ExitCode::FAILURE
        }
        Err(message) => fail(&message),
    }
}

fn fail(message: &str) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::FAILURE
}

/// The server dies with the future that holds it.
async fn until_interrupted<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let (mut int, mut term) = match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(int), Ok(term)) => (int, term),
        _ => return Err("signals cannot be received".into()),
    };
    tokio::select! {
        done = work => done,
        _ = int.recv() => Err("interrupted; the server is stopped".into()),
        _ = term.recv() => Err("terminated; the server is stopped".into()),
    }
}

/// What all clients share.
pub(crate) struct World {
    pub(crate) content: Content,
    pub(crate) dialer: Dialer,
    pub(crate) tally: Tally,
}

/// The whole soak. Returns what went wrong, nothing is good. Errors: it could not be done.
async fn run(options: &Options) -> Result<Vec<String>, String> {
    let folder = tempfile::tempdir().map_err(|e| format!("temporary folder: {e}"))?;
    let content = Content::write(&folder.path().join("files"), options.seed)?;
    let upstream = Upstream::start(&content).await?;
    let (mut server, trusted) = Server::start(options, folder.path(), upstream.port).await?;
    println!("server: pid {} from {}", server.pid(), options.server.display());
    println!(
        "plan: {} s with {} clients, of which {} s to warm up; seed {}",
        options.time.as_secs(),
        options.clients,
        options.warm_up.as_secs(),
        options.seed
    );
    let dialer = Dialer::new(server.clear, server.secure, &trusted)?;
    let world = Arc::new(World { content, dialer, tally: Tally::default() });
    let watch = Watch::start(server.pid(), server.admin, world.clone());

    let rests = loads(&world, options, &watch).await;
    let samples = watch.stop();
    let mut problems = world.tally.problems();
    match &rests {
        Ok((before, after)) => problems.extend(watch::judge(&samples, before, after, &options.bounds)),
        Err(problem) => problems.push(problem.clone()),
    }
    problems.extend(upstream.problems());
    if let Err(problem) = server.stop().await {
        problems.push(problem);
    }
    println!("\n{}", world.tally.summary());
    if let Ok((before, after)) = &rests {
        println!("rested before: {before}\nrested after:  {after}");
    }
    if !problems.is_empty() {
        println!("last words of the server:\n{}", server.last_words());
    }
    Ok(problems)
}

/// Warm-up, rest, load, rest. Returns what the server held at both rests. Errors: it is gone, or does not come to rest.
async fn loads(world: &Arc<World>, options: &Options, watch: &Watch) -> Result<(Sample, Sample), String> {
    load(world, options, options.warm_up, options.seed).await;
    let before = rested(watch).await?;
    load(world, options, options.time - options.warm_up, options.seed.wrapping_add(1)).await;
    Ok((before, rested(watch).await?))
}

/// Keeps all clients busy for `time`; each finishes the connection it is in.
async fn load(world: &Arc<World>, options: &Options, time: Duration, seed: u64) {
    let end = Instant::now() + time;
    let mut clients = JoinSet::new();
    for index in 0..options.clients {
        let (world, rng) = (world.clone(), StdRng::seed_from_u64(seed ^ (index as u64) << 32));
        clients.spawn(async move { one_client(&world, rng, end).await });
    }
    while let Some(ended) = clients.join_next().await {
        if let Err(error) = ended {
            world.tally.fail("client", &error.to_string());
        }
    }
}

/// What the server holds when nobody wants anything of it. Errors: it does not come to rest.
async fn rested(watch: &Watch) -> Result<Sample, String> {
    let deadline = Instant::now() + server::REST;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let sample = watch.sample_now().await?;
        if sample.is_at_rest() {
            // Idle upstream connections and worker buffers have their own time-outs; they are part of what must not grow.
            tokio::time::sleep(server::IDLE_UPSTREAM + Duration::from_secs(1)).await;
            return watch.sample_now().await;
        }
        if Instant::now() > deadline {
            return Err(format!("the server does not come to rest: {sample}"));
        }
    }
}

async fn one_client(world: &Arc<World>, mut rng: StdRng, end: Instant) {
    while Instant::now() < end {
        let transport = Transport::random(&mut rng);
        let client = world.dialer.connect(transport, &mut rng).await;
        if let Ok(client) = &client {
            world.tally.connected(client.is_resumed);
        }
        match client {
            Ok(client) if transport.is_http2 => one_http2_connection(world, client, &mut rng, end).await,
            Ok(client) => one_http1_connection(world, client, &mut rng, end).await,
            Err(failure) => {
                world.tally.fail(transport.name(), &failure);
                tokio::time::sleep(Duration::from_millis(100)).await; // do not spin when the server is gone
            }
        }
    }
}

async fn one_http1_connection(world: &Arc<World>, mut client: Client, rng: &mut StdRng, end: Instant) {
    let requests = match rng.random_range(0..20) {
        0 => {
            client.may_break_off = false;
            REQUESTS_HTTP1_MAX
        }
        1..6 => 1,
        _ => rng.random_range(2..40),
    };
    for index in 0..requests {
        client.says_close = index + 1 == requests && rng.random_bool(0.5);
        jobs::perform(world, &mut client, rng).await;
        if client.is_over || Instant::now() > end {
            break;
        }
    }
    if client.is_over && !client.says_close && !client.is_broken_off {
        world.tally.ended_by_server();
    }
    finish(world, client).await;
}

async fn one_http2_connection(world: &Arc<World>, client: Client, rng: &mut StdRng, end: Instant) {
    for _ in 0..rng.random_range(1..=ROUNDS_HTTP2_MAX) {
        let mut streams = JoinSet::new();
        for _ in 0..rng.random_range(1..=STREAMS_HTTP2_MAX) {
            let (world, mut client) = (world.clone(), client.another_stream());
            let mut rng = StdRng::from_rng(rng);
            streams.spawn(async move { jobs::perform(&world, &mut client, &mut rng).await });
        }
        while let Some(ended) = streams.join_next().await {
            if let Err(error) = ended {
                world.tally.fail("stream", &error.to_string());
            }
        }
        if client.is_closed() || Instant::now() > end {
            break;
        }
    }
    finish(world, client).await;
}

async fn finish(world: &World, client: Client) {
    let name = client.transport.name();
    if let Err(failure) = client.finish().await {
        world.tally.fail(name, &failure);
    }
}
