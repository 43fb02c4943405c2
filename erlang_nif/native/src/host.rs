//! The gateway's host: an Erlang process.

use std::sync::Arc;

use lwm2m_gateway::memory::Memory;
use lwm2m_gateway::{AuthorizationRequest, DeviceEvent, Host, PskRequest, Publish, Subscriptions};

use crate::event::Event;
use crate::options::Options;
use crate::outbox::Outbox;

/// Puts everything into the outbox.
pub(crate) struct Owner {
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) options: Options,
}

impl Host for Owner {
    fn name(&self) -> &'static str {
        "nif"
    }

    fn attach(&self, memory: &Arc<Memory>) {
        self.outbox.attach(memory);
    }

    fn publish(&self, batch: &mut Vec<Publish>) {
        self.outbox.push(batch.drain(..).map(Event::Publish));
    }

    fn subscribe(&self, filter: &str, qos: u8) {
        self.outbox.push([Event::Subscribe {
            filter: filter.to_owned(),
            qos,
        }]);
    }

    fn unsubscribe(&self, filter: &str) {
        self.outbox.push([Event::Unsubscribe {
            filter: filter.to_owned(),
        }]);
    }

    fn subscribe_device(&self, endpoint: &str, mountpoint: &str, filter: &str, qos: u8) {
        self.outbox.push([Event::SubscribeDevice {
            endpoint: endpoint.to_owned(),
            mountpoint: mountpoint.to_owned(),
            filter: filter.to_owned(),
            qos,
        }]);
    }

    fn unsubscribe_device(&self, endpoint: &str, filter: &str) {
        self.outbox.push([Event::UnsubscribeDevice {
            endpoint: endpoint.to_owned(),
            filter: filter.to_owned(),
        }]);
    }

    fn subscriptions(&self) -> Subscriptions {
        self.options.subscriptions
    }

    fn authorizes(&self) -> bool {
        self.options.authorize
    }

    fn authorize(&self, request: AuthorizationRequest) {
        self.outbox.push([Event::Authorize(Box::new(request))]);
    }

    fn provides_psk(&self) -> bool {
        self.options.psk
    }

    fn psk_lookup(&self, request: PskRequest) {
        self.outbox.push([Event::Psk(Box::new(request))]);
    }

    fn watches_devices(&self) -> bool {
        self.options.device_events
    }

    fn device_events(&self, batch: &mut Vec<DeviceEvent>) {
        let events = batch.drain(..);
        self.outbox
            .push(events.map(|event| Event::Device(Box::new(event))));
    }
}
