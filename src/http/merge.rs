//! One list out of those of all shards.

use std::collections::VecDeque;
use std::sync::Arc;

use super::error::Answer;
use super::state::Shared;
use crate::engine::{DeviceFilter, DeviceState, PageRequest};

/// Questions to shards for one page: where few devices are wanted among many, a page may be shorter
/// than it could be.
const MOST_QUESTIONS: usize = 512;

/// What a shard has told.
#[derive(Debug)]
struct Part {
    devices: VecDeque<DeviceState>,
    /// Up to here it has told all; `None` before everything.
    reached: Option<Arc<str>>,
    ended: bool,
}

impl Part {
    fn first(&self) -> Option<&str> {
        self.devices.front().map(|it| &*it.info.endpoint)
    }

    /// It may have more, and has to be asked.
    fn is_silent(&self) -> bool {
        self.devices.is_empty() && !self.ended
    }
}

/// The next devices of all shards, and the endpoint to go on behind if there may be more.
pub(super) async fn page(
    shared: &Shared,
    filter: DeviceFilter,
    after: Option<Arc<str>>,
    limit: usize,
) -> Answer<(Vec<DeviceState>, Option<Arc<str>>)> {
    let filter = Arc::new(filter);
    let part = |_| Part {
        devices: VecDeque::new(),
        reached: after.clone(),
        ended: false,
    };
    let mut parts: Vec<Part> = (0..shared.backend.shards()).map(part).collect();
    let mut page: Vec<DeviceState> = Vec::new();
    let mut questions = 0;
    while page.len() < limit {
        let silent = (0..).zip(&parts).filter(|(_, part)| part.is_silent());
        let silent = silent.min_by(|(_, a), (_, b)| a.reached.cmp(&b.reached));
        let silent = silent.map(|(shard, part)| (shard, part.reached.clone()));
        let told = |name: &str| match &silent {
            None => true,
            Some((_, reached)) => reached.as_deref().is_some_and(|it| name <= it),
        };
        let with = parts.iter_mut().filter(|it| !it.devices.is_empty());
        let next = with.min_by(|a, b| a.first().cmp(&b.first()));
        if let Some(part) = next.filter(|part| part.first().is_some_and(told)) {
            let last = page.last().map(|it| it.info.endpoint.as_str());
            // One that moves to another shard meanwhile may be told by both.
            let known = last.is_some() && last == part.first();
            page.extend(part.devices.pop_front().filter(|_| !known));
            continue;
        }
        let Some((shard, reached)) = silent else {
            return Ok((page, None));
        };
        if questions == MOST_QUESTIONS {
            return Ok((page, reached));
        }
        questions += 1;
        let request = PageRequest {
            after: reached,
            filter: filter.clone(),
            limit: limit - page.len(),
        };
        let backend = &shared.backend;
        let some = shared.ask(|to| backend.page(shard, request, to)).await?;
        if let Some(part) = parts.get_mut(shard) {
            part.devices = some.devices.into();
            part.ended = some.reached.is_none();
            part.reached = some.reached;
        }
    }
    let more = parts
        .iter()
        .any(|it| it.is_silent() || !it.devices.is_empty());
    let last = page.last().filter(|_| more);
    let next = last.map(|it| Arc::from(it.info.endpoint.as_str()));
    Ok((page, next))
}
