//! Keeps the C interface of the gateway, whose functions every library made of it would export,
//! out of the NIF: the VM needs `nif_init` only.

fn main() {
    println!("cargo::rustc-cdylib-link-arg=-Wl,--exclude-libs,ALL");
    println!("cargo::rerun-if-changed=build.rs");
}
