//! A socket on its way from one data worker to another.

use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::RecvFlags;

use super::net::{Peek, Stream};

/// A connection that belongs to no worker: it can be sent to another thread and taken up there. Dropping it closes it.
#[derive(Debug)]
pub struct Detached {
    fd: OwnedFd,
    is_unix: bool,
}

impl Detached {
    /// Takes the connection away from its worker. Nothing must be under way on it: what the kernel still works on is for the
    /// old owner.
    ///
    /// Errors: no descriptor is left; the connection comes back as it was.
    pub fn of(stream: Stream) -> Result<Detached, (Stream, io::Error)> {
        let is_unix = stream.is_unix();
        // A second descriptor of the same connection, because monoio gives its own only back by closing it: with epoll that is
        // also what takes it out of this worker's set.
        match rustix::io::fcntl_dupfd_cloexec(stream.borrow(), 3) {
            Ok(fd) => Ok(Detached { fd, is_unix }),
            Err(error) => Err((stream, error.into())),
        }
    }

    /// Gives it to the worker that runs on this thread.
    ///
    /// Errors: the worker's poller does not take it; the connection is closed then.
    pub fn attach(self) -> io::Result<Stream> {
        // A worker that has fallen back to epoll wants another mode than those with a ring.
        rustix::io::ioctl_fionbio(&self.fd, super::driver::is_epoll())?;
        match self.is_unix {
            true => Stream::from_std_unix(UnixStream::from(self.fd)),
            false => Stream::from_std_tcp(TcpStream::from(self.fd)),
        }
    }

    /// What a read would find, without blocking and without taking anything out.
    pub fn peek(&self) -> Peek {
        let mut byte = [0u8; 1];
        match rustix::net::recv(self.fd.as_fd(), &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((0, _)) => Peek::Closed,
            Ok(_) => Peek::Bytes,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Peek::Quiet,
            Err(_) => Peek::Closed,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::time::Duration;

    use super::*;
    use crate::config::model::DriverChoice;
    use crate::runtime::driver::DataRuntime;
    use crate::runtime::net::Address;

    #[test]
    fn a_connection_goes_on_with_another_worker() {
        for driver in [DriverChoice::Auto, DriverChoice::Epoll] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = Address::Tcp(listener.local_addr().unwrap());
            let peer = std::thread::spawn(move || {
                let (mut peer, _) = listener.accept().unwrap();
                peer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                let mut got = Vec::new();
                let mut chunk = [0; 100];
                // One byte of answer for each run of bytes.
                while let Ok(count) = peer.read(&mut chunk) {
                    if count == 0 {
                        break;
                    }
                    got.extend_from_slice(&chunk[..count]);
                    peer.write_all(b"!").unwrap();
                }
                got
            });
            let mut moving: Option<Detached> = None;
            for text in ["one", "two", "three"] {
                let (before, address) = (moving.take(), address.clone());
                let after = std::thread::spawn(move || {
                    let (mut runtime, _) = DataRuntime::build(driver, 64, false).unwrap();
                    runtime.block_on(async move {
                        let stream = match before {
                            Some(detached) => {
                                assert_eq!(detached.peek(), Peek::Quiet);
                                detached.attach().unwrap()
                            }
                            None => Stream::connect(&address).await.unwrap(),
                        };
                        let (sent, _) = stream.write_all(text.as_bytes().to_vec()).await;
                        sent.unwrap();
                        let (read, answer) = stream.read(Vec::with_capacity(10)).await;
                        assert_eq!((read.unwrap(), answer.as_slice()), (1, b"!".as_slice()));
                        Detached::of(stream).map_err(|(_, error)| error).unwrap()
                    })
                });
                moving = Some(after.join().unwrap());
            }
            drop(moving);
            assert_eq!(peer.join().unwrap(), b"onetwothree");
        }
    }
}
