//! What the shared library shows to the world: the functions of the header and of the Mosquitto
//! plugin, nothing else.

// Tests run programs, and helpers of tests may panic.
#![allow(clippy::disallowed_methods, clippy::expect_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lwm2m_gateway::ffi::types::LWM2M_GATEWAY_ABI_VERSION;

const PLUGIN: [&str; 3] = [
    "mosquitto_plugin_cleanup",
    "mosquitto_plugin_init",
    "mosquitto_plugin_version",
];

/// The library that was built together with this test.
fn library() -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let library = test.with_file_name("liblwm2m_gateway.so");
    assert!(library.exists(), "{} is missing", library.display());
    library
}

fn output(program: &str, arguments: &[&str]) -> String {
    let done = Command::new(program)
        .args(arguments)
        .arg(library())
        .output()
        .expect("binutils are installed");
    assert!(done.status.success(), "{program} fails");
    String::from_utf8(done.stdout).expect("UTF-8")
}

fn symbols(which: &str) -> BTreeSet<String> {
    output("nm", &["-D", which, "--format=just-symbols"])
        .lines()
        .map(|line| line.split('@').next().unwrap_or(line).to_owned())
        .collect()
}

fn functions_of_the_header() -> BTreeSet<String> {
    let header = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/lwm2m_gateway.h");
    let header = fs::read_to_string(header).expect("the header");
    header
        .lines()
        .filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()))
        .filter_map(|line| line.split_once('('))
        .filter_map(|(before, _)| before.rsplit([' ', '*']).next())
        .filter(|name| name.starts_with("lwm2m_gateway_"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn exports_are_the_public_functions() {
    let mut public = functions_of_the_header();
    assert!(public.len() > 15, "{public:?}");
    public.extend(PLUGIN.map(str::to_owned));
    assert_eq!(symbols("--defined-only"), public);
}

/// A C host has no broker's functions to offer: they are looked up when Mosquitto loads us.
#[test]
fn imports_nothing_of_a_broker() {
    let imports = symbols("--undefined-only");
    assert!(imports.contains("malloc"));
    let of_a_broker: Vec<_> = imports
        .iter()
        .filter(|name| name.starts_with("mosquitto_") || name.starts_with("enif_"))
        .collect();
    assert!(of_a_broker.is_empty(), "{of_a_broker:?}");
}

#[test]
fn the_soname_tells_the_abi_version() {
    let wanted = format!("[liblwm2m_gateway.so.{LWM2M_GATEWAY_ABI_VERSION}]");
    let dynamic = output("readelf", &["-d"]);
    assert!(
        dynamic
            .lines()
            .any(|line| line.contains("SONAME") && line.contains(&wanted))
    );
}
