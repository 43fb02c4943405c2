//! How much one command may ask of its device.

use crate::coap::block::Pace;
use crate::config::Blockwise;
use crate::time::Instant;

/// Requests that a command may cause beside those of [`REQUESTS_PER_BLOCK`]: for all the formats
/// and block sizes there are to be tried, and some.
const SPARE_REQUESTS: u32 = 32;

/// Requests that a block may cause: bodies are sent or fetched anew when a device does not like
/// their format or the size of their blocks, or changes what it sends.
const REQUESTS_PER_BLOCK: u32 = 4;

/// What a command may still ask of its device. Each request that brings nothing new counts; each
/// block that has got across for the first time pays for some of them. So a command of `n` blocks
/// causes `32 + 4 n` requests at most, in a time that is bounded as well, whatever its device
/// answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) struct Effort {
    spare: u32,
    /// Most bytes of the request's body that the device has taken.
    sent: usize,
    /// Most bytes of the response's body that are here.
    received: usize,
    /// `None` until a second request.
    pace: Option<Pace>,
}

/// Why no more is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Exhausted {
    /// More requests than the command is worth.
    Requests,
    /// `blockwise.exchange_lifetime` is over.
    Time,
}

impl Effort {
    pub(in crate::engine) const fn new() -> Self {
        Self {
            spare: SPARE_REQUESTS,
            sent: 0,
            received: 0,
            pace: None,
        }
    }

    /// Another request of `job` is to be sent at `now`.
    pub(in crate::engine) fn spend(
        &mut self,
        now: Instant,
        bounds: &Blockwise,
        sent: usize,
        received: usize,
    ) -> Result<(), Exhausted> {
        let pace = self.pace.get_or_insert_with(|| Pace::new(now));
        if pace.deadline(bounds.exchange_lifetime) <= now {
            return Err(Exhausted::Time);
        }
        if sent > self.sent || received > self.received {
            pace.block(now);
            self.sent = self.sent.max(sent);
            self.received = self.received.max(received);
            self.spare = self.spare.saturating_add(REQUESTS_PER_BLOCK - 1);
            return Ok(());
        }
        self.spare = self.spare.checked_sub(1).ok_or(Exhausted::Requests)?;
        Ok(())
    }

    /// The transfer waits for others; that time does not count.
    pub(in crate::engine) const fn park(&mut self) {
        self.pace = None;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const BOUNDS: Blockwise = Blockwise {
        enable: true,
        max_block_size: 1024,
        max_body_size: 1 << 20,
        exchange_lifetime: Duration::from_secs(247),
    };

    fn second(s: u64) -> Instant {
        Instant::from_micros(s * 1_000_000)
    }

    #[test]
    fn requests_that_bring_nothing_come_to_an_end() {
        let mut effort = Effort::new();
        for _ in 0..SPARE_REQUESTS {
            assert_eq!(effort.spend(second(0), &BOUNDS, 0, 0), Ok(()));
        }
        let spent = effort.spend(second(0), &BOUNDS, 0, 0);
        assert_eq!(spent, Err(Exhausted::Requests));
        // Of n blocks 32 + 4 n.
        for blocks in [100, 200] {
            let mut effort = Effort::new();
            let mut requests = 0;
            for block in 1..=blocks {
                effort.spend(second(0), &BOUNDS, 0, block * 16).unwrap();
                requests += 1;
            }
            while effort.spend(second(0), &BOUNDS, 0, 16).is_ok() {
                requests += 1;
            }
            assert_eq!(requests, 32 + 4 * blocks);
        }
    }

    #[test]
    fn a_transfer_that_does_not_get_on_is_too_late() {
        let mut effort = Effort::new();
        for block in 0..5 {
            let now = second(50 * block as u64);
            assert_eq!(effort.spend(now, &BOUNDS, 0, 16 * block), Ok(()));
        }
        let late = effort.spend(second(250), &BOUNDS, 0, 16 * 5);
        assert_eq!(late, Err(Exhausted::Time));
        // A long body at 10 s a block takes its time.
        let mut effort = Effort::new();
        for block in 1..2000 {
            let now = second(10 * block as u64);
            assert_eq!(effort.spend(now, &BOUNDS, 16 * block, 0), Ok(()));
        }
    }
}
