//! Which addresses may come in: EMQX's `access_rules`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use thiserror::Error;

/// `"allow 192.168.0.0/24"`, `"deny 2001:db8::/32"`, `"deny all"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessRule {
    allow: bool,
    network: Network,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Network {
    All,
    V4 { address: u32, prefix: u8 },
    V6 { address: u128, prefix: u8 },
}

/// Why a text is no rule.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AccessRuleError {
    /// Not two words, or not those.
    #[error(
        "expected \"allow\" or \"deny\" and \"all\", an IP address or a network such as 192.168.0.0/24"
    )]
    Form,
    /// The second word.
    #[error("{0:?} is neither an IP address nor a network such as 192.168.0.0/24")]
    Network(String),
}

impl FromStr for AccessRule {
    type Err = AccessRuleError;

    fn from_str(text: &str) -> Result<Self, AccessRuleError> {
        let mut words = text.split_ascii_whitespace();
        let (Some(action), Some(network), None) = (words.next(), words.next(), words.next()) else {
            return Err(AccessRuleError::Form);
        };
        let allow = match action {
            "allow" => true,
            "deny" => false,
            _ => return Err(AccessRuleError::Form),
        };
        let wrong = || AccessRuleError::Network(network.to_owned());
        let network = Network::parse(network).ok_or_else(wrong)?;
        Ok(Self { allow, network })
    }
}

impl fmt::Display for AccessRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.allow { "allow " } else { "deny " })?;
        match self.network {
            Network::All => f.write_str("all"),
            Network::V4 { address, prefix } => {
                write!(f, "{}/{prefix}", std::net::Ipv4Addr::from_bits(address))
            }
            Network::V6 { address, prefix } => {
                write!(f, "{}/{prefix}", std::net::Ipv6Addr::from_bits(address))
            }
        }
    }
}

impl Network {
    /// Bits of the address beyond the prefix do not count.
    fn parse(text: &str) -> Option<Self> {
        if text == "all" {
            return Some(Self::All);
        }
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u8>().ok()?)),
            None => (text, None),
        };
        match address.parse::<IpAddr>().ok()? {
            IpAddr::V4(address) => {
                let prefix = prefix.unwrap_or(32);
                let address = address.to_bits() & mask4(prefix)?;
                Some(Self::V4 { address, prefix })
            }
            IpAddr::V6(address) => {
                let prefix = prefix.unwrap_or(128);
                let address = address.to_bits() & mask6(prefix)?;
                Some(Self::V6 { address, prefix })
            }
        }
    }

    fn contains(self, address: IpAddr) -> bool {
        match (self, address) {
            (Self::All, _) => true,
            (
                Self::V4 {
                    address: network,
                    prefix,
                },
                IpAddr::V4(address),
            ) => mask4(prefix).is_some_and(|mask| address.to_bits() & mask == network),
            (
                Self::V6 {
                    address: network,
                    prefix,
                },
                IpAddr::V6(address),
            ) => mask6(prefix).is_some_and(|mask| address.to_bits() & mask == network),
            _ => false,
        }
    }
}

fn mask4(prefix: u8) -> Option<u32> {
    let rest = 32u32.checked_sub(u32::from(prefix))?;
    Some(u32::MAX.checked_shl(rest).unwrap_or(0))
}

fn mask6(prefix: u8) -> Option<u128> {
    let rest = 128u32.checked_sub(u32::from(prefix))?;
    Some(u128::MAX.checked_shl(rest).unwrap_or(0))
}

/// Rules in order; the first that matches decides, and what none matches is allowed, as in EMQX.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccessRules(Vec<AccessRule>);

/// Most rules of a listener: each may be looked at for each datagram.
pub const MAX_RULES: usize = 1024;

impl AccessRules {
    /// `None` when there are more than [`MAX_RULES`].
    pub fn new(rules: Vec<AccessRule>) -> Option<Self> {
        (rules.len() <= MAX_RULES).then_some(Self(rules))
    }

