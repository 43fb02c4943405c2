//! Who has come in by TLS or WebSocket, by the ticket that each has with the broker.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::Notify;

/// A connection that was unwrapped.
#[derive(Debug, Clone)]
pub(in super::super) struct Guest {
    /// Where it comes from.
    pub(in super::super) peer: SocketAddr,
    /// Its user, by its certificate: no password is asked for.
    pub(in super::super) identity: Option<Arc<str>>,
    /// Told when it has logged in.
    pub(super) inside: Arc<Notify>,
}

/// All of them.
#[derive(Debug, Clone)]
pub(in super::super) struct Guests {
    by_ticket: Arc<RwLock<HashMap<Ipv6Addr, Guest>>>,
    identity_as_username: bool,
}

impl Guests {
    pub(super) fn new(identity_as_username: bool) -> Self {
        Self {
            by_ticket: Arc::default(),
            identity_as_username,
        }
    }

    /// Who has this ticket, which the broker takes for an address.
    pub(in super::super) fn find(&self, ticket: Option<SocketAddr>) -> Option<Guest> {
        match ticket?.ip() {
            IpAddr::V6(ticket) => self.by_ticket.read().get(&ticket).cloned(),
            IpAddr::V4(_) => None,
        }
    }

    /// A connection has logged in.
    pub(in super::super) fn logged_in(&self, guest: &Guest) {
        guest.inside.notify_one();
    }

    /// A ticket for a connection from `peer`, which ends with what is returned.
    pub(super) fn enter(
        &self,
        peer: SocketAddr,
        identity: Option<String>,
    ) -> Result<Ticket, getrandom::Error> {
        let mut bits = [0; 16];
        getrandom::fill(&mut bits)?;
        let number = Ipv6Addr::from(bits);
        let guest = Guest {
            peer,
            identity: identity
                .filter(|_| self.identity_as_username)
                .map(Arc::from),
            inside: Arc::default(),
        };
        let inside = Arc::clone(&guest.inside);
        self.by_ticket.write().insert(number, guest);
        Ok(Ticket {
            number,
            inside,
            guests: self.clone(),
        })
    }
}

/// See [`Guests::enter`].
pub(super) struct Ticket {
    pub(super) number: Ipv6Addr,
    /// Told when its connection has logged in.
    pub(super) inside: Arc<Notify>,
    guests: Guests,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.guests.by_ticket.write().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_good_while_its_connection_lasts() {
        let guests = Guests::new(true);
        let peer = SocketAddr::from(([192, 0, 2, 1], 7));
        let ticket = guests.enter(peer, Some("me".to_owned())).unwrap();
        let shown = SocketAddr::from((ticket.number, 1));
        let guest = guests.find(Some(shown)).unwrap();
        assert_eq!((guest.peer, guest.identity.as_deref()), (peer, Some("me")));
        drop(ticket);
        assert!(guests.find(Some(shown)).is_none());
        assert!(guests.find(Some(peer)).is_none());
        let guests = Guests::new(false);
        let ticket = guests.enter(peer, Some("me".to_owned())).unwrap();
        let shown = SocketAddr::from((ticket.number, 1));
        assert!(guests.find(Some(shown)).unwrap().identity.is_none());
    }
}
