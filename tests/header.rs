//! `include/lwm2m_gateway.h` is what the code says.

// Tests read files, and helpers of tests may panic.
#![allow(clippy::disallowed_methods, clippy::expect_used)]

use std::fs;
use std::path::Path;

#[test]
fn header_is_in_step_with_the_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml");
    let made = ["types", "handle", "api"]
        .iter()
        .fold(cbindgen::Builder::new(), |builder, module| {
            builder.with_src(root.join(format!("src/ffi/{module}.rs")))
        })
        .with_config(config)
        .generate()
        .expect("src/ffi is readable");
    let mut text = Vec::new();
    made.write(&mut text);
    let text = String::from_utf8(text).expect("UTF-8");
    // C++98 wants no comma there.
    let text = text.replace(",\n} lwm2m_gateway_", "\n} lwm2m_gateway_");

    let file = root.join("include/lwm2m_gateway.h");
    if std::env::var_os("UPDATE_HEADER").is_some() {
        fs::create_dir_all(root.join("include")).expect("include/");
        fs::write(&file, &text).expect("the header is written");
    }
    let kept = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        kept == text,
        "include/lwm2m_gateway.h differs from src/ffi: UPDATE_HEADER=1 cargo test --test header"
    );
}
