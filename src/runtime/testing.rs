//! What tests of this crate need of a data worker.

use std::future::Future;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::driver::DataRuntime;
use super::net::Stream;
use crate::config::model::DriverChoice;

/// Runs `work` once on each driver.
pub(crate) fn on_both_drivers<F: Future<Output = ()>>(work: impl Fn() -> F) {
    for choice in [DriverChoice::Auto, DriverChoice::Epoll] {
        let (mut runtime, _) = DataRuntime::build(choice, 256, false).expect("a runtime");
        runtime.block_on(work());
    }
}

/// A stream of this worker, and the other end.
pub(crate) fn pair() -> (Stream, UnixStream) {
    let (ours, other) = UnixStream::pair().unwrap();
    ours.set_nonblocking(super::driver::is_epoll()).unwrap();
    other.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    (Stream::from_std_unix(ours).unwrap(), other)
}
