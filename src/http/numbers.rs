//! Counters and gauges: `/v1/stats` and `/metrics`.

use std::fmt;

use axum::Extension;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::access::{Caller, Role};
use super::error::{Answer, ApiError, json};
use super::state::Shared;
use crate::telemetry::{BOUNDS_US, Counters, ListenerTimes, Times};

/// Those that are no counters, beside those of memory.
const GAUGES: [&str; 6] = [
    "registrations",
    "observations",
    "dtls_sessions",
    "store_failing",
    "queued_commands",
    "queued_bytes",
];

#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct Stats {
    #[schema(value_type = HashMap<String, u64>)]
    counters: Map<String, Value>,
    #[schema(value_type = HashMap<String, u64>)]
    gauges: Map<String, Value>,
}

/// `GET /v1/stats`: counters and gauges.
#[utoipa::path(
    get, path = "/v1/stats", tag = "gateway",
    responses(
        (status = 200, body = Stats, description = "values by name"),
        (status = 401, body = ApiError, description = "the token or password is missing or wrong"),
        (status = 503, body = ApiError, description = "the gateway is stopping or overloaded"),
    )
)]
pub(super) async fn stats(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
) -> Answer {
    caller.needs(Role::Read)?;
    let mut stats = Stats::default();
    for (name, value) in numbers(&shared) {
        let into = match is_gauge(name) {
            true => &mut stats.gauges,
            false => &mut stats.counters,
        };
        into.insert(name.to_owned(), value.into());
    }
    Ok(json(StatusCode::OK, &stats))
}

/// `GET /metrics`: counters, gauges and histograms in OpenMetrics.
#[utoipa::path(
    get, path = "/metrics", tag = "gateway",
    responses(
        (status = 200, body = String, content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8", description = "metrics"),
        (status = 401, body = ApiError, description = "the token or password is missing or wrong"),
        (status = 503, body = ApiError, description = "the gateway is stopping or overloaded"),
    )
)]
pub(super) async fn metrics(State(shared): State<Shared>) -> Answer {
    let mut registry = Registry::with_prefix("lwm2m");
    registry.register_collector(Box::new(Metrics {
        numbers: numbers(&shared),
        registrations: shared.backend.registrations_by_listener(),
        times: shared.backend.times(),
    }));
    let mut text = String::new();
    encode(&mut text, &registry).map_err(|_| ApiError::unavailable())?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

/// Everything that is counted, by name.
fn numbers(shared: &Shared) -> Vec<(&'static str, u64)> {
    shared.backend.statistics().into_iter().collect()
}

fn is_gauge(name: &str) -> bool {
    let of_memory = name.starts_with("memory_") && !name.starts_with("memory_refused_");
    of_memory || GAUGES.contains(&name)
}

#[derive(Debug)]
struct Metrics {
    numbers: Vec<(&'static str, u64)>,
    registrations: Vec<(String, usize)>,
    times: Vec<ListenerTimes>,
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (name, value) in &self.numbers {
            let help = help(name).trim().trim_end_matches('.');
            if is_gauge(name) {
                let gauge = ConstGauge::new(i64::try_from(*value).unwrap_or(i64::MAX));
                let into = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
                gauge.encode(into)?;
            } else {
                let counter = ConstCounter::new(*value);
                let into = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
                counter.encode(into)?;
            }
        }
        let help = "Registrations now, by listener";
        let name = "listener_registrations";
        let kind = ConstGauge::new(0i64).metric_type();
        let mut family = encoder.encode_descriptor(name, help, None, kind)?;
        for (listener, count) in &self.registrations {
            let gauge = ConstGauge::new(i64::try_from(*count).unwrap_or(i64::MAX));
            gauge.encode(family.encode_family(&[("listener", listener.as_str())])?)?;
        }
        let help = "Bytes of memory used for data of peers and applications, by kind";
        let kind = ConstGauge::new(0i64).metric_type();
        let unit = Unit::Bytes;
        let mut family = encoder.encode_descriptor("memory_held", help, Some(&unit), kind)?;
        for (name, value) in &self.numbers {
            let of_memory = name.strip_prefix("memory_");
            let held = |it: &&str| *it != "ceiling" && !it.starts_with("refused_");
            if let Some(what) = of_memory.filter(held) {
                let gauge = ConstGauge::new(i64::try_from(*value).unwrap_or(i64::MAX));
                gauge.encode(family.encode_family(&[("kind", what)])?)?;
            }
        }
        let help = "Time from the first transmission of a request to its answer, by listener";
        self.histogram(&mut encoder, "exchange_time", help, |it| &it.exchanges)?;
        let help = "Time from the creation of a message to its hand-over to the host, by listener";
        self.histogram(&mut encoder, "publish_delay", help, |it| &it.publishes)
    }
}

impl Metrics {
    fn histogram(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        of: impl Fn(&ListenerTimes) -> &Times,
    ) -> fmt::Result {
        let kind = MetricType::Histogram;
        let mut family = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), kind)?;
        for listener in &self.times {
            let times = of(listener);
            let bounds = BOUNDS_US.iter().map(|us| seconds(*us)).chain([f64::MAX]);
            let buckets: Vec<(f64, u64)> = bounds.zip(times.buckets).collect();
            let count = times.buckets.iter().sum();
            let labels = [("listener", listener.name.as_str())];
            let mut one = family.encode_family(&labels)?;
            one.encode_histogram::<NoLabelSet>(seconds(times.sum_us), count, &buckets, None)?;
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "a time in a report")]
fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

/// What a number means; those that are no counters of a shard are described here.
fn help(name: &str) -> &'static str {
    match name {
        "queued_commands" => "Commands that wait for their devices now",
        "queued_bytes" => "Bytes of the commands that wait for their devices now",
        "store_failing" => "1 while the store cannot be written, otherwise 0",
        "http_events_dropped" => "Events of the API that were lost because a listener was too slow",
        "http_connections_closed" => {
            "Connections to the API closed because there were too many: idle ones, which others replaced, and new ones while all others had requests under way"
        }
        other => Counters::help(other),
    }
}
