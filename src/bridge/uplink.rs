//! Events to JSON.
