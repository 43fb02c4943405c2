//! What commands ask for.

/// What a command asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `read`
    Read,
    /// `discover`
    Discover,
    /// `observe`
    Observe,
    /// `cancel-observe`
    CancelObserve,
    /// `write`
    Write,
    /// `write-attr`
    WriteAttributes,
    /// `execute`
    Execute,
    /// `create`
    Create,
    /// `delete`
    Delete,
    /// `read-composite`
    ReadComposite,
    /// `observe-composite`
    ObserveComposite,
    /// `cancel-observe-composite`
    CancelObserveComposite,
    /// `write-composite`
    WriteComposite,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Read,
        Self::Discover,
        Self::Observe,
        Self::CancelObserve,
        Self::Write,
        Self::WriteAttributes,
        Self::Execute,
        Self::Create,
        Self::Delete,
        Self::ReadComposite,
        Self::ObserveComposite,
        Self::CancelObserveComposite,
        Self::WriteComposite,
    ];

    /// The `msgType`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Discover => "discover",
            Self::Observe => "observe",
            Self::CancelObserve => "cancel-observe",
            Self::Write => "write",
            Self::WriteAttributes => "write-attr",
            Self::Execute => "execute",
            Self::Create => "create",
            Self::Delete => "delete",
            Self::ReadComposite => "read-composite",
            Self::ObserveComposite => "observe-composite",
            Self::CancelObserveComposite => "cancel-observe-composite",
            Self::WriteComposite => "write-composite",
        }
    }

    /// The same as JSON text.
    pub(super) const fn json(self) -> &'static str {
        match self {
            Self::Read => r#""read""#,
            Self::Discover => r#""discover""#,
            Self::Observe => r#""observe""#,
            Self::CancelObserve => r#""cancel-observe""#,
            Self::Write => r#""write""#,
            Self::WriteAttributes => r#""write-attr""#,
            Self::Execute => r#""execute""#,
            Self::Create => r#""create""#,
            Self::Delete => r#""delete""#,
            Self::ReadComposite => r#""read-composite""#,
            Self::ObserveComposite => r#""observe-composite""#,
            Self::CancelObserveComposite => r#""cancel-observe-composite""#,
            Self::WriteComposite => r#""write-composite""#,
        }
    }

    /// Whether the operation names several places at once.
    pub const fn is_composite(self) -> bool {
        matches!(
            self,
            Self::ReadComposite
                | Self::ObserveComposite
                | Self::CancelObserveComposite
                | Self::WriteComposite
        )
    }

    /// Whether the operation is answered with values.
    pub const fn reads(self) -> bool {
        matches!(
            self,
            Self::Read
                | Self::Observe
                | Self::CancelObserve
                | Self::ReadComposite
                | Self::ObserveComposite
                | Self::CancelObserveComposite
        )
    }

    /// Whether the operation begins an observation.
    pub const fn observes(self) -> bool {
        matches!(self, Self::Observe | Self::ObserveComposite)
    }

    /// Whether the operation ends an observation.
    pub const fn cancels(self) -> bool {
        matches!(self, Self::CancelObserve | Self::CancelObserveComposite)
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_json() {
        for kind in Kind::ALL {
            assert_eq!(kind.json(), format!("{:?}", kind.name()));
        }
    }
}
