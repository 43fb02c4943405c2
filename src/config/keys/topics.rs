//! Topics, and what goes into measurement series.

use super::key::{Key, key};
use crate::config::choices::BooleanSeries;
use crate::config::schema::Config;
use crate::config::{filter, value};

pub(super) static KEYS: &[Key<Config>] = &[
    key!(
        "translators.command.topic",
        translators.command.topic,
        text,
        "Where commands come from, below the mountpoint."
    ),
    key!(
        "translators.command.qos",
        translators.command.qos,
        integer(0, 2),
        "QoS of the subscription to commands."
    ),
    key!(
        "translators.response.topic",
        translators.response.topic,
        text,
        "Where answers to commands go, below the mountpoint."
    ),
    key!(
        "translators.response.qos",
        translators.response.qos,
        integer(0, 2),
        "QoS of answers."
    ),
    key!(
        "translators.notify.topic",
        translators.notify.topic,
        text,
        "Where notifications go, below the mountpoint."
    ),
    key!(
        "translators.notify.qos",
        translators.notify.qos,
        integer(0, 2),
        "QoS of notifications."
    ),
    key!(
        "translators.send.topic",
        translators.send.topic,
        text,
        "Where the Sends of devices go, below the mountpoint."
    ),
    key!(
        "translators.send.qos",
        translators.send.qos,
        integer(0, 2),
        "QoS of Sends."
    ),
    key!(
        "translators.series.enable",
        translators.series.enable,
        flag,
        "Also publish the values of answers, notifications and Sends as measurement series."
    ),
    key!(
        "translators.series.topic",
        translators.series.messages.topic,
        text,
        "Where measurement series go, below the mountpoint."
    ),
    key!(
        "translators.series.qos",
        translators.series.messages.qos,
        integer(0, 2),
        "QoS of measurement series."
    ),
    key!(
        "translators.register.topic",
        translators.register.topic,
        text,
        "Where registration reports go, below the mountpoint."
    ),
    key!(
        "translators.register.qos",
        translators.register.qos,
        integer(0, 2),
        "QoS of registration reports."
    ),
    key!(
        "translators.update.topic",
        translators.update.topic,
        text,
        "Where update reports go, below the mountpoint."
    ),
    key!(
        "translators.update.qos",
        translators.update.qos,
        integer(0, 2),
        "QoS of update reports."
    ),
    key!(
        "translators.legacy.enable",
        translators.legacy.enable,
        flag,
        "Also serve the older topic pair."
    ),
    key!(
        "translators.legacy.command.topic",
        translators.legacy.command.topic,
        text,
        "Older topic of commands, below the mountpoint."
    ),
    key!(
        "translators.legacy.command.qos",
        translators.legacy.command.qos,
        integer(0, 2),
        "QoS of the subscription to it."
    ),
    key!(
        "translators.legacy.response.topic",
        translators.legacy.response.topic,
        text,
        "Older topic of answers, below the mountpoint."
    ),
    key!(
        "translators.legacy.response.qos",
        translators.legacy.response.qos,
        integer(0, 2),
        "QoS of answers there."
    ),
    key!(
        "response_topics",
        response_topics,
        by(
            || "list of topic filters".to_owned(),
            filter::topic_filters,
            |it| format!("{it:?}")
        ),
        "Where answers may go as well because a command asks for it by a Response Topic of MQTT 5: topics that one of these filters matches; an empty list for nowhere. Whatever it says, no answer goes to a topic below `$`, to one that commands come by or that the gateway publishes to, or below `mqtt.ownership_topic`."
    ),
    key!(
        "series.boolean",
        series.boolean,
        choice(
            "number" = BooleanSeries::Number,
            "text" = BooleanSeries::Text
        ),
        "Booleans in measurement series: 1 and 0, or `true` and `false` as text."
    ),
    key!(
        "series.paths",
        series.paths,
        by(
            || "list of paths".to_owned(),
            value::series_paths,
            |it| {
                let paths: Vec<_> = it.iter().map(ToString::to_string).collect();
                format!("{paths:?}")
            }
        ),
        "What goes into measurement series: objects, instances or resources, with all below them; an empty list for everything."
    ),
    key!(
        "series.mapping",
        series.mapping,
        by(
            || "table of paths and ids".to_owned(),
            value::series_mapping,
            |_| "{}".to_owned()
        ),
        "Ids of metrics in measurement series instead of the paths of resources: `\"/3303/0/5700\" = \"temperature\"`."
    ),
];
