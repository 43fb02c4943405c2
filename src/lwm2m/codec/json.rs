//! codec/json
