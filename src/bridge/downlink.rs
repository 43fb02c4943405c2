//! Command JSON to operations.
