//! A stream socket that is read up to a marker.

use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::wait;

/// A connected socket, and received bytes that are not yet taken.
pub(crate) struct Connection {
    pub(crate) stream: UnixStream,
    received: Vec<u8>,
}

impl Connection {
    /// Connects to a unix socket. Waits until a program listens there.
    pub(crate) fn open(path: &Path) -> Connection {
        let stream = wait::until(wait::ANSWER, || UnixStream::connect(path).ok())
            .unwrap_or_else(|| panic!("nobody listens at {}", path.display()));
        Connection {
            stream,
            received: Vec::new(),
        }
    }

    /// Returns the bytes before `marker`, and removes them and the marker. `None` when the limit passes
    /// or the other side is gone.
    pub(crate) fn take_to(&mut self, marker: &[u8], limit: Duration) -> Option<Vec<u8>> {
        let end = Instant::now() + limit;
        let mut searched = 0;
        loop {
            let found = self.received[searched..]
                .windows(marker.len())
                .position(|window| window == marker);
            if let Some(found) = found {
                let at = searched + found;
                let mut taken: Vec<u8> = self.received.drain(..at + marker.len()).collect();
                taken.truncate(at);
                return Some(taken);
            }
            // The end of the received bytes may be the beginning of a marker.
            searched = (self.received.len() + 1).saturating_sub(marker.len());
            let left = end.checked_duration_since(Instant::now())?;
            self.stream
                .set_read_timeout(Some(left.max(Duration::from_millis(1))))
                .expect("a time limit");
            let mut chunk = [0; 65536];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(count) => self.received.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
    }

    /// Returns the bytes that are not yet taken, as text for a message.
    pub(crate) fn rest(&self) -> String {
        String::from_utf8_lossy(&self.received).into_owned()
    }
}
