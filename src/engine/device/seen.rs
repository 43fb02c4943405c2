//! What was seen of a device, for the HTTP API.

use std::collections::VecDeque;
use std::sync::Arc;

use super::moment::Moment;
use crate::bridge::Kind;
use crate::engine::listed::{DeviceCounters, LastAnswer, Outcome};
use crate::lwm2m::{Path, PathIds};

/// Answers that are remembered; with all else some 350 bytes a device.
const ANSWERS: usize = 8;

/// What is counted and remembered, in 72 bytes for a device that answered one command.
#[derive(Debug, Default)]
pub(in crate::engine) struct Seen {
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) requests: Count,
    pub(super) responses: Count,
    pub(super) timeouts: Count,
    pub(super) resets: Count,
    pub(super) notifications: Count,
    pub(super) sends: Count,
    newest: Option<Answer>,
    /// Those before it, the newest last. Nothing while there is only one, and its path has no prefix.
    #[expect(clippy::box_collection)] // eight bytes where there are none
    others: Option<Box<VecDeque<Prefixed>>>,
}

/// An answer and the prefix of its path (LwM2M Core 1.2 §7.2).
type Prefixed = (Answer, Option<Arc<str>>);

/// A number that stays at the highest there is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Count(u32);

impl Count {
    pub(super) const fn inc(&mut self) {
        self.0 = self.0.saturating_add(1);
    }
}

impl From<Count> for u64 {
    fn from(count: Count) -> Self {
        count.0.into()
    }
}

/// A request of a command and what became of it; see [`LastAnswer`].
#[derive(Debug, Clone, Copy)]
struct Answer {
    /// The root if there is none.
    path: PathIds,
    has_path: bool,
    kind: Kind,
    outcome: Outcome,
    at: Moment,
    took_ms: u32,
}

impl Answer {
    fn shown(self, prefix: Option<&Arc<str>>) -> LastAnswer {
        let path = self.has_path.then(|| Path::from(self.path));
        LastAnswer {
            at: self.at.millis(),
            kind: self.kind.name(),
            path: path.map(|path| path.with_prefix(prefix.cloned())),
            outcome: self.outcome,
            took_ms: self.took_ms,
        }
    }
}

impl Seen {
    /// Remembers that a request of this kind has ended, at a time in milliseconds since 1970 and after so
    /// many; the oldest gives way.
    pub(super) fn answered(
        &mut self,
        kind: Kind,
        path: Option<&Path>,
        outcome: Outcome,
        at: u64,
        took_ms: u32,
    ) {
        let answer = Answer {
            path: path.unwrap_or(&Path::ROOT).into(),
            has_path: path.is_some(),
            kind,
            outcome,
            at: Moment::new(at),
            took_ms,
        };
        if let Some(older) = self.newest.take() {
            self.push(older, None);
        }
        match path.and_then(Path::shared_prefix) {
            None => self.newest = Some(answer),
            prefix => self.push(answer, prefix),
        }
        let most = ANSWERS - usize::from(self.newest.is_some());
        if let Some(others) = self.others.as_mut().filter(|others| others.len() > most) {
            others.pop_front();
        }
    }

    fn push(&mut self, answer: Answer, prefix: Option<Arc<str>>) {
        let others = self.others.get_or_insert_default();
        if others.len() >= ANSWERS {
            others.pop_front();
        } else if others.len() == others.capacity() {
            // Not room for four at once.
            others.reserve_exact(others.len().max(1));
        }
        others.push_back((answer, prefix));
    }

    /// What is remembered, the newest first.
    pub(super) fn answers(&self) -> impl Iterator<Item = LastAnswer> {
        let newest = self.newest.map(|answer| answer.shown(None));
        let others = self.others.iter().flat_map(|others| others.iter().rev());
        let others = others.map(|(answer, prefix)| answer.shown(prefix.as_ref()));
        newest.into_iter().chain(others)
    }

    pub(super) fn counters(&self) -> DeviceCounters {
        DeviceCounters {
            requests: self.requests.into(),
            responses: self.responses.into(),
            timeouts: self.timeouts.into(),
            resets: self.resets.into(),
            notifications: self.notifications.into(),
            sends: self.sends.into(),
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(number: u16) -> LastAnswer {
        let path: [Option<&str>; 5] = [
            None,
            Some("/"),
            Some("/3303/0/5700"),
            Some("/dev0/3/0"),
            Some("/5/0/3/65535"),
        ];
        let path = path[usize::from(number) % path.len()];
        LastAnswer {
            at: 1_800_000_000_000 + u64::from(number),
            kind: Kind::ALL[usize::from(number) % Kind::ALL.len()].name(),
            path: path.map(|path| path.parse().unwrap()),
            outcome: match number % 3 {
                0 => Outcome::TimedOut,
                1 => Outcome::Reset,
                _ => Outcome::Answered(69),
            },
            took_ms: number.into(),
        }
    }

    #[test]
    fn the_last_answers_are_remembered_as_they_were() {
        for first in 0..5 {
            let mut seen = Seen::default();
            for number in first..first + 40 {
                let it = answer(number);
                let kind = Kind::ALL.into_iter().find(|kind| kind.name() == it.kind);
                seen.answered(
                    kind.unwrap(),
                    it.path.as_ref(),
                    it.outcome,
                    it.at,
                    it.took_ms,
                );
                let oldest = first.max((number + 1).saturating_sub(ANSWERS as u16));
                assert!(seen.answers().eq((oldest..=number).rev().map(answer)));
            }
        }
    }

    #[test]
    fn most_devices_need_one_small_block() {
        assert!(size_of::<Seen>() <= 72, "{}", size_of::<Seen>());
        let mut seen = Seen::default();
        let path: Path = "/3303/0/5700".parse().unwrap();
        seen.answered(Kind::Observe, Some(&path), Outcome::Answered(69), 1, 2);
        assert!(seen.others.is_none());
        seen.requests = Count(u32::MAX);
        seen.requests.inc();
        assert_eq!(seen.counters().requests, u64::from(u32::MAX));
    }
}
