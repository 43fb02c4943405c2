//! Which version of MQTT is spoken: 5, and 3.1.1 with a broker that does not know 5.

use super::connection::Ended;
use super::wire::Version;
use crate::config::MqttVersion;

/// See the module. What a broker has taken once stays for the life of the process, since a session
/// does not move between versions.
#[derive(Debug)]
pub(super) struct Spoken {
    version: Version,
    /// Whether the other version may still be tried.
    open: bool,
    /// Whether a connection has stood.
    settled: bool,
}

impl Spoken {
    /// As the configuration wants it.
    pub(super) fn new(wanted: MqttVersion) -> Self {
        Self {
            version: match wanted {
                MqttVersion::Auto | MqttVersion::V5 => Version::V5,
                MqttVersion::V311 => Version::V311,
            },
            open: wanted == MqttVersion::Auto,
            settled: false,
        }
    }

    /// For the next connection.
    pub(super) fn version(&self) -> Version {
        self.version
    }

    /// The broker has let us in. Whether this is the first time.
    pub(super) fn settle(&mut self) -> bool {
        self.open = false;
        !std::mem::replace(&mut self.settled, true)
    }

    /// There is no connection. Whether the other version is to be tried at once.
    pub(super) fn failed(&mut self, ended: &Ended) -> bool {
        if !self.open {
            return false;
        }
        let other = matches!(ended, Ended::OtherVersion { .. }) && self.version == Version::V5;
        // A broker that takes neither may be about to start, and speak either.
        self.version = if other { Version::V311 } else { Version::V5 };
        other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(version: Version) -> Ended {
        Ended::OtherVersion {
            version,
            reason: String::new(),
        }
    }

    #[test]
    fn b16_the_older_version_is_tried_at_once_and_stays() {
        let mut spoken = Spoken::new(MqttVersion::Auto);
        assert_eq!(spoken.version(), Version::V5);
        assert!(spoken.failed(&refused(Version::V5)));
        assert_eq!(spoken.version(), Version::V311);
        assert!(spoken.settle(), "the first time");
        assert!(!spoken.settle());
        for ended in [refused(Version::V311), Ended::Closed, Ended::Silent] {
            assert!(!spoken.failed(&ended));
            assert_eq!(spoken.version(), Version::V311);
        }
    }

    #[test]
    fn b16_a_broker_that_takes_neither_gets_mqtt_5_again() {
        let mut spoken = Spoken::new(MqttVersion::Auto);
        for _ in 0..3 {
            assert!(spoken.failed(&refused(Version::V5)));
            assert!(!spoken.failed(&refused(Version::V311)));
            assert_eq!(spoken.version(), Version::V5);
        }
        assert!(spoken.settle());
        assert!(
            !spoken.failed(&refused(Version::V5)),
            "a broker that restarts"
        );
        assert_eq!(spoken.version(), Version::V5);
    }

    #[test]
    fn b16_other_troubles_are_none_of_the_version() {
        let mut spoken = Spoken::new(MqttVersion::Auto);
        for ended in [Ended::Silent, Ended::Refused("NotAuthorized".to_owned())] {
            assert!(!spoken.failed(&ended));
            assert_eq!(spoken.version(), Version::V5);
        }
    }

    #[test]
    fn b16_what_is_configured_stays() {
        for (wanted, version) in [
            (MqttVersion::V5, Version::V5),
            (MqttVersion::V311, Version::V311),
        ] {
            let mut spoken = Spoken::new(wanted);
            assert!(!spoken.failed(&refused(version)));
            assert_eq!(spoken.version(), version);
        }
    }
}
