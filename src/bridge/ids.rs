//! Identities of a device that its answers carry.

use super::json::put_string;

/// Identities that stand at the top of answers when the command did not carry them: query
/// parameters of the registration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ids<'a> {
    /// Query `imei`.
    pub imei: Option<&'a str>,
    /// Query `imsi`.
    pub imsi: Option<&'a str>,
}

impl Ids<'_> {
    /// Appends those that stand nowhere else yet, each followed by a comma.
    pub(super) fn put(&self, out: &mut Vec<u8>, has_imei: bool, has_imsi: bool) {
        for (name, value, present) in [("imei", self.imei, has_imei), ("imsi", self.imsi, has_imsi)]
        {
            if let (Some(value), false) = (value, present) {
                put_string(out, name);
                out.push(b':');
                put_string(out, value);
                out.push(b',');
            }
        }
    }
}
