//! Directions of a tunnel in which one side speaks TLS: read, decrypted or encrypted, written.

use super::{Ended, Progress, Side, Tunnel};

/// First size of a read; one that is filled is followed by larger ones.
const SMALL_READ_BYTES: usize = 4 * 1024;

impl Tunnel<'_> {
    /// Client to server.
    pub(super) async fn copy_up(&self, first: Vec<u8>, progress: &Progress<'_>) -> Ended {
        let mut buffer = first;
        let mut is_bulk = false;
        loop {
            if !buffer.is_empty() {
                progress.on_taken(Side::Client, buffer.len());
                self.worker.stats.http.bytes_in.add(buffer.len() as u64);
                let (result, returned) = self.server.write_all(self.worker, buffer).await;
                buffer = returned;
                if result.is_err() {
                    return Ended::Broken(Side::Server);
                }
            }
            if !is_bulk {
                self.worker.hot.give_buffer_back(std::mem::take(&mut buffer));
                if self.connection.readable().await.is_err() {
                    return Ended::Broken(Side::Client);
                }
            }
            buffer = self.room(buffer, is_bulk);
            let (result, returned) = self.connection.read(self.worker, buffer).await;
            buffer = returned;
            match result {
                Ok(0) if self.connection.watched.is_broken() => return Ended::Broken(Side::Client),
                Ok(0) => break,
                Ok(_) => is_bulk = buffer.len() == buffer.capacity(),
                Err(_) => return Ended::Broken(Side::Client),
            }
        }
        self.worker.hot.give_buffer_back(buffer);
        self.server.end_direction().await;
        Ended::Closed
    }

    /// Server to client.
    pub(super) async fn copy_down(&self, first: Vec<u8>, progress: &Progress<'_>) -> Ended {
        let mut buffer = first;
        let mut is_bulk = false;
        loop {
            if !buffer.is_empty() {
                progress.on_taken(Side::Server, buffer.len());
                match self.connection.send(self.worker, buffer).await {
                    Ok(returned) => buffer = returned,
                    Err(_) => return Ended::Broken(Side::Client),
                }
            }
            if !is_bulk {
                self.worker.hot.give_buffer_back(std::mem::take(&mut buffer));
                if self.server.readable().await.is_err() {
                    return Ended::Broken(Side::Server);
                }
            }
            buffer = self.room(buffer, is_bulk);
            let (result, returned) = self.server.read(self.worker, buffer).await;
            buffer = returned;
            match result {
                Ok(0) if self.connection.watched.is_broken() => return Ended::Broken(Side::Server),
                Ok(0) => break,
                Ok(_) => is_bulk = buffer.len() == buffer.capacity(),
                Err(_) => return Ended::Broken(Side::Server),
            }
        }
        self.worker.hot.give_buffer_back(buffer);
        self.connection.end_direction(progress.half_closed_timeout.get()).await;
        Ended::Closed
    }

    /// An empty buffer for the next read.
    fn room(&self, mut buffer: Vec<u8>, is_bulk: bool) -> Vec<u8> {
        let bytes = if is_bulk { self.worker.config.process.stream_buffer_bytes } else { SMALL_READ_BYTES };
        buffer.clear();
        if buffer.capacity() < bytes {
            self.worker.hot.give_buffer_back(buffer);
            buffer = self.worker.hot.take_buffer(bytes);
        }
        buffer
    }
}
