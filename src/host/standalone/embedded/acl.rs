//! Who may read and write what, in the files that Mosquitto calls `acl_file`:
//!
//! ```text
//! topic read lwm2m/+/up/#            for clients without a user
//! user operator
//! topic readwrite lwm2m/#
//! topic deny lwm2m/+/dn/secret
//! pattern write apps/%u/%c/#         for everybody: %u is the user, %c the client identifier
//! ```
//!
//! As in Mosquitto, `deny` wins over what allows the same, and what no line allows is denied.

use std::collections::HashMap;

use crate::config::matches_filter;

/// What a client wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Read,
    Write,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Right {
    Read,
    Write,
    Both,
    Deny,
}

impl Right {
    fn allows(self, wish: Wish) -> bool {
        match self {
            Self::Read => wish == Wish::Read,
            Self::Write => wish == Wish::Write,
            Self::Both => true,
            Self::Deny => false,
        }
    }
}

#[derive(Debug)]
struct Rule {
    right: Right,
    filter: Box<str>,
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client<'a> {
    pub(super) user: Option<&'a str>,
    pub(super) client_id: &'a str,
}

/// The rules of a file.
#[derive(Debug, Default)]
pub(super) struct Acl {
    nobody: Vec<Rule>,
    users: HashMap<Box<str>, Vec<Rule>>,
    patterns: Vec<Rule>,
}

impl Acl {
    /// Reads a file.
    ///
    /// # Errors
    /// The line, from 1, and what is wrong with it.
    pub(super) fn read(text: &str) -> Result<Self, (usize, String)> {
        let mut acl = Self::default();
        let mut user: Option<&str> = None;
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |what: &str| (number, what.to_owned());
            let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            let rest = rest.trim();
            if rest.is_empty() {
                return Err(wrong("a value is missing after the first word"));
            }
            match word {
                "user" => {
                    user = Some(rest);
                    acl.users.entry(rest.into()).or_default();
                }
                "topic" => {
                    let rule = rule(rest).map_err(wrong)?;
                    match user {
                        Some(name) => acl.users.entry(name.into()).or_default().push(rule),
                        None => acl.nobody.push(rule),
                    }
                }
                "pattern" => acl.patterns.push(rule(rest).map_err(wrong)?),
                _ => return Err(wrong("a line must begin with user, topic or pattern")),
            }
        }
        Ok(acl)
    }

    /// Whether the rules name users.
    pub(super) fn names_users(&self) -> bool {
        !self.users.is_empty()
    }

    /// Whether a client may read or write `topic`.
    pub(super) fn allows(&self, client: Client<'_>, wish: Wish, topic: &str) -> bool {
        let own = self.own(client);
        let own = own.iter().filter(|rule| matches(&rule.filter, topic));
        if let Some(allowed) = verdict(own, wish) {
            return allowed;
        }
        let patterns = self.patterns.iter().filter(|rule| {
            filled(&rule.filter, client).is_some_and(|filter| matches(&filter, topic))
        });
        verdict(patterns, wish).unwrap_or(false)
    }

    /// Whether a subscription may bring anything that the client may read. What comes is looked at
    /// once more, message by message.
    pub(super) fn allows_filter(&self, client: Client<'_>, filter: &str) -> bool {
        let own = self.own(client).iter();
        let own = own.filter(|rule| rule.right.allows(Wish::Read));
        let patterns = self.patterns.iter();
        let mut patterns = patterns.filter(|rule| rule.right.allows(Wish::Read));
        own.map(|rule| &*rule.filter)
            .any(|allowed| overlap(allowed, filter))
            || patterns.any(|rule| {
                filled(&rule.filter, client).is_some_and(|allowed| overlap(&allowed, filter))
            })
    }

    fn own(&self, client: Client<'_>) -> &[Rule] {
        match client.user {
            Some(user) => self.users.get(user).map(Vec::as_slice).unwrap_or_default(),
            None => &self.nobody,
        }
    }
}

fn rule(text: &str) -> Result<Rule, &'static str> {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let (right, filter) = match (word, rest.trim()) {
        ("read", filter) if !filter.is_empty() => (Right::Read, filter),
        ("write", filter) if !filter.is_empty() => (Right::Write, filter),
        ("readwrite", filter) if !filter.is_empty() => (Right::Both, filter),
        ("deny", filter) if !filter.is_empty() => (Right::Deny, filter),
        _ => (Right::Both, text),
    };
    let levels: Vec<&str> = filter.split('/').collect();
    let last = levels.len().saturating_sub(1);
    let is_fit = levels.iter().enumerate().all(|(at, level)| {
        (*level == "#" && at == last) || *level == "+" || !level.contains(['+', '#'])
    });
    if !is_fit {
        return Err(
            "not a valid topic filter: # must be the last level, and + must stand alone in its level",
        );
    }
    Ok(Rule {
        right,
        filter: filter.into(),
    })
}

/// What the rules that match say: `deny` wins, nothing when there are none that allow.
fn verdict<'a>(rules: impl Iterator<Item = &'a Rule>, wish: Wish) -> Option<bool> {
    let mut allowed = None;
    for rule in rules {
        if rule.right == Right::Deny {
            return Some(false);
        }
        if rule.right.allows(wish) {
            allowed = Some(true);
        }
    }
    allowed
}

