//! Gives the shared library its soname, so that hosts link against the ABI version and not
//! against a file name. Writes nothing into the tree.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let major = std::env::var("CARGO_PKG_VERSION_MAJOR").unwrap_or_default();
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,liblwm2m_gateway.so.{major}");
}