    /// Whether `address` may come in. An IPv4 address counts as such on an IPv6 socket too.
    pub fn allow(&self, address: IpAddr) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let address = address.to_canonical();
        let rule = self.0.iter().find(|rule| rule.network.contains(address));
        rule.is_none_or(|rule| rule.allow)
    }

    /// The rules in order.
    pub fn rules(&self) -> &[AccessRule] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules(texts: &[&str]) -> AccessRules {
        AccessRules::new(texts.iter().map(|text| text.parse().unwrap()).collect()).unwrap()
    }

    fn allows(rules: &AccessRules, address: &str) -> bool {
        rules.allow(address.parse().unwrap())
    }

    #[test]
    fn the_first_match_decides() {
        let inside = rules(&["allow 192.168.0.0/24", "deny all"]);
        assert!(allows(&inside, "192.168.0.255"));
        assert!(!allows(&inside, "192.168.1.0"));
        assert!(!allows(&inside, "2001:db8::1"));
        assert!(
            allows(&inside, "::ffff:192.168.0.1"),
            "IPv4 on an IPv6 socket"
        );
        let but_one = rules(&["deny 192.168.0.1", "allow 192.168.0.0/16", "deny 0.0.0.0/0"]);
        assert!(!allows(&but_one, "192.168.0.1"));
        assert!(allows(&but_one, "192.168.7.1"));
        assert!(!allows(&but_one, "10.0.0.1"));
        assert!(allows(&but_one, "::1"), "what no rule matches may come in");
        let v6 = rules(&[
            "allow 2001:db8:1::/48",
            "deny 2001:db8::/32",
            "allow fe80::1",
            "deny ::/0",
        ]);
        assert!(allows(&v6, "2001:db8:1:ffff::1"));
        assert!(!allows(&v6, "2001:db8:2::1"));
        assert!(allows(&v6, "fe80::1"));
        assert!(!allows(&v6, "fe80::2"));
        assert!(allows(&v6, "192.0.2.1"));
        assert!(allows(&rules(&[]), "192.0.2.1"));
        assert!(!allows(&rules(&["deny all", "allow all"]), "192.0.2.1"));
    }

    #[test]
    fn mistakes_are_named() {
        for bad in [
            "",
            "allow",
            "all",
            "permit all",
            "allow all all",
            "Allow all",
        ] {
            assert_eq!(
                bad.parse::<AccessRule>(),
                Err(AccessRuleError::Form),
                "{bad}"
            );
        }
        for bad in [
            "host",
            "1.2.3",
            "1.2.3.4/33",
            "1.2.3.4/",
            "::/129",
            "1.2.3.4/-1",
            "/8",
        ] {
            let error = format!("deny {bad}").parse::<AccessRule>().unwrap_err();
            assert_eq!(error, AccessRuleError::Network(bad.to_owned()));
        }
        let many = vec!["deny all".parse().unwrap(); MAX_RULES + 1];
        assert_eq!(AccessRules::new(many), None);
    }

    proptest! {
        /// A network holds exactly the addresses that share its first bits, and reads back.
        #[test]
        fn networks(network: u32, prefix in 0u8..=32, address: u32) {
            let text = format!("deny {}/{prefix}", std::net::Ipv4Addr::from_bits(network));
            let rule: AccessRule = text.parse().unwrap();
            prop_assert_eq!(rule.to_string().parse(), Ok(rule));
            let same = prefix == 0 || (network ^ address) >> (32 - u32::from(prefix)) == 0;
            let allowed = rules(&[&text]).allow(std::net::Ipv4Addr::from_bits(address).into());
            prop_assert_eq!(allowed, !same);
        }

        #[test]
        fn networks_of_ipv6(network: u128, prefix in 0u8..=128, address: u128) {
            let text = format!("deny {}/{prefix}", std::net::Ipv6Addr::from_bits(network));
            let rule: AccessRule = text.parse().unwrap();
            prop_assert_eq!(rule.to_string().parse(), Ok(rule));
            let address = std::net::Ipv6Addr::from_bits(address);
            prop_assume!(address.to_ipv4_mapped().is_none());
            let bits = address.to_bits() ^ network;
            let same = prefix == 0 || bits >> (128 - u32::from(prefix)) == 0;
            prop_assert_eq!(rules(&[&text]).allow(address.into()), !same);
        }
    }
}
