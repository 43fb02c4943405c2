//! Retransmission of Confirmable messages (RFC 7252 §4.2 and §4.8) and the deadline that ends
//! every exchange.

use std::time::Duration;

use crate::config::Coap;
use crate::time::Instant;

/// Where a request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Sent `sent` times; waiting for an acknowledgement.
    AwaitAck { sent: u8, timeout: Duration },
    /// Acknowledged by an Empty ACK; the separate response is still to come (RFC 7252 §5.2.2).
    AwaitResponse,
}

/// What to do at a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Not yet.
    Wait,
    /// Send the same datagram again.
    Retransmit,
    /// Give up.
    Expired,
}

/// The timer of one Confirmable request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transmission {
    state: State,
    deadline: Instant,
    /// When it was sent last.
    sent_at: Instant,
}

impl Transmission {
    /// A request sent at `now`. `jitter` is a random number of 32 bits, spread over
    /// ACK_TIMEOUT … ACK_TIMEOUT × ACK_RANDOM_FACTOR.
    pub fn start(now: Instant, jitter: u32, parameters: &Coap) -> Self {
        let spread = parameters.ack_random_factor.clamp(1.0, 10.0) - 1.0;
        let factor = 1.0 + spread * f64::from(jitter) / f64::from(u32::MAX);
        let timeout = parameters.ack_timeout.mul_f64(factor);
        Self {
            state: State::AwaitAck { sent: 1, timeout },
            deadline: now + timeout,
            sent_at: now,
        }
    }

    /// An Empty ACK arrived: the response has its own deadline. A repeated ACK changes nothing.
    pub fn acknowledged(&mut self, now: Instant, parameters: &Coap) {
        if self.is_outstanding() {
            self.state = State::AwaitResponse;
            self.deadline = now + parameters.response_timeout;
        }
    }

    /// It is sent no more; the response is waited for as long as the acknowledgement would be.
    pub const fn stop(&mut self) {
        self.state = State::AwaitResponse;
    }

    /// Counts against NSTART (RFC 7252 §4.7).
    pub const fn is_outstanding(&self) -> bool {
        matches!(self.state, State::AwaitAck { .. })
    }

    /// The device has just been heard of: whether the request is to be sent again at once, out of
    /// turn. A device that sleeps listens now, and perhaps at none of the times of the schedule.
    /// ACK_TIMEOUT lies between two of these; the schedule and its end stay as they are.
    pub fn heard(&mut self, now: Instant, parameters: &Coap) -> bool {
        let again = self.is_outstanding() && now - self.sent_at >= parameters.ack_timeout;
        if again {
            self.sent_at = now;
        }
        again
    }

    /// When to call [`Transmission::poll`].
    pub const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// What is due at `now`. A timer that is late by more than its period retransmits once, not
    /// once for each missed period.
    pub fn poll(&mut self, now: Instant, parameters: &Coap) -> Due {
        if now < self.deadline {
            return Due::Wait;
        }
        match self.state {
            State::AwaitAck { sent, timeout } if sent <= parameters.max_retransmit => {
                let timeout = timeout.saturating_mul(2);
                self.state = State::AwaitAck {
                    sent: sent.saturating_add(1),
                    timeout,
                };
                self.deadline = now + timeout;
                self.sent_at = now;
                Due::Retransmit
            }
            State::AwaitAck { .. } | State::AwaitResponse => Due::Expired,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_schedule() {
        let parameters = Coap::default();
        let mut transmission = Transmission::start(Instant::ZERO, 0, &parameters);
        let mut sent = vec![0];
        loop {
            let now = transmission.deadline();
            match transmission.poll(now, &parameters) {
                Due::Retransmit => sent.push(now.as_micros() / 1_000_000),
                Due::Expired => {
                    assert_eq!(
                        now.as_micros() / 1_000_000,
                        62,
                        "MAX_TRANSMIT_WAIT without jitter"
                    );
                    break;
                }
                Due::Wait => panic!("a deadline is due at its time"),
            }
        }
        assert_eq!(sent, [0, 2, 6, 14, 30]);
        let longest = Transmission::start(Instant::ZERO, u32::MAX, &parameters);
        assert_eq!(longest.deadline().as_micros(), 3_000_000);
    }

    #[test]
    fn b11_a_sign_of_life_sends_again_and_changes_no_deadline() {
        let parameters = Coap::default();
        let at = |seconds: u64| Instant::from_micros(seconds * 1_000_000);
        let mut transmission = Transmission::start(Instant::ZERO, 0, &parameters);
        assert!(!transmission.heard(at(1), &parameters));
        assert_eq!(transmission.poll(at(2), &parameters), Due::Retransmit);
        let deadline = transmission.deadline();
        let heard = [3, 4, 5, 6].map(|second| transmission.heard(at(second), &parameters));
        assert_eq!(heard, [false, true, false, true]);
        assert_eq!(transmission.deadline(), deadline);
        transmission.acknowledged(at(6), &parameters);
        assert!(!transmission.heard(at(20), &parameters));
    }

    #[test]
    fn separate_response_has_a_deadline() {
        let parameters = Coap::default();
        let mut transmission = Transmission::start(Instant::ZERO, 0, &parameters);
        transmission.acknowledged(Instant::from_micros(5), &parameters);
        assert!(!transmission.is_outstanding());
        assert_eq!(
            transmission.poll(Instant::from_micros(60_000_004), &parameters),
            Due::Wait
        );
        transmission.acknowledged(Instant::from_micros(60_000_004), &parameters);
        assert_eq!(
            transmission.poll(Instant::from_micros(60_000_005), &parameters),
            Due::Expired
        );
    }
}
