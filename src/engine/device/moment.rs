//! Times that are only shown, in few bytes: there are some for each device.

/// Milliseconds since 1970 in six bytes, which last for nine thousand years.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::engine) struct Moment([u16; 3]);

impl Moment {
    /// Later ones are the last that there is.
    pub(in crate::engine) fn new(millis: u64) -> Self {
        let millis = millis.min((1 << 48) - 1);
        Self([(millis >> 32) as u16, (millis >> 16) as u16, millis as u16])
    }

    #[cfg(any(feature = "http", feature = "internals"))]
    pub(in crate::engine) fn millis(self) -> u64 {
        let [high, middle, low] = self.0.map(u64::from);
        high << 32 | middle << 16 | low
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_bytes_do() {
        for millis in [0, 1, 0xffff, 1_800_000_000_123, (1 << 48) - 1] {
            assert_eq!(Moment::new(millis).millis(), millis);
        }
        assert_eq!(Moment::new(u64::MAX).millis(), (1 << 48) - 1);
        assert_eq!(size_of::<Moment>(), 6);
    }
}
