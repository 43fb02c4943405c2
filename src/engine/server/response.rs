//! Responses of the gateway to requests of devices.

use crate::coap::message::{Builder, option};
use crate::coap::{Code, Message, MessageType};

/// Longest diagnostic payload in bytes. What it says of a device's own words, or of the host's,
/// might otherwise be longer than a datagram.
const MAX_DIAGNOSTIC: usize = 512;

/// A response of ours before it has a message type and id.
#[derive(Debug)]
pub(in crate::engine) struct Response {
    pub(in crate::engine) code: Code,
    pub(in crate::engine) options: Vec<(u16, Vec<u8>)>,
    pub(in crate::engine) payload: Vec<u8>,
}

impl Response {
    pub(in crate::engine) fn new(code: Code) -> Self {
        Self {
            code,
            options: Vec::new(),
            payload: Vec::new(),
        }
    }

    /// An error with a diagnostic payload (RFC 7252 §5.5.2), of which [`MAX_DIAGNOSTIC`] bytes are
    /// sent at most.
    pub(in crate::engine) fn error(code: Code, diagnostic: &str) -> Self {
        let end = diagnostic.floor_char_boundary(MAX_DIAGNOSTIC);
        let diagnostic = diagnostic.get(..end).unwrap_or_default();
        Self {
            payload: diagnostic.as_bytes().to_vec(),
            ..Self::new(code)
        }
    }

    pub(in crate::engine) fn option(mut self, number: u16, value: impl Into<Vec<u8>>) -> Self {
        self.options.push((number, value.into()));
        self
    }

    pub(in crate::engine) fn uint(self, number: u16, value: u32) -> Self {
        let bytes = value.to_be_bytes();
        let skip = value.leading_zeros() as usize / 8;
        self.option(number, bytes.get(skip..).unwrap_or_default())
    }

    pub(in crate::engine) fn into_builder(
        self,
        kind: MessageType,
        mid: u16,
        request: &Message,
    ) -> Builder {
        let builder = Builder::new(kind, self.code, mid, request.token());
        // A Block1 option of the request is answered by one (RFC 7959 §2.3), unless set already.
        let has_block1 = self
            .options
            .iter()
            .any(|(number, _)| *number == option::BLOCK1);
        let block1 = request.first_option(option::BLOCK1).filter(|_| !has_block1);
        let builder = self
            .options
            .into_iter()
            .fold(builder, |builder, (number, value)| {
                builder.option(number, value)
            });
        let builder = match block1 {
            Some(value) => builder.option(option::BLOCK1, value),
            None => builder,
        };
        builder.payload(self.payload)
    }
}
