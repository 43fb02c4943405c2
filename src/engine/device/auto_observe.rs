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
    /// Queues an Observe for what the configuration names (`auto_observe`).
    pub(in crate::engine) fn auto_observe(&mut self, cx: &mut Context<'_>) {
        /// Objects that hold no measurements, as in EMQX.
        const IGNORED: [u16; 9] = [0, 1, 2, 4, 5, 6, 7, 9, 15];
        let Some(links) = &self.registration.links else {
            return;
        };
        let defined = |object: u16| cx.env.models.lookup(object, None).is_some();
        let paths: Vec<Path> = match &cx.config().auto_observe {
            AutoObserve::Off => return,
            AutoObserve::Paths(paths) => {
                let listed: HashSet<&str> = links.objects.iter().collect();
                let listed = |path: &&Path| listed.contains(path.to_string().as_str());
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
        };
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
            let path = observation.target.path.as_ref();
            path.is_some_and(|path| wanted.contains(path))
        });
        let again: HashSet<Token> = again.map(|observation| observation.token).collect();
        self.refresh.retain(|token| !again.contains(token));
        for path in paths.into_iter().take(limit) {
            self.handle_command(cx, Box::new(Command::auto_observe(&path)), 0, None);
        }
    }
}
