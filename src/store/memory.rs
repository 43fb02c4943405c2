//! A store that lives as long as its process: what tests and the property test compare with.

use std::collections::BTreeMap;

use super::backend::{Backend, Contents};
use super::batch::Batch;
use super::clock::Clocks;
use super::error::StoreError;
use crate::engine::{Change, Restored, StoredDevice};
use crate::time::Instant;

/// See the module.
#[derive(Debug, Default, Clone)]
pub struct MemoryBackend {
    clocks: Option<Clocks>,
    devices: BTreeMap<String, Restored>,
}

impl MemoryBackend {
    /// Takes one change.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Device(device) => self.put(device),
            Change::Seen { endpoint, at } => {
                if let Some(known) = self.devices.get_mut(&**endpoint) {
                    let last_seen = &mut known.device.last_seen;
                    *last_seen = (*last_seen).max(Instant::as_micros(*at));
                }
            }
            Change::Gone(endpoint) => {
                self.devices.remove(&**endpoint);
            }
            Change::Observed {
                endpoint,
                observation,
            } => {
                if let Some(known) = self.devices.get_mut(&**endpoint) {
                    let token = observation.token;
                    known.observations.retain(|it| it.token != token);
                    known.observations.push((**observation).clone());
                    known.observations.sort_by_key(|it| it.token);
                }
            }
            Change::Unobserved { endpoint, token } => {
                if let Some(known) = self.devices.get_mut(&**endpoint) {
                    known.observations.retain(|it| it.token != *token);
                }
            }
            Change::Queued { endpoint, command } => {
                if let Some(known) = self.devices.get_mut(&**endpoint) {
                    let number = command.number;
                    known.commands.retain(|(it, _)| it.number != number);
                    known.commands.push(((**command).clone(), false));
                    known.commands.sort_by_key(|(it, _)| it.number);
                }
            }
            Change::Sent {
                endpoint, number, ..
            } => {
                if let Some(known) = self.devices.get_mut(&**endpoint) {
                    let commands = known.commands.iter_mut();
                    for (_, sent) in commands.filter(|(it, _)| it.number == *number) {
                        *sent = true;
                    }
                }
            }
            Change::Answered { endpoint, number } => {
                if let Some(known) = self.devices.get_mut(&**endpoint) {
                    known.commands.retain(|(it, _)| it.number != *number);
                }
            }
        }
    }

    fn put(&mut self, device: &StoredDevice) {
        let known = self.devices.get_mut(&*device.endpoint);
        match known {
            Some(known) => known.device = device.clone(),
            None => {
                let new = Restored {
                    device: device.clone(),
                    observations: Vec::new(),
                    commands: Vec::new(),
                };
                self.devices.insert(device.endpoint.to_string(), new);
            }
        }
    }
}

impl Backend for MemoryBackend {
    fn load(&mut self) -> Result<Contents, StoreError> {
        Ok(Contents {
            clocks: self.clocks.clone(),
            devices: self.devices.values().cloned().collect(),
            unreadable: 0,
        })
    }

    fn commit(&mut self, batch: &Batch, clocks: &Clocks) -> Result<(), StoreError> {
        batch.iter().for_each(|change| self.apply(change));
        self.clocks = Some(clocks.clone());
        Ok(())
    }
}
