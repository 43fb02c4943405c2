//! Where answers may go because a command asks for it.

use super::gateway::{Inner, Routes};
use crate::config::matches_filter;
use crate::mqtt::ReplyTo;

/// Whether a topic is the start of some topics, or one of them.
fn is_below(start: Option<&str>, topic: &str) -> bool {
    let rest = start.and_then(|start| topic.strip_prefix(start));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Inner {
    /// Where an answer goes as well, if it may go there. Refusals are counted.
    pub(super) fn reply_of(
        &self,
        routes: &Routes,
        reply: Option<Box<ReplyTo>>,
    ) -> Option<Box<ReplyTo>> {
        reply.filter(|reply| self.may_reply(routes, reply))
    }

    /// The gateway publishes with rights of its own, so whoever may command a device could have it
    /// write where he may not: never as a command, in the name of a device, or to the broker.
    pub(super) fn may_reply(&self, routes: &Routes, reply: &ReplyTo) -> bool {
        let topic = reply.topic();
        let mut allowed = routes.settings.config.response_topics.iter();
        let may = reply.is_fit()
            && allowed.any(|filter| matches_filter(filter, topic))
            && !is_below(
                routes.settings.config.mqtt.ownership_topic.as_deref(),
                topic,
            )
            && self.routes_of(&routes.router, topic).is_empty()
            && !self.is_uplink(routes, topic);
        if !may {
            self.own_counters.replies_refused.add_shared(1);
        }
        may
    }

    fn is_uplink(&self, routes: &Routes, topic: &str) -> bool {
        let router = &routes.router;
        let mut given = router.uplinks_below_any_mountpoint(topic);
        router.is_uplink(topic)
            || (self.directory.has_mounts()
                && given.any(|mount| !self.directory.endpoints_at(mount).is_empty()))
    }
}
