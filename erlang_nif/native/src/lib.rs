//! The gateway as an Erlang NIF.
