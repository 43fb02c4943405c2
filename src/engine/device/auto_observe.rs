//! Observations that the configuration asks for (`auto_observe`).

use std::collections::HashSet;

use tracing::debug;

use super::state::Device;
use crate::bridge::Command;
use crate::coap::Token;
use crate::config::AutoObserve;
use crate::engine::context::Context;
use crate::lwm2m::Path;

impl Device {
    /// Queues an Observe for what the configuration names (`auto_observe`), and ends what it named
    /// before.
    pub(in crate::engine) fn auto_observe(&mut self, cx: &mut Context<'_>) {
        let Some(paths) = self.automatic_paths(cx) else {
            return;
        };
        self.end_automatic(cx, &paths);
        // A device has no more observations than this; what is beyond them is not even queued.
        let limit = cx.config().limits.max_observations;
        let left_out = paths.len().saturating_sub(limit) as u64;
        if left_out > 0 {
            cx.counters().commands_refused.add(left_out);
            debug!(endpoint = %self.endpoint, left_out, "too many objects to observe all");
        }
        // Asked for anyway: not to be refreshed as well.
        let wanted: HashSet<&Path> = paths.iter().take(limit).collect();
        let again = self.observations.iter().filter(|observation| {
            let path = observation.target.path();
            path.is_some_and(|path| wanted.contains(path.as_ref()))
        });
        let again: HashSet<Token> = again.map(|observation| observation.token).collect();
        self.refresh.retain(|token| !again.contains(token));
        for path in paths.into_iter().take(limit) {
            self.handle_command(cx, Box::new(Command::auto_observe(&path)), 0, None, None);
        }
    }

    /// What the configuration wants observed of this device; `None` when it is not known what the
    /// device has.
    fn automatic_paths(&self, cx: &Context<'_>) -> Option<Vec<Path>> {
        /// Objects that hold no measurements, as in EMQX.
        const IGNORED: [u16; 9] = [0, 1, 2, 4, 5, 6, 7, 9, 15];
        let rule = &cx.config().auto_observe;
        if *rule == AutoObserve::Off {
            return Some(Vec::new());
        }
        let links = self.registration.links.as_ref()?;
        let defined = |object: u16| cx.env.models.lookup(object, None).is_some();
        Some(match rule {
            AutoObserve::Off => Vec::new(),
            AutoObserve::Paths(paths) => {
                let listed = Listed::new(links.objects.iter());
                let listed = |path: &&Path| listed.has(&path.to_string());
                paths.iter().filter(listed).cloned().collect()
            }
            AutoObserve::All => {
                let mut chosen = HashSet::new();
                let paths = links.objects.iter().filter_map(|text| text.parse().ok());
                let measures = |path: &Path| {
                    path.object()
                        .is_some_and(|object| !IGNORED.contains(&object) && defined(object))
                };
                paths
                    .filter(measures)
                    .filter(|path| chosen.insert(path.clone()))
                    .collect()
            }
        })
    }

    /// Ends observations that the configuration has asked for and no longer does. A device that
    /// still notifies is answered with a reset.
    fn end_automatic(&mut self, cx: &mut Context<'_>, wanted: &[Path]) {
        let wanted: HashSet<&Path> = wanted.iter().collect();
        let unwanted = self.observations.iter().filter(|observation| {
            let path = observation.target.path();
            let is_wanted = path.is_some_and(|path| wanted.contains(path.as_ref()));
            observation.echo.is_auto_observe() && !is_wanted
        });
        let unwanted: Vec<Token> = unwanted.map(|observation| observation.token).collect();
        self.refresh.retain(|token| !unwanted.contains(token));
        for token in unwanted {
            self.end_observation(cx, token);
        }
    }
}

/// What a device lists, for the question whether a path is among it.
struct Listed<'a> {
    /// As listed.
    paths: HashSet<&'a str>,
    /// Whatever is above that.
    above: HashSet<&'a str>,
}

impl<'a> Listed<'a> {
    fn new(paths: impl Iterator<Item = &'a str>) -> Self {
        let paths: HashSet<&str> = paths.collect();
        let above = paths.iter().flat_map(|path| ancestors(path)).collect();
        Self { paths, above }
    }

    /// Whether the list contains `path`, or something above or below it: a device lists instances,
    /// and one may want a resource of them or all instances of an object.
    fn has(&self, path: &str) -> bool {
        self.paths.contains(path)
            || self.above.contains(path)
            || ancestors(path).any(|above| self.paths.contains(above))
    }
}

/// The paths above a path, the nearest first.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(above(path), |path| above(path))
}

fn above(path: &str) -> Option<&str> {
    let (above, _) = path.rsplit_once('/')?;
    Some(above).filter(|above| !above.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b10_above_below_or_the_same() {
        let listed = Listed::new(["/1/0", "/3303/0", "/3303/12", "/5", "/33/0/1"].into_iter());
        for path in [
            "/3303/0/5700",
            "/3303",
            "/3303/0",
            "/3303/0/5700/1",
            "/5/0/3",
            "/33/0",
        ] {
            assert!(listed.has(path), "{path}");
        }
        for path in [
            "/3",
            "/330",
            "/3303/1",
            "/3303/1/5700",
            "/33/1",
            "/",
            "/1/00",
        ] {
            assert!(!listed.has(path), "{path}");
        }
    }
}
