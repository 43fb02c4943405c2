//! The documentation of the configuration, from the table of keys.

use std::fmt::Write as _;

use crate::config::keys::{IGNORED, KEYS, Key, LISTENER_IGNORED, LISTENER_KEYS, RENAMED};
use crate::config::{Config, UdpListener};

/// `docs/configuration.md`: every key with its form, default and meaning.
pub fn reference() -> String {
    let mut out = String::from(
        "# Configuration\n\n\
         <!-- Made from src/config/keys.rs: UPDATE_DOCS=1 cargo test --test config -->\n\n\
         A TOML file, given with `--config FILE`; any key can be set on the command line with \
         `--set key=value`. Every key has a default. Names and forms of values are EMQX's where \
         EMQX has the field, and the whole may stand under `[gateway.lwm2m]`.\n\n\
         - Durations: `\"22s\"`, `\"5m\"`, `\"1h30m\"`, `\"500ms\"`, or a number of seconds.\n\
         - Sizes: `\"64KB\"`, `\"4MB\"`, or a number of bytes; 1KB is 1,024 bytes.\n\
         - Addresses: `\"127.0.0.1:5683\"`, `\"[::]:5683\"`, `\":5683\"`, `\"5683\"` or `5683`.\n\n",
    );
    fn rows<T>(out: &mut String, keys: &[Key<T>], prefix: &str, defaults: &T) {
        out.push_str("| Key | Form | Default | Meaning |\n|---|---|---|---|\n");
        for key in keys {
            // Writing to a string cannot fail.
            let _ = writeln!(
                out,
                "| `{prefix}{}` | {} | `{}` | {} |",
                key.name,
                (key.form)(),
                (key.show)(defaults),
                key.meaning
            );
        }
    }
    rows(&mut out, KEYS, "", &Config::default());
    out.push_str(
        "\n## Listeners\n\nAny number of UDP listeners, each under a name of its own; without \
         any there is one named `default`.\n\n",
    );
    rows(
        &mut out,
        LISTENER_KEYS,
        "listeners.udp.NAME.",
        &UdpListener::default(),
    );
    out.push_str(
        "\n## Fields of EMQX without a meaning here\n\nThey are accepted, with a warning, so that \
         a section can be taken over as it is.\n\n",
    );
    for (name, why) in IGNORED {
        let _ = writeln!(out, "- `{name}` {why}");
    }
    for (name, why) in LISTENER_IGNORED {
        let _ = writeln!(out, "- `listeners.udp.NAME.{name}` {why}");
    }
    for (old, new) in RENAMED {
        let _ = writeln!(out, "- `{old}` is now `{new}`");
    }
    out
}
