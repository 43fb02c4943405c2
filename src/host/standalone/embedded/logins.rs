//! Failed logins: whoever guesses passwords waits.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;

/// How long a failed login waits for its answer.
const PENALTY: Duration = Duration::from_secs(1);

/// Failed logins of one source that wait at once; beyond it the source is refused unheard.
const PER_SOURCE: usize = 4;

/// Failed logins that wait at once. Also the bound of the table.
const IN_ALL: usize = 256;

/// Failed logins that are being waited out, by source; an IPv6 source is its /64.
#[derive(Debug, Default)]
pub(super) struct Logins(Mutex<HashMap<Option<IpAddr>, usize>>);

impl Logins {
    /// Lets a login be checked by `right`; whether it succeeds. A source with too many failed
    /// ones is refused unheard.
    pub(super) async fn attempt(
        &self,
        source: Option<IpAddr>,
        right: impl FnOnce() -> bool,
    ) -> bool {
        let source = source.map(network);
        if self.is_suspended(source) {
            return false;
        }
        if right() {
            return true;
        }
        if self.enter(source) {
            // Leaves also when the client goes meanwhile, which drops this future.
            let _waiting = Waiting(self, source);
            tokio::time::sleep(PENALTY).await;
        }
        false
    }

    fn is_suspended(&self, source: Option<IpAddr>) -> bool {
        self.0.lock().get(&source).is_some_and(|n| *n >= PER_SOURCE)
    }

    fn enter(&self, source: Option<IpAddr>) -> bool {
        let mut waiting = self.0.lock();
        if waiting.values().sum::<usize>() >= IN_ALL {
            return false;
        }
        let of_source = waiting.entry(source).or_default();
        *of_source = of_source.saturating_add(1);
        true
    }
}

struct Waiting<'a>(&'a Logins, Option<IpAddr>);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waiting = self.0.0.lock();
        if let Some(of_source) = waiting.get_mut(&self.1) {
            *of_source = of_source.saturating_sub(1);
            if *of_source == 0 {
                waiting.remove(&self.1);
            }
        }
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let bits = address.to_bits() >> 64 << 64;
            IpAddr::V6(bits.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn c12_passwords_are_not_guessed_by_the_thousand() {
        let logins = Arc::new(Logins::default());
        let source = Some(IpAddr::from([192, 0, 2, 1]));
        let checked = Cell::new(0);
        let begin = tokio::time::Instant::now();
        let guesses = (0..10_000).map(|_| {
            let guess = || {
                checked.set(checked.get() + 1);
                false
            };
            logins.attempt(source, guess)
        });
        let tasks = tokio::task::LocalSet::new();
        let (guesses, honest) = (guesses.collect::<Vec<_>>(), Arc::clone(&logins));
        tasks
            .run_until(async {
                let mut running: Vec<_> = guesses.into_iter().map(Box::pin).collect();
                // Each gets its first turn.
                for guess in &mut running {
                    let _ = tokio::time::timeout(Duration::ZERO, guess).await;
                }
                assert_eq!(checked.get(), PER_SOURCE);
                let other = Some(IpAddr::from([192, 0, 2, 2]));
                assert!(honest.attempt(other, || true).await);
                assert!(!honest.attempt(source, || true).await);
            })
            .await;
        assert!(begin.elapsed() < PENALTY);
        tokio::time::sleep(PENALTY).await;
        assert!(logins.attempt(source, || true).await);
        assert!(logins.0.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn c12_the_table_is_bounded() {
        let logins = Logins::default();
        for n in 0..2000u32 {
            let source = Some(IpAddr::from(n.to_be_bytes()));
            logins.enter(source);
        }
        assert_eq!(logins.0.lock().len(), IN_ALL);
    }

    #[test]
    fn a_network_of_ipv6_is_one_source() {
        let network = |text: &str| network(text.parse().unwrap());
        assert_eq!(network("2001:db8:1:2:3::4"), network("2001:db8:1:2::"));
        assert_ne!(network("2001:db8:1:3::"), network("2001:db8:1:2::"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
    }
}
