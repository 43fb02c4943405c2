//! The program: see [`lwm2m_gateway::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    lwm2m_gateway::cli::main()
}
