//! A store that lives as long as its process: what tests and the property test compare with.

use std::collections::BTreeMap;

use super::backend::{Backend, Contents};
use super::batch::Batch;
use super::clock::Clocks;
use super::error::StoreError;
use crate::engine::{Change, CommandStage, Restored, StoredDevice};
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
            Change::Note { endpoint, note } => {
                if let Some(known) = self.devices.get_mut(&**endpoint) {
                    known.note = Some(note.clone());
                }
            }
            Change::Gone(endpoint) => {
                if let Some(known) = self.devices.get_mut(&**endpoint) {
                    let refused = |stage| matches!(stage, CommandStage::Refused(_));
                    known.commands.retain(|(_, stage)| refused(*stage));
                    known.ended = true;
                    known.note = None;
                    known.observations.clear();
                }
                self.devices
                    .retain(|_, it| !it.ended || !it.commands.is_empty());
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
                    known
                        .commands
                        .push(((**command).clone(), CommandStage::Waiting));
                    known.commands.sort_by_key(|(it, _)| it.number);
                }
            }
            Change::Sent {
                endpoint, number, ..
            } => {
                if let Some(known) = self.devices.get_mut(&**endpoint) {
                    let commands = known.commands.iter_mut();
                    for (_, stage) in commands.filter(|(it, _)| it.number == *number) {
                        if *stage == CommandStage::Waiting {
                            *stage = CommandStage::Sent;
                        }
                    }
                }
            }
            Change::Refused {
                endpoint,
                number,
                with,
            } => {
                if let Some(known) = self.devices.get_mut(&**endpoint) {
                    let commands = known.commands.iter_mut();
                    for (_, stage) in commands.filter(|(it, _)| it.number == *number) {
                        *stage = CommandStage::Refused(*with);
                    }
                }
            }
            Change::Answered { endpoint, number } => {
                if let Some(known) = self.devices.get_mut(&**endpoint) {
                    known.commands.retain(|(it, _)| it.number != *number);
                }
                self.devices
                    .retain(|_, it| !it.ended || !it.commands.is_empty());
            }
        }
    }

    fn put(&mut self, device: &StoredDevice) {
        let known = self.devices.get_mut(&*device.endpoint);
        match known {
            Some(known) => {
                known.device = device.clone();
                known.ended = false;
            }
            None => {
                let new = Restored {
                    device: device.clone(),
                    note: None,
                    observations: Vec::new(),
                    commands: Vec::new(),
                    ended: false,
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
            devices: {
                let devices = || self.devices.values().cloned();
                let there = devices().filter(|it| !it.ended);
                there.chain(devices().filter(|it| it.ended)).collect()
            },
            unreadable: 0,
        })
    }

    fn commit(&mut self, batch: &Batch, clocks: &Clocks) -> Result<(), StoreError> {
        let changes = batch.iter().filter_map(|line| line.change());
        changes.for_each(|change| self.apply(&change));
        self.clocks = Some(clocks.clone());
        Ok(())
    }
}
