//! Both halves together: what is read of a command, and what its answers make of it.

mod answers;
mod commands;
mod field;
mod legacy;
