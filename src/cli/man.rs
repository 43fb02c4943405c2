//! Manual pages, made from the definition of the command line.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use super::say;

/// Writes a page for each command, `lwm2m-gateway-run.1` and so on, and one for the program.
pub(super) fn pages(command: clap::Command, folder: &Path) -> ExitCode {
    match write(command, folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say::error(format!("{}: {error}", folder.display()));
            ExitCode::FAILURE
        }
    }
}

fn write(command: clap::Command, folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(command, folder)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn every_command_has_a_page() {
        let folder = std::env::temp_dir().join(format!("lwm2m-man-{}", std::process::id()));
        super::write(crate::cli::Arguments::command(), &folder).unwrap();
        for command in crate::cli::Arguments::command().get_subcommands() {
            let page = folder.join(format!("lwm2m-gateway-{}.1", command.get_name()));
            let text = std::fs::read_to_string(&page).unwrap();
            assert!(text.contains(".SH"), "{}", page.display());
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
