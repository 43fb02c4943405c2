//! Datagrams in and out of the kernel.

mod local;
mod sockaddr;
pub mod udp;
