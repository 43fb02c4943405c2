//! An observation that the device has confirmed (RFC 7641).

use super::format::FormatChoice;
use super::moment::Moment;
use super::watch::Watch;
use crate::bridge::{Echo, SmallTarget, Target};
use crate::coap::Token;
use crate::coap::observe::Freshness;
use crate::lwm2m::codec::ContentFormat;
use crate::memory::Heap;
use crate::time::Instant;

/// What a token takes in the tables of its shard and of the directory, in bytes.
pub(in crate::engine) const TOKEN_TABLES: usize = 60;

/// In [`Formats`]: the device chooses. As a format it is reserved for experiments, so nobody misses it.
const NO_FORMAT: u16 = u16::MAX;

/// See the module. There may be a million of them, each of 104 bytes.
#[derive(Debug)]
pub(in crate::engine) struct Observation {
    pub(in crate::engine) token: Token,
    pub(in crate::engine) target: SmallTarget,
    /// What its messages repeat. `data` may be missing, which notifications do not repeat: see
    /// [`Observation::whole_echo`].
    pub(in crate::engine) echo: Echo,
    /// When it should have been heard of.
    pub(in crate::engine) watch: Watch,
    /// When it began; its device sets it.
    pub(in crate::engine) since: Moment,
    /// When its last notification came, 1970 if none has.
    pub(in crate::engine) last_at: Moment,
    /// Notifications that were published.
    pub(in crate::engine) notifications: u32,
    formats: Formats,
    /// Of the newest value that was published.
    freshness: Freshness,
}

/// A [`FormatChoice`] in four bytes.
#[derive(Debug, Clone, Copy)]
struct Formats {
    accept: u16,
    write: u16,
}

impl Observation {
    /// One whose first value has the Observe option `sequence`.
    pub(in crate::engine) fn new(
        token: Token,
        target: Target,
        echo: Echo,
        choice: FormatChoice,
        sequence: u32,
        now: Instant,
    ) -> Self {
        let freshness = Freshness::new(sequence, now);
        Self::with(token, target, echo, choice, freshness, now)
    }

    /// One that came back from the store: how many values there were since is not known.
    pub(in crate::engine) fn restored(
        token: Token,
        target: Target,
        echo: Echo,
        choice: FormatChoice,
        sequence: u32,
        now: Instant,
    ) -> Self {
        let freshness = Freshness::unknown(sequence, now);
        Self::with(token, target, echo, choice, freshness, now)
    }

    fn with(
        token: Token,
        target: Target,
        mut echo: Echo,
        choice: FormatChoice,
        freshness: Freshness,
        now: Instant,
    ) -> Self {
        if let Some(path) = target.text.one() {
            echo.shorten(path);
        }
        Self {
            token,
            target: target.into(),
            echo,
            watch: Watch::new(0, now),
            since: Moment::default(),
            last_at: Moment::default(),
            notifications: 0,
            formats: Formats {
                accept: choice.accept.map_or(NO_FORMAT, |format| format.0),
                write: choice.write.0,
            },
            freshness,
        }
    }

    /// The content formats it was asked for in.
    pub(in crate::engine) fn choice(&self) -> FormatChoice {
        let Formats { accept, write } = self.formats;
        FormatChoice {
            accept: (accept != NO_FORMAT).then_some(ContentFormat(accept)),
            write: ContentFormat(write),
        }
    }

    /// It is asked for in this format from now on.
    pub(in crate::engine) const fn set_accept(&mut self, format: ContentFormat) {
        self.formats.accept = format.0;
    }

    /// What the answer to its command repeated.
    pub(in crate::engine) fn whole_echo(&self) -> Echo {
        match self.target.text() {
            Some(path) => self.echo.whole(path),
            None => self.echo.clone(),
        }
    }

    /// The Observe option of the newest value that was published.
    pub(in crate::engine) const fn sequence(&self) -> u32 {
        self.freshness.sequence()
    }

    /// The one place that judges freshness (RFC 7641 §3.4), where a value is about to be
    /// published: whether it is newer than what was. A message without Observe is the last one.
    pub(in crate::engine) fn accept(&mut self, sequence: Option<u32>, now: Instant) -> bool {
        let newer = sequence.is_none_or(|sequence| self.freshness.accept(sequence, now));
        if newer {
            self.watch.heard(now);
        }
        newer
    }

    /// Whether [`Observation::accept`] would take it now.
    pub(in crate::engine) fn would_accept(&self, sequence: Option<u32>, now: Instant) -> bool {
        let mut freshness = self.freshness;
        sequence.is_none_or(|sequence| freshness.accept(sequence, now))
    }

    /// The device counts anew, and the value with this number is still to be published.
    pub(in crate::engine) fn begin_anew(&mut self, sequence: Option<u32>, now: Instant) {
        let before = sequence.map_or(0, |sequence| sequence.wrapping_sub(1));
        self.freshness = Freshness::new(before, now);
    }

    /// Bytes it takes.
    pub(in crate::engine) fn bytes(&self) -> usize {
        TOKEN_TABLES + size_of::<Self>() + self.target.heap() + self.echo.heap() + self.watch.heap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::Command;

    #[test]
    fn the_usual_one_takes_no_more_than_itself() {
        let command = Command::auto_observe(&"/3303/0/5700".parse().unwrap());
        for accept in [None, Some(ContentFormat::SENML_CBOR)] {
            let choice = FormatChoice {
                accept,
                write: ContentFormat::TLV,
            };
            let (target, echo) = (command.target.clone(), command.echo.clone());
            let observation = Observation::new(Token(1), target, echo, choice, 5, Instant::ZERO);
            assert_eq!(size_of::<Observation>(), 104);
            assert_eq!(observation.bytes(), TOKEN_TABLES + 104);
            assert_eq!(observation.choice(), choice);
            assert_eq!(observation.whole_echo(), command.echo);
            assert_eq!(observation.target.to_target(), command.target);
            assert_eq!(observation.sequence(), 5);
        }
    }
}
