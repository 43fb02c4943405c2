//! The engine in virtual time, with scripted devices. One program, since each costs a link.

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod bounds;
mod chaos;
mod commands;
mod end;
mod field;
mod identity;
mod lwm2m11;
mod memory;
mod observe;
mod observe_races;
mod order;
mod queue;
mod registration;
mod sessions;
mod silence;
mod store;
mod store_commands;
mod store_property;
mod transfers;
mod waiting;
