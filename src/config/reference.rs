//! The documentation of the configuration, from the table of keys.

use std::fmt::Write as _;

use super::keys::{
    DTLS_IGNORED, DTLS_KEYS, IGNORED, KEYS, Keys, LISTENER_IGNORED, RENAMED, UDP_IGNORED, UDP_KEYS,
};
use super::listener::{DtlsListener, UdpListener};
use super::schema::Config;

const DTLS: &str = r#"
## DTLS listeners

DTLS 1.2 with pre-shared keys or certificates. If only DTLS listeners are configured, there is no plain
UDP listener; configure one as well to have both.

```toml
[listeners.dtls.default]
bind = "0.0.0.0:5684"
psk_file = "/etc/lwm2m/psk"

[listeners.udp.default]      # only if devices without DTLS may connect as well
bind = "0.0.0.0:5683"
```

"#;

const CREDENTIALS: &str = include_str!("psk.md");
const CERTIFICATES: &str = include_str!("certificates.md");

/// `docs/configuration.md`: every key with its form, default and meaning.
pub fn reference() -> String {
    let mut out = String::from(
        "# Configuration\n\n\
         <!-- Made from src/config/keys.rs: UPDATE_DOCS=1 cargo test --test config -->\n\n\
         The configuration is a TOML or JSON file, or a HOCON file named `*.hocon` or `*.conf`, given with \
         `--config FILE`. Any key can also be set on the command line with `--set key=value`. Every key has \
         a default. Fields that EMQX has too keep EMQX's names and value formats. All keys may be inside \
         `[gateway.lwm2m]`, so that you can paste EMQX's section unchanged into a HOCON file. Three features \
         of HOCON are refused: substitutions (`${…}` outside of quotes), `include` and `+=`.\n\n\
         - Durations: `\"22s\"`, `\"5m\"`, `\"1h30m\"`, `\"500ms\"`, or a number of seconds.\n\
         - Sizes: `\"64KB\"`, `\"4MB\"`, or a number of bytes; 1KB is 1,024 bytes.\n\
         - Rates: `\"1000/s\"`, `\"500/1m\"` (500 a minute, also as one burst), a number per second, or \
         `\"infinity\"` or 0 for no limit.\n\
         - Addresses: `\"127.0.0.1:5683\"`, `\"[::]:5683\"`, `\":5683\"`, `\"5683\"` or `5683`.\n\n",
    );
    fn rows<T>(out: &mut String, keys: &Keys<T>, prefix: &str, defaults: &T) {
        out.push_str("| Key | Form | Default | Meaning |\n|---|---|---|---|\n");
        for key in keys.iter() {
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
    rows(&mut out, &KEYS, "", &Config::default());
    out.push_str(
        "\n## Listeners\n\nThere may be any number of UDP listeners, each with its own name. If no \
         listener is configured, there is one named `default`.\n\n",
    );
    rows(
        &mut out,
        &UDP_KEYS,
        "listeners.udp.NAME.",
        &UdpListener::default(),
    );
    out.push_str(DTLS);
    rows(
        &mut out,
        &DTLS_KEYS,
        "listeners.dtls.NAME.",
        &DtlsListener::default(),
    );
    out.push_str(CREDENTIALS);
    out.push_str(CERTIFICATES);
    out.push_str(
        "\n## Fields of EMQX without a meaning here\n\nThey are accepted with a warning, so that \
         you can use EMQX's section unchanged.\n\n",
    );
    for (name, why) in IGNORED {
        let _ = writeln!(out, "- `{name}` {why}");
    }
    for (kind, ignored) in [
        ("udp", LISTENER_IGNORED),
        ("udp", UDP_IGNORED),
        ("dtls", LISTENER_IGNORED),
        ("dtls", DTLS_IGNORED),
    ] {
        for (name, why) in ignored {
            let _ = writeln!(out, "- `listeners.{kind}.NAME.{name}` {why}");
        }
    }
    for (old, new) in RENAMED {
        let _ = writeln!(out, "- `{old}` is now `{new}`");
    }
    out
}
