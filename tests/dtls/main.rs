//! The DTLS server in virtual time, with clients of OpenSSL and of our own.

#[path = "../support/dtls.rs"]
#[allow(missing_docs)]
mod support;

mod certificates;
mod handshakes;
mod ids;
mod kept;
mod limits;
mod sessions;
