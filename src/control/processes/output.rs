//! What programs write: lines of our log, bounded in length and number.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::mpsc;

use super::Heard;
use crate::app::process::php::{self, Weight};
use crate::app::process::{Lines, Told};
use crate::config::model::ProcessApp;

/// Bytes read at once.
const PIECE_BYTES: usize = 16 * 1024;

/// Whose output it is.
pub(super) struct Source<'a> {
    pub(super) app: &'a ProcessApp,
    /// The keeper's number of the instance, and its place.
    pub(super) number: u64,
    pub(super) slot: usize,
    pub(super) stream: &'static str,
}

/// Makes a pipe, whose end for the program is returned, and tells what comes through it until all who have that end are gone.
/// What the supervisor must know goes to `heard`.
pub(super) fn open(source: &Source<'_>, heard: &mpsc::Sender<Heard>) -> io::Result<OwnedFd> {
    let Source { app, number, slot, stream } = *source;
    let (ours, theirs) = io::pipe()?;
    let pipe = Receiver::from_owned_fd(ours.into())?;
    let lines = Lines::new(app.output_line_bytes_max, app.output_lines_per_second);
    let teller = Teller { app: app.name.clone(), instance: slot, stream, is_php: app.launch.php.is_some() };
    tokio::spawn(teller.tell_all(pipe, lines, number, heard.clone()));
    Ok(theirs.into())
}

/// Writes lines of one stream of one instance.
struct Teller {
    app: String,
    instance: usize,
    stream: &'static str,
    is_php: bool,
}

impl Teller {
    async fn tell_all(self, mut pipe: Receiver, mut lines: Lines, number: u64, heard: mpsc::Sender<Heard>) {
        let mut bytes = vec![0; PIECE_BYTES];
        while let Ok(count @ 1..) = pipe.read(&mut bytes).await {
            let mut refusal = None;
            lines.push(&bytes[..count], Instant::now(), |told| refusal = self.tell(told).or(refusal.take()));
            if let Some(reason) = refusal {
                // An error is the end of the supervisor.
                let _ = heard.send(Heard::Unfit(number, reason)).await;
            }
        }
        lines.end(Instant::now(), |told| drop(self.tell(told)));
    }

    /// Returns why the instance does not take its config, if that is what it says.
    fn tell(&self, told: Told) -> Option<String> {
        let Teller { app, instance, stream, is_php } = self;
        let line = match told {
            Told::Line(line) => line,
            Told::Dropped(count) => {
                tracing::warn!(app, instance, stream, count, "lines of its output were too many and are dropped");
                return None;
            }
        };
        match if *is_php { php::weigh(&line) } else { Weight::Info } {
            Weight::Info => tracing::info!(app, instance, stream, "{line}"),
            Weight::Warn => tracing::warn!(app, instance, stream, "{line}"),
            Weight::Error => tracing::error!(app, instance, stream, "{line}"),
        }
        is_php.then(|| php::refusal(&line)).flatten()
    }
}
