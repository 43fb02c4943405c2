//! Which address of this machine a datagram came to, and is to leave from, as the kernel says it (`ip(7)`: `IP_PKTINFO`;
//! RFC 3542 §6: `IPV6_PKTINFO`).

#![allow(unsafe_code)] // ancillary data of socket calls

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ptr;

/// Room for one control message with an address, as the kernel wants it aligned.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Control {
    /// `CMSG_SPACE` of `in6_pktinfo`, the longer of the two, is 40 bytes.
    room: [u64; 8],
    /// Bytes of it to be sent.
    length: usize,
}

impl Control {
    /// The control message that names `source`.
    pub(super) fn new(source: Option<IpAddr>) -> Self {
        match source {
            None => Self::default(),
            Some(IpAddr::V4(address)) => {
                let info = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr {
                        s_addr: u32::from_ne_bytes(address.octets()),
                    },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                Self::message(libc::IPPROTO_IP, libc::IP_PKTINFO, info)
            }
            Some(IpAddr::V6(address)) => {
                let info = libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr {
                        s6_addr: address.octets(),
                    },
                    ipi6_ifindex: 0,
                };
                Self::message(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info)
            }
        }
    }

    fn message<T>(level: libc::c_int, kind: libc::c_int, info: T) -> Self {
        let mut control = Self::default();
        let size = libc::c_uint::try_from(size_of::<T>()).unwrap_or_default();
        // SAFETY: these calculate with sizes only.
        let (space, length) = unsafe { (libc::CMSG_SPACE(size), libc::CMSG_LEN(size)) };
        debug_assert!(space as usize <= size_of_val(&control.room));
        let header = libc::cmsghdr {
            cmsg_len: length as usize,
            cmsg_level: level,
            cmsg_type: kind,
        };
        let start = control.room.as_mut_ptr().cast::<libc::cmsghdr>();
        // SAFETY: the room is aligned for a header and holds it and the data behind it, as the sizes
        // above say; the data may be unaligned.
        unsafe {
            start.write(header);
            libc::CMSG_DATA(start).cast::<T>().write_unaligned(info);
        }
        control.length = space as usize;
        control
    }

    /// Room for what the kernel says of the next datagram.
    pub(super) fn attach(&mut self, header: &mut libc::msghdr) {
        header.msg_control = self.room.as_mut_ptr().cast();
        header.msg_controllen = size_of_val(&self.room);
    }

    /// What the kernel is told of a datagram.
    pub(super) fn attach_to_send(&mut self, header: &mut libc::msghdr) {
        if self.length > 0 {
            header.msg_control = self.room.as_mut_ptr().cast();
            header.msg_controllen = self.length;
        }
    }

    /// Leaves the address of the first of `headers` to the route; false if it is already.
    pub(super) fn detach(headers: &mut [libc::mmsghdr]) -> bool {
        let Some(first) = headers.first_mut() else {
            return false;
        };
        let had = !first.msg_hdr.msg_control.is_null();
        first.msg_hdr.msg_control = ptr::null_mut();
        first.msg_hdr.msg_controllen = 0;
        had
    }

    /// The address that the datagram of `header` came to, and may be answered from. `header` is the
    /// one this room was attached to.
    pub(super) fn address(&self, header: &libc::msghdr) -> Option<IpAddr> {
        let size = size_of::<libc::cmsghdr>();
        if header.msg_controllen < size || header.msg_controllen > size_of_val(&self.room) {
            return None;
        }
        let start = self.room.as_ptr().cast::<libc::cmsghdr>();
        // SAFETY: the room is aligned, larger than a header, and initialised; the kernel wrote one.
        let found = unsafe { start.read() };
        let holds = |data: usize| found.cmsg_len >= size + data;
        match (found.cmsg_level, found.cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) if holds(size_of::<libc::in_pktinfo>()) => {
                // SAFETY: the room has 64 bytes, so that 12 fit behind the header.
                let info = unsafe {
                    libc::CMSG_DATA(start)
                        .cast::<libc::in_pktinfo>()
                        .read_unaligned()
                };
                Some(Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()).into())
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) if holds(size_of::<libc::in6_pktinfo>()) => {
                // SAFETY: the room has 64 bytes, so that 20 fit behind the header.
                let info = unsafe {
                    libc::CMSG_DATA(start)
                        .cast::<libc::in6_pktinfo>()
                        .read_unaligned()
                };
                let address = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                // A multicast address is nobody's to send from.
                (!address.is_multicast()).then_some(address.into())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_message_there_and_back() {
        for address in ["192.0.2.7", "2001:db8::7", "::ffff:192.0.2.7"] {
            let address: IpAddr = address.parse().unwrap();
            let mut control = Control::new(Some(address));
            // SAFETY: all-zero is a valid msghdr.
            let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
            control.attach_to_send(&mut header);
            assert_eq!(control.address(&header), Some(address));
        }
    }
}
