//! Values of DTLS listeners: credentials, cipher suites, versions.

use std::time::Duration;

use serde_json::{Map, Value};
use zeroize::Zeroize as _;

use super::cipher::{CipherSuite, Group};
use super::listener::IdleTimeout;
use super::value::{self, Parsed};
use crate::credentials::{Credential, EndpointPattern, Key, check_identity};

/// Most credentials in a configuration; a file has no such bound.
const MAX_CREDENTIALS: usize = 100_000;

const FORMS: &str = "expected a table such as { sn1 = \"00112233445566778899aabbccddeeff\" } or a \
                     list of { identity, key, endpoints }";

/// `psk`: a table from identities to keys, or to tables with `key` and `endpoints`; or a list of
/// tables with `identity`, `key` and `endpoints`. No message holds a key.
pub(crate) fn psk(value: &Value) -> Parsed<Vec<Credential>> {
    let credentials: Vec<Credential> = match value {
        Value::Object(table) => table
            .iter()
            .map(|(identity, entry)| match entry {
                Value::Object(fields) => credential(Some(identity), fields),
                key => built(identity, key, None),
            })
            .collect::<Parsed<_>>()?,
        Value::Array(list) => list
            .iter()
            .enumerate()
            .map(|(index, entry)| match entry {
                Value::Object(fields) => credential(None, fields)
                    .map_err(|reason| format!("entry {}: {reason}", index.saturating_add(1))),
                _ => Err(FORMS.to_owned()),
            })
            .collect::<Parsed<_>>()?,
        _ => return Err(FORMS.to_owned()),
    };
    if credentials.len() > MAX_CREDENTIALS {
        return Err(format!(
            "holds more than {MAX_CREDENTIALS} identities, use psk_file"
        ));
    }
    let mut identities: Vec<_> = credentials.iter().map(|it| &it.identity).collect();
    identities.sort_unstable();
    if let Some([twice, _]) = identities
        .array_windows()
        .find(|[identity, next]| identity == next)
    {
        return Err(format!(
            "{:?} is given twice",
            String::from_utf8_lossy(twice)
        ));
    }
    Ok(credentials)
}

fn credential(identity: Option<&str>, fields: &Map<String, Value>) -> Parsed<Credential> {
    let known: &[&str] = match identity {
        Some(_) => &["key", "endpoints"],
        None => &["identity", "key", "endpoints"],
    };
    if let Some(name) = fields.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(format!(
            "unknown field {name:?}, expected {}",
            known.join(", ")
        ));
    }
    let identity = match (identity, fields.get("identity")) {
        (Some(identity), _) => identity,
        (None, Some(Value::String(identity))) => identity,
        _ => return Err("needs an identity (a string)".to_owned()),
    };
    let key = fields.get("key").unwrap_or(&Value::Null);
    built(identity, key, fields.get("endpoints"))
}

fn built(identity: &str, key: &Value, endpoints: Option<&Value>) -> Parsed<Credential> {
    let wrong = |reason: &dyn std::fmt::Display| format!("{identity:?}: {reason}");
    check_identity(identity.as_bytes()).map_err(|reason| wrong(&reason))?;
    let Value::String(key) = key else {
        return Err(wrong(
            &"needs a key (a string: hexadecimal digits, \"base64:…\" or \"text:…\")",
        ));
    };
    let key = Key::parse(key).map_err(|reason| {
        wrong(&format_args!(
            "{reason} (hexadecimal digits, \"base64:…\" or \"text:…\")"
        ))
    })?;
    let endpoints = match endpoints {
        None => Ok(Vec::new()),
        Some(Value::String(list)) => EndpointPattern::list(list),
        Some(Value::Array(list)) => list
            .iter()
            .map(|entry| EndpointPattern::new(entry.as_str().unwrap_or_default()))
            .collect(),
        Some(_) => return Err(wrong(&"endpoints must be a list of strings")),
    };
    Ok(Credential {
        identity: identity.as_bytes().into(),
        key,
        endpoints: endpoints.map_err(|reason| wrong(&reason))?,
    })
}

/// Zeroes the texts below a value of `psk`.
pub(crate) fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(list) => list.iter_mut().for_each(wipe),
        // As deep as the tree, which was bounded when it was made.
        Value::Object(table) => table.values_mut().for_each(wipe),
        _ => {}
    }
}

