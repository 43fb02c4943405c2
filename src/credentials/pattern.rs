//! Endpoint names with wildcards.

use std::fmt;

/// An endpoint name in which `*` stands for any characters, also none, and `?` for exactly one.
/// There is no way to ask for a literal `*` or `?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointPattern(Box<str>);

/// Most patterns of one credential.
pub(crate) const MAX_PATTERNS: usize = 256;

/// Longest pattern in bytes.
pub(crate) const MAX_PATTERN: usize = 256;

/// Why a text is no list of endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing between two commas.
    #[error("an endpoint is empty")]
    Empty,
    /// A pattern of more than [`MAX_PATTERN`] bytes.
    #[error("an endpoint is longer than {MAX_PATTERN} bytes")]
    Long,
    /// More than [`MAX_PATTERNS`] patterns.
    #[error("there are more than {MAX_PATTERNS} endpoints")]
    Many,
    /// A control character.
    #[error("an endpoint holds a control character")]
    Control,
}

impl EndpointPattern {
    /// Checks and keeps a pattern.
    ///
    /// # Errors
    ///
    /// When it is empty, too long or holds control characters.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if text.len() > MAX_PATTERN {
            return Err(PatternError::Long);
        }
        if text.contains(|c: char| c.is_control()) {
            return Err(PatternError::Control);
        }
        Ok(Self(text.into()))
    }

    /// Reads a list with commas; blanks around the commas do not count.
    ///
    /// # Errors
    ///
    /// When one of them is no pattern, or there are too many.
    pub fn list(text: &str) -> Result<Vec<Self>, PatternError> {
        let mut patterns = Vec::new();
        for pattern in text.split(',') {
            if patterns.len() == MAX_PATTERNS {
                return Err(PatternError::Many);
            }
            patterns.push(Self::new(pattern.trim())?);
        }
        Ok(patterns)
    }

    /// The pattern as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the first wildcard; all of it when there is none.
    pub(super) fn literal_beginning(&self) -> &str {
        let end = self.0.find(['*', '?']).unwrap_or(self.0.len());
        self.0.get(..end).unwrap_or_default()
    }

    /// Whether the whole endpoint name fits. Takes at most the product of both lengths in steps.
    pub fn matches(&self, endpoint: &str) -> bool {
        let mut pattern = self.0.chars();
        let mut rest = endpoint.chars();
        // Behind the last `*` seen: what is left of the pattern, and where it is tried next.
        let mut retry: Option<(std::str::Chars<'_>, std::str::Chars<'_>)> = None;
        loop {
            let before = rest.clone();
            let fits = match (pattern.next(), rest.next()) {
                (Some('*'), _) => {
                    rest = before;
                    retry = Some((pattern.clone(), rest.clone()));
                    true
                }
                (Some('?'), Some(_)) => true,
                (Some(wanted), Some(found)) => wanted == found,
                (None, None) => return true,
                _ => false,
            };
            if fits {
                continue;
            }
            let Some((after, next)) = &mut retry else {
                return false;
            };
            // The `*` takes one character more.
            if next.next().is_none() {
                return false;
            }
            (pattern, rest) = (after.clone(), next.clone());
        }
    }
}

impl fmt::Display for EndpointPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fits(pattern: &str, endpoint: &str) -> bool {
        EndpointPattern::new(pattern).unwrap().matches(endpoint)
    }

    #[test]
    fn wildcards() {
        for (pattern, endpoint) in [
            ("sn1", "sn1"),
            ("*", ""),
            ("*", "any/thing"),
            ("sn*", "sn"),
            ("sn*", "sn1234"),
            ("*:5", "urn:dev:5"),
            ("a*b*c", "a-b-b-c"),
            ("a*bc", "abcbc"),
            ("sn??", "sn12"),
            ("?", "é"),
            ("**?", "x"),
        ] {
            assert!(fits(pattern, endpoint), "{pattern} {endpoint}");
        }
        for (pattern, endpoint) in [
            ("sn1", "sn12"),
            ("sn12", "sn1"),
            ("sn1", "SN1"),
            ("sn*", "xsn1"),
            ("*sn", "snx"),
            ("sn??", "sn1"),
            ("?", ""),
            ("a*b*c", "a-c-b"),
            ("a*bc", "abcb"),
        ] {
            assert!(!fits(pattern, endpoint), "{pattern} {endpoint}");
        }
    }

    #[test]
    fn lists() {
        let list = EndpointPattern::list("sn1, urn:imei:* ,x").unwrap();
        let texts: Vec<_> = list.iter().map(EndpointPattern::as_str).collect();
        assert_eq!(texts, ["sn1", "urn:imei:*", "x"]);
        assert_eq!(EndpointPattern::list("a,,b"), Err(PatternError::Empty));
        assert_eq!(EndpointPattern::list("a\tb"), Err(PatternError::Control));
        let long = "x".repeat(MAX_PATTERN + 1);
        assert_eq!(EndpointPattern::list(&long), Err(PatternError::Long));
        let many = vec!["x"; MAX_PATTERNS + 1].join(",");
        assert_eq!(EndpointPattern::list(&many), Err(PatternError::Many));
    }

    /// The definition itself, exponential.
    fn by_definition(pattern: &[char], text: &[char]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            (['*', after @ ..], _) => {
                (0..=text.len()).any(|taken| by_definition(after, &text[taken..]))
            }
            (['?', after @ ..], [_, rest @ ..]) => by_definition(after, rest),
            ([one, after @ ..], [found, rest @ ..]) => one == found && by_definition(after, rest),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(pattern in "[ab*?é]{1,8}", text in "[abé]{0,10}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(
                fits(&pattern, &text),
                by_definition(&chars(&pattern), &chars(&text))
            );
        }
    }
}
