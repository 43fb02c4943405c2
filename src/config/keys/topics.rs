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
        "translators.state.enable",
        translators.state.enable,
        flag,
        "Whether to publish a retained message for each device: `online`, `asleep` or `offline`, and since when. Not in EMQX, Erlang and C hosts, which ask the gateway for its devices."
    ),
    key!(
        "translators.state.topic",
        translators.state.messages.topic,
        text,
        "Where these state messages go, below the mountpoint."
    ),
    key!(
        "translators.state.qos",
        translators.state.messages.qos,
        integer(0, 2),
        "QoS of state messages."
    ),
    key!(
        "translators.legacy.enable",
        translators.legacy.enable,
        flag,
        "Also use the older pair of topics for commands and answers."
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
        "Which MQTT 5 Response Topics of commands are allowed, in addition to the usual topic of answers: those that match one of these filters; an empty list allows none. Never allowed are topics below `$`, command topics, topics that the gateway publishes to, and topics below `mqtt.ownership_topic`."
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
        "Which values go into measurement series: the listed objects, instances or resources with everything below them; an empty list means all values."
    ),
    key!(
        "series.mapping",
        series.mapping,
        by(
            || "table of paths and ids".to_owned(),
            value::series_mapping,
            |_| "{}".to_owned()
        ),
        "Names that replace the paths of resources in measurement series: `\"/3303/0/5700\" = \"temperature\"`."
    ),
];
