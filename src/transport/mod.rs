//! Datagrams in and out of the kernel.

pub mod udp;
