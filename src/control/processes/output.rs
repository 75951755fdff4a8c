//! What programs write: lines of our log, bounded in length and number.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

use crate::app::process::php::{self, Weight};
use crate::app::process::{Lines, Told};
use crate::config::model::ProcessApp;

/// Bytes read at once.
const PIECE_BYTES: usize = 16 * 1024;

/// Makes a pipe, whose end for the program is returned, and tells what comes through it until all who have that end are gone.
pub(super) fn open(app: &ProcessApp, slot: usize, stream: &'static str) -> io::Result<OwnedFd> {
    let (ours, theirs) = io::pipe()?;
    let pipe = Receiver::from_owned_fd(ours.into())?;
    let lines = Lines::new(app.output_line_bytes_max, app.output_lines_per_second);
    let weigh = if app.launch.php.is_some() { php::weigh } else { |_: &str| Weight::Info };
    tokio::spawn(tell(pipe, lines, weigh, (app.name.clone(), slot, stream)));
    Ok(theirs.into())
}

/// `weigh` tells how much a line weighs; `source` is the application, the place and the stream.
async fn tell(mut pipe: Receiver, mut lines: Lines, weigh: fn(&str) -> Weight, source: (String, usize, &'static str)) {
    let (app, instance, stream) = source;
    let line = |told| match told {
        Told::Line(line) => match weigh(&line) {
            Weight::Info => tracing::info!(%app, instance, stream, "{line}"),
            Weight::Warn => tracing::warn!(%app, instance, stream, "{line}"),
            Weight::Error => tracing::error!(%app, instance, stream, "{line}"),
        },
        Told::Dropped(count) => {
            tracing::warn!(%app, instance, stream, count, "lines of its output were too many and are dropped")
        }
    };
    let mut bytes = vec![0; PIECE_BYTES];
    while let Ok(count @ 1..) = pipe.read(&mut bytes).await {
        lines.push(&bytes[..count], Instant::now(), line);
    }
    lines.end(Instant::now(), line);
}