/// A pattern with what it stands for; nothing when that would widen it.
fn filled(pattern: &str, client: Client<'_>) -> Option<String> {
    let fit = |text: &str| !text.is_empty() && !text.contains(['+', '#', '/']);
    let mut filter = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once('%') {
        filter.push_str(before);
        let (value, behind) = if let Some(behind) = after.strip_prefix('u') {
            (Some(client.user.filter(|user| fit(user))?), behind)
        } else if let Some(behind) = after.strip_prefix('c') {
            let id = Some(client.client_id).filter(|id| fit(id))?;
            (Some(id), behind)
        } else {
            (None, after)
        };
        filter.push_str(value.unwrap_or("%"));
        rest = behind;
    }
    filter.push_str(rest);
    Some(filter)
}

/// MQTT 5 §4.7.2: a wildcard at the beginning does not match what begins with `$`.
fn matches(filter: &str, topic: &str) -> bool {
    let hidden = topic.starts_with('$') && filter.starts_with(['+', '#']);
    !hidden && matches_filter(filter, topic)
}

/// Whether some topic is matched by both filters.
fn overlap(a: &str, b: &str) -> bool {
    // A shared subscription: the filter stands behind its name (MQTT 5 §4.8.2).
    let b = match b.strip_prefix("$share/") {
        Some(shared) => shared.split_once('/').map_or("", |(_, filter)| filter),
        None => b,
    };
    let (mut a, mut b) = (a.split('/'), b.split('/'));
    loop {
        match (a.next(), b.next()) {
            (None, None) | (Some("#"), _) | (_, Some("#")) => return true,
            (Some(one), Some(other)) if one == other || one == "+" || other == "+" => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
# for clients without a user
topic read public/#
user operator
topic lwm2m/#
topic deny lwm2m/secret/#
user app
topic read lwm2m/+/up/#
topic write lwm2m/+/dn

pattern readwrite apps/%u/#
pattern read clients/%c/x
";

    fn client<'a>(user: &'a str, client_id: &'a str) -> Client<'a> {
        Client {
            user: Some(user).filter(|user| !user.is_empty()),
            client_id,
        }
    }

    #[test]
    fn rules_of_mosquitto() {
        let acl = Acl::read(FILE).unwrap();
        use Wish::{Read, Write};
        for (user, id, wish, topic, allowed) in [
            ("", "c", Read, "public/a", true),
            ("", "c", Write, "public/a", false),
            ("", "c", Read, "lwm2m/e/up/resp", false),
            ("operator", "c", Write, "lwm2m/e/dn", true),
            ("operator", "c", Read, "lwm2m/secret/dn", false),
            ("operator", "c", Read, "public/a", false),
            ("app", "c", Read, "lwm2m/e/up/resp", true),
            ("app", "c", Write, "lwm2m/e/up/resp", false),
            ("app", "c", Write, "lwm2m/e/dn", true),
            ("app", "c", Read, "lwm2m/e/dn", false),
            ("app", "c", Write, "apps/app/x", true),
            ("app", "c", Write, "apps/operator/x", false),
            ("unknown", "c", Write, "apps/unknown/x", true),
            ("unknown", "c", Read, "public/x", false),
            ("", "c", Read, "clients/c/x", true),
            ("", "d", Read, "clients/c/x", false),
            ("a/b", "c", Write, "apps/a/b/x", false),
            ("+", "c", Write, "apps/app/x", false),
            ("#", "+", Read, "clients/c/x", false),
        ] {
            let got = acl.allows(client(user, id), wish, topic);
            assert_eq!(got, allowed, "{user} {id} {wish:?} {topic}");
        }
    }

    #[test]
    fn subscriptions_that_can_bring_nothing() {
        let acl = Acl::read(FILE).unwrap();
        for (user, filter, allowed) in [
            ("app", "#", true),
            ("app", "lwm2m/+/up/notify", true),
            ("app", "lwm2m/e/dn", false),
            ("app", "other/#", false),
            ("app", "apps/app/y", true),
            ("app", "$share/group/lwm2m/#", true),
            ("app", "$share/group/other/#", false),
            ("", "public/+", true),
            ("", "lwm2m/#", false),
        ] {
            assert_eq!(
                acl.allows_filter(client(user, "c"), filter),
                allowed,
                "{user} {filter}"
            );
        }
    }

    #[test]
    fn hidden_topics_need_a_name() {
        let acl = Acl::read("topic read #\ntopic read $SYS/#").unwrap();
        assert!(acl.allows(client("", "c"), Wish::Read, "$SYS/x"));
        assert!(!acl.allows(client("", "c"), Wish::Read, "$other/x"));
    }

    #[test]
    fn mistakes_have_a_line() {
        for (text, line) in [
            ("\nuser", 2),
            ("topic", 1),
            ("topics a", 1),
            ("topic read a/#/b", 1),
            ("topic read a+/b", 1),
            ("pattern deny x#", 1),
        ] {
            assert_eq!(Acl::read(text).unwrap_err().0, line, "{text}");
        }
        assert!(
            Acl::read("topic read a b/c").is_ok(),
            "topics may have blanks"
        );
    }
}
