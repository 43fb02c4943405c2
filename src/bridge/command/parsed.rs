//! A command as it was read, or as the gateway gives one to itself.

use std::time::Duration;

use crate::bridge::echo::Echo;
use crate::bridge::kind::Kind;
use crate::bridge::req_path::ReqPath;
use crate::bridge::target::Target;
use crate::lwm2m::codec::ContentFormat;
use crate::lwm2m::operation::WriteMode;
use crate::lwm2m::{Operation, Path};
use crate::memory::Heap;

/// What one dialect or the other says of the operation: where, what, and [`Command::untyped`].
pub(super) type Parts = (Target, Operation, Vec<usize>);

/// A command ready to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// What it asks for.
    pub kind: Kind,
    /// Where on the device.
    pub target: Target,
    /// What to do there.
    pub operation: Operation,
    /// Indexes of written items without a `type`. Their values are guesses until
    /// `engine::request::build` sees the object definition.
    pub untyped: Vec<usize>,
    /// `data.format`: what to ask for, or to write, whatever the device says of itself.
    pub format: Option<ContentFormat>,
    /// What the answers repeat.
    pub echo: Echo,
    /// `mheaders.ttl`: how long the command may wait for a sleeping device; zero = it is sent at
    /// once or not at all.
    pub ttl: Option<Duration>,
    /// By which number the store knows it; zero: not at all.
    pub number: u64,
    /// Its place among all commands of the gateway, in order of receipt; zero: as it comes.
    pub order: u64,
}

impl Heap for Command {
    fn heap(&self) -> usize {
        let untyped = self.untyped.heap();
        self.target.heap() + self.operation.heap() + untyped + self.echo.heap()
    }
}

impl Command {
    /// An observation the gateway asks for by itself.
    pub fn auto_observe(path: &Path) -> Self {
        Self {
            kind: Kind::Observe,
            target: Target::new(path),
            operation: Operation::Observe,
            untyped: Vec::new(),
            format: None,
            echo: Echo::auto_observe(path),
            ttl: None,
            number: 0,
            order: 0,
        }
    }

    /// Whether a device that has done it can do it once more without harm: all but Execute, Create
    /// and a Write that updates.
    pub const fn is_repeatable(&self) -> bool {
        !matches!(
            self.operation,
            Operation::Execute { .. }
                | Operation::Create { .. }
                | Operation::Write {
                    mode: WriteMode::Update,
                    ..
                }
        )
    }

    /// The command that asks again for an observation of `target`.
    pub fn observe_again(target: &Target, echo: &Echo, format: Option<ContentFormat>) -> Self {
        let (kind, operation) = match target.text {
            ReqPath::One(_) => (Kind::Observe, Operation::Observe),
            ReqPath::Several(_) => (
                Kind::ObserveComposite,
                Operation::ObserveComposite {
                    paths: target.paths.clone(),
                },
            ),
        };
        Self::of_observation(kind, operation, target, echo, format)
    }

    /// The command that reads what an observation of `target` watches, for the rest of a
    /// notification in blocks (RFC 7959 §3.4).
    pub fn read_observed(target: &Target, echo: &Echo, format: Option<ContentFormat>) -> Self {
        let (kind, operation) = match target.text {
            ReqPath::One(_) => (Kind::Read, Operation::Read),
            ReqPath::Several(_) => (
                Kind::ReadComposite,
                Operation::ReadComposite {
                    paths: target.paths.clone(),
                },
            ),
        };
        Self::of_observation(kind, operation, target, echo, format)
    }

    fn of_observation(
        kind: Kind,
        operation: Operation,
        target: &Target,
        echo: &Echo,
        format: Option<ContentFormat>,
    ) -> Self {
        Self {
            kind,
            target: target.clone(),
            operation,
            untyped: Vec::new(),
            format,
            echo: echo.clone(),
            ttl: None,
            number: 0,
            order: 0,
        }
    }
}