/// `ciphers`: a list of names, or one string with commas, colons or blanks. Empty: the default.
pub(crate) fn ciphers(value: &Value) -> Parsed<Vec<CipherSuite>> {
    let mut suites = Vec::new();
    for name in words(value, "cipher suites")? {
        let suite = CipherSuite::from_name(&name).ok_or_else(|| {
            let known = CipherSuite::ALL.map(CipherSuite::openssl_name).join(", ");
            format!("unknown cipher suite {name:?}, expected {known}")
        })?;
        if !suites.contains(&suite) {
            suites.push(suite);
        }
    }
    if suites.is_empty() {
        suites.extend(CipherSuite::DEFAULT);
    }
    Ok(suites)
}

/// `groups`: a list of names, or one string with commas, colons or blanks. Empty: the default.
pub(crate) fn groups(value: &Value) -> Parsed<Vec<Group>> {
    let mut groups = Vec::new();
    for name in words(value, "groups")? {
        let group = Group::from_name(&name).ok_or_else(|| {
            let known = Group::ALL.map(Group::name).join(", ");
            format!("unknown group {name:?}, expected {known}")
        })?;
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    if groups.is_empty() {
        groups.extend(Group::DEFAULT);
    }
    Ok(groups)
}

/// The one version there is.
pub(crate) const VERSION: &str = "dtlsv1.2";

/// `versions`: must hold `dtlsv1.2`, and may hold `dtlsv1`, which is never spoken.
pub(crate) fn versions(value: &Value) -> Parsed<()> {
    let versions = words(value, "versions")?;
    if let Some(other) = versions
        .iter()
        .find(|version| !matches!(version.as_str(), VERSION | "dtlsv1"))
    {
        return Err(format!("unknown version {other:?}, expected {VERSION:?}"));
    }
    if !versions.is_empty() && !versions.iter().any(|version| version == VERSION) {
        return Err(format!("only {VERSION:?} is supported"));
    }
    Ok(())
}

/// Whether a value of `versions` asks for the older one too.
pub(crate) fn asks_for_dtls1(value: &Value) -> bool {
    words(value, "").is_ok_and(|versions| versions.iter().any(|version| version == "dtlsv1"))
}

/// A list of strings, or one string with commas, colons or blanks.
fn words(value: &Value, of: &str) -> Parsed<Vec<String>> {
    match value {
        Value::Array(list) => list.iter().map(value::text).collect(),
        Value::String(text) => Ok(text
            .split([',', ':', ' '])
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect()),
        _ => Err(format!("expected a list of {of} or a string with commas")),
    }
}

/// `identity_separator`: a set of characters.
pub(crate) fn separators(value: &Value) -> Parsed<String> {
    let text = value::text(value)?;
    let mut set = String::new();
    for c in text.chars() {
        if !c.is_ascii() || c.is_ascii_alphanumeric() || c.is_ascii_control() {
            return Err(format!(
                "{c:?} cannot be a separator: expected ASCII punctuation, such as \"#/@\""
            ));
        }
        if !set.contains(c) {
            set.push(c);
        }
    }
    Ok(set)
}

/// A duration, `"registration"`, or `"infinity"`.
pub(crate) fn idle_timeout(
    value: &Value,
    lowest: Duration,
    highest: Duration,
) -> Parsed<IdleTimeout> {
    match value {
        Value::String(text) if text == "infinity" => Ok(IdleTimeout::Never),
        Value::String(text) if text == "registration" => Ok(IdleTimeout::Registration),
        other => value::duration(other, lowest, highest)
            .map(IdleTimeout::After)
            .map_err(|reason| format!("{reason} (or \"registration\", \"infinity\")")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const KEY: &str = "00112233445566778899aabbccddeeff";

    #[test]
    fn forms_of_psk() {
        let by_name = psk(&json!({
            "sn1": KEY,
            "sn2": {"key": "text:secret", "endpoints": ["sn2", "truck-*"]},
        }));
        let listed = psk(&json!([
            {"identity": "sn1", "key": KEY},
            {"identity": "sn2", "key": "base64:c2VjcmV0", "endpoints": "sn2, truck-*"},
        ]));
        assert_eq!(by_name, listed);
        let [first, second] = &by_name.unwrap()[..] else {
            panic!("two credentials")
        };
        assert_eq!(&*first.identity, b"sn1");
        assert_eq!(first.key.to_hex().as_str(), KEY);
        assert!(first.endpoints.is_empty());
        assert_eq!(second.key.as_bytes(), b"secret");
        assert_eq!(second.endpoints[1].as_str(), "truck-*");
        assert_eq!(psk(&json!({})), Ok(Vec::new()));
    }

    #[test]
    fn mistakes_in_psk_hold_no_key() {
        for (value, message) in [
            (json!(SECRET), "expected a table"),
            (json!([SECRET]), "expected a table"),
            (
                json!({"sn1": SECRET}),
                "\"sn1\": the key is not hexadecimal",
            ),
            (json!({"sn1": 17}), "\"sn1\": needs a key"),
            (json!({"sn1": {"kay": SECRET}}), "unknown field \"kay\""),
            (json!({"sn1": {"endpoints": []}}), "\"sn1\": needs a key"),
            (json!({"": KEY}), "the identity is empty"),
            (json!({"a\u{0}": KEY}), "the identity holds a NUL"),
            (json!([{"key": KEY}]), "entry 1: needs an identity"),
            (
                json!([{"identity": "a", "key": KEY}, {"identity": "a", "key": KEY}]),
                "\"a\" is given twice",
            ),
            (
                json!({"a": {"key": KEY, "endpoints": 5}}),
                "list of strings",
            ),
            (json!({"a": {"key": KEY, "endpoints": [5]}}), "is empty"),
            (json!({"a": {"key": KEY, "endpoints": "x,"}}), "is empty"),
        ] {
            let error = psk(&value).unwrap_err();
            assert!(error.contains(message), "{value}: {error}");
            assert!(!error.contains(SECRET) && !error.contains("17"), "{error}");
        }
    }

    const SECRET: &str = "unveiled";

    #[test]
    fn wiped_values_hold_nothing() {
        let mut value = json!({"sn1": KEY, "sn2": {"key": KEY}, "list": [{"key": KEY}]});
        wipe(&mut value);
        assert!(!value.to_string().contains("00"), "{value}");
    }

    #[test]
    fn lists_of_ciphers() {
        let ccm8 = CipherSuite::PskAes128Ccm8;
        let gcm = CipherSuite::PskAes128GcmSha256;
        for form in [
            json!(["PSK-AES128-GCM-SHA256", "PSK-AES128-CCM8"]),
            json!("PSK-AES128-GCM-SHA256,PSK-AES128-CCM8"),
            json!("PSK-AES128-GCM-SHA256:TLS_PSK_WITH_AES_128_CCM_8"),
            json!("psk-aes128-gcm-sha256, psk-aes128-ccm8, PSK-AES128-CCM8"),
        ] {
            assert_eq!(ciphers(&form), Ok(vec![gcm, ccm8]), "{form}");
        }
        for empty in [json!([]), json!("")] {
            assert_eq!(ciphers(&empty), Ok(CipherSuite::DEFAULT.to_vec()));
        }
        let error = ciphers(&json!("RSA-PSK-AES128-CBC-SHA")).unwrap_err();
        assert!(
            error.contains("PSK-AES128-CCM8, PSK-AES128-CCM,"),
            "{error}"
        );
        assert!(ciphers(&json!(5)).is_err() && ciphers(&json!([5])).is_err());
    }

    #[test]
    fn lists_of_versions() {
        for fine in [json!(["dtlsv1.2"]), json!("dtlsv1.2,dtlsv1"), json!([])] {
            assert_eq!(versions(&fine), Ok(()), "{fine}");
        }
        for wrong in [json!(["dtlsv1"]), json!("dtlsv1.3"), json!(1.2)] {
            assert!(versions(&wrong).is_err(), "{wrong}");
        }
        assert!(asks_for_dtls1(&json!("dtlsv1.2,dtlsv1")));
        assert!(!asks_for_dtls1(&json!(["dtlsv1.2"])));
    }

    #[test]
    fn sets_of_separators() {
        assert_eq!(separators(&json!("#/#")).unwrap(), "#/");
        assert_eq!(separators(&json!("")).unwrap(), "");
        for wrong in [json!("a"), json!("#1"), json!("é"), json!("\n"), json!(5)] {
            assert!(separators(&wrong).is_err(), "{wrong}");
        }
    }
}
