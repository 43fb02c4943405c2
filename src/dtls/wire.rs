//! What OpenSSL reads datagrams from and writes datagrams to.

use std::collections::VecDeque;
use std::io;

/// One datagram in, any number out. A session's is empty except during a call: the server puts its
/// own in and takes it out again, so that the buffers exist only once.
#[derive(Default)]
pub(super) struct Wire {
    input: Vec<u8>,
    has_input: bool,
    output: VecDeque<Vec<u8>>,
}

impl Wire {
    /// The datagram that OpenSSL reads next; replaces one not yet read.
    pub(super) fn put(&mut self, datagram: &[u8]) {
        self.input.clear();
        self.input.extend_from_slice(datagram);
        self.has_input = true;
    }

    /// A datagram that OpenSSL wrote.
    pub(super) fn take(&mut self) -> Option<Vec<u8>> {
        self.output.pop_front()
    }

    /// A datagram of our own, behind those of OpenSSL.
    pub(super) fn send(&mut self, datagram: Vec<u8>) {
        self.output.push_back(datagram);
    }

    /// Puts others in place of datagrams not yet taken, where `change` has one.
    pub(super) fn rewrite(&mut self, mut change: impl FnMut(&[u8]) -> Option<Vec<u8>>) {
        for datagram in &mut self.output {
            if let Some(other) = change(datagram) {
                *datagram = other;
            }
        }
    }

    /// The datagrams not yet taken.
    pub(super) fn written(&self) -> impl Iterator<Item = &[u8]> {
        self.output.iter().map(Vec::as_slice)
    }
}

impl io::Read for Wire {
    /// Gives the whole datagram at once, as a socket does.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !std::mem::take(&mut self.has_input) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let length = self.input.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..length), self.input.get(..length)) {
            to.copy_from_slice(from);
        }
        Ok(length)
    }
}

impl io::Write for Wire {
    /// One call is one datagram.
    fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
        self.output.push_back(datagram.to_vec());
        Ok(datagram.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
