//! Numbers of the whole gateway, by listener and over MQTT: retained messages below
//! `statistics.topic`, the same numbers as in `/metrics`.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::error::StartError;
use super::gateway::{Gateway, Inner};
use crate::mqtt::{Publish, PublishKind};
use crate::telemetry::{LISTENERS, ListenerTimes, Times};

/// How long the thread holds on to the gateway at a time.
const STEP: Duration = Duration::from_secs(1);

impl Gateway {
    /// Starts to publish statistics, if the configuration wants them and the host can retain them.
    pub(super) fn start_statistics(&self) -> Result<(), StartError> {
        let inner = &self.inner;
        let interval = interval(inner);
        if interval.is_zero() || !inner.host.takes_states() {
            return Ok(());
        }
        let gateway = Arc::downgrade(inner);
        self.start_thread("lwm2m-stats".to_owned(), move || run(&gateway))
    }

    /// Registrations now, by listener.
    pub(super) fn registrations_by_listener(&self) -> Vec<(String, usize)> {
        let settings = self.inner.routes.read().settings.clone();
        let named = |(number, count)| {
            let listener = settings.listener(number)?;
            Some((listener.name.to_string(), count))
        };
        let by_number = self.inner.directory.by_listener().into_iter();
        let mut listeners: Vec<_> = by_number.filter_map(named).collect();
        listeners.sort();
        listeners
    }

    /// How long things took, by listener.
    pub(super) fn times(&self) -> Vec<ListenerTimes> {
        let settings = self.inner.routes.read().settings.clone();
        let mut sums = [(Times::default(), Times::default()); LISTENERS + 1];
        for counters in &self.inner.counters {
            let exchanges = counters.timings.exchange_times();
            let publishes = counters.timings.publish_delays();
            let of_shard = exchanges.iter().zip(&publishes);
            for (sum, (exchange, publish)) in sums.iter_mut().zip(of_shard) {
                sum.0.add(exchange);
                sum.1.add(publish);
            }
        }
        let mut times: Vec<ListenerTimes> = Vec::new();
        for (number, (exchanges, publishes)) in (0..).zip(sums) {
            let told_apart = usize::from(number) < LISTENERS;
            let listener = settings.listener(number).filter(|_| told_apart);
            // Those that a new configuration has closed, and those beyond the table.
            let name = listener.map_or("other", |it| &*it.name);
            match times.iter_mut().find(|it| it.name == name) {
                Some(sum) => {
                    sum.exchanges.add(&exchanges);
                    sum.publishes.add(&publishes);
                }
                None => times.push(ListenerTimes {
                    name: name.to_owned(),
                    exchanges,
                    publishes,
                }),
            }
        }
        times.retain(|it| it.name != "other" || !it.is_empty());
        times.sort_by(|a, b| a.name.cmp(&b.name));
        times
    }

    /// Every number, by what follows `statistics.topic`.
    fn published_numbers(&self) -> BTreeMap<String, String> {
        let numbers = self.statistics().0;
        let mut all: BTreeMap<String, String> = numbers
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_string()))
            .collect();
        for (listener, count) in self.registrations_by_listener() {
            let name = format!("listener_registrations/{listener}");
            all.insert(name, count.to_string());
        }
        for times in self.times() {
            let kinds = [
                ("exchange_time", &times.exchanges),
                ("publish_delay", &times.publishes),
            ];
            for (kind, of) in kinds {
                let name = format!("{kind}/{}", times.name);
                let count: u64 = of.buckets.iter().sum();
                all.insert(
                    name,
                    format!(r#"{{"count":{count},"sum_us":{}}}"#, of.sum_us),
                );
            }
        }
        all
    }
}

fn interval(inner: &Inner) -> Duration {
    let routes = inner.routes.read();
    routes.settings.config.statistics.interval
}

fn run(gateway: &Weak<Inner>) {
    let mut told: HashMap<String, String> = HashMap::new();
    let mut waited = Duration::MAX;
    while let Some(inner) = gateway.upgrade() {
        let interval = interval(&inner).max(STEP);
        if waited >= interval {
            waited = Duration::ZERO;
            publish(
                &Gateway {
                    inner: inner.clone(),
                },
                &mut told,
            );
        }
        let step = STEP.min(interval);
        if inner.stop.wait(step) {
            return;
        }
        waited = waited.saturating_add(step);
    }
}

/// Publishes what has changed: the broker keeps the rest.
fn publish(gateway: &Gateway, told: &mut HashMap<String, String>) {
    let topic = {
        let routes = gateway.inner.routes.read();
        routes.settings.config.statistics.topic.clone()
    };
    let mut publishes = Vec::new();
    for (name, value) in gateway.published_numbers() {
        let topic = format!("{topic}/{name}");
        if told.get(&topic) == Some(&value) {
            continue;
        }
        publishes.push(Publish {
            kind: PublishKind::State,
            endpoint: Arc::from("$stats"),
            topic: topic.clone(),
            payload: value.clone().into_bytes(),
            qos: 0,
            correlation: None,
        });
        told.insert(topic, value);
    }
    if !publishes.is_empty() {
        gateway.inner.host.publish(&mut publishes);
    }
}
