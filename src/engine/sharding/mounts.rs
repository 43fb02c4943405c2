//! Rendered mountpoints, and the endpoints that have them. Commands go by the mountpoint, so one
//! that several endpoints could give themselves would bring the commands of one to another.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Another endpoint has the mountpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) struct MountTaken;

/// See the module.
#[derive(Debug, Default)]
pub(in crate::engine) struct Mounts(HashMap<Box<str>, Holders>);

/// Who has a mountpoint.
#[derive(Debug)]
enum Holders {
    One { endpoint: Arc<str>, shared: bool },
    Many(HashSet<Arc<str>>),
}

impl Mounts {
    /// Whether `endpoint` may have `mount`: nobody else has it, or all agree to share it.
    pub(in crate::engine) fn check(
        &self,
        mount: &str,
        endpoint: &str,
        shared: bool,
    ) -> Result<(), MountTaken> {
        match self.0.get(mount) {
            None => Ok(()),
            Some(Holders::One { endpoint: own, .. }) if **own == *endpoint => Ok(()),
            Some(Holders::One { shared: true, .. }) if shared => Ok(()),
            Some(Holders::Many(endpoints)) if shared || endpoints.contains(endpoint) => Ok(()),
            Some(_) => Err(MountTaken),
        }
    }

    /// After [`Mounts::check`].
    pub(in crate::engine) fn insert(&mut self, mount: &str, endpoint: &Arc<str>, shared: bool) {
        let new = || Holders::One {
            endpoint: endpoint.clone(),
            shared,
        };
        let Some(holders) = self.0.get_mut(mount) else {
            self.0.insert(mount.into(), new());
            return;
        };
        match holders {
            Holders::One { endpoint: own, .. } if own == endpoint => *holders = new(),
            Holders::One { endpoint: own, .. } => {
                *holders = Holders::Many([own.clone(), endpoint.clone()].into());
            }
            Holders::Many(endpoints) => {
                endpoints.insert(endpoint.clone());
            }
        }
    }

    pub(in crate::engine) fn remove(&mut self, mount: &str, endpoint: &str) {
        let empty = match self.0.get_mut(mount) {
            None => false,
            Some(Holders::One { endpoint: own, .. }) => **own == *endpoint,
            Some(Holders::Many(endpoints)) => {
                endpoints.remove(endpoint);
                endpoints.is_empty()
            }
        };
        if empty {
            self.0.remove(mount);
        }
    }

    pub(in crate::engine) fn endpoints_at(&self, mount: &str) -> Vec<Arc<str>> {
        match self.0.get(mount) {
            None => Vec::new(),
            Some(Holders::One { endpoint, .. }) => vec![endpoint.clone()],
            Some(Holders::Many(endpoints)) => endpoints.iter().cloned().collect(),
        }
    }

    pub(in crate::engine) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c4_one_endpoint_has_a_mountpoint_unless_all_share_it() {
        let (a, b, c): (Arc<str>, Arc<str>, Arc<str>) = ("a".into(), "b".into(), "c".into());
        let mut mounts = Mounts::default();
        mounts.insert("x/", &a, false);
        assert_eq!(mounts.check("x/", "a", false), Ok(()));
        for shared in [false, true] {
            assert_eq!(mounts.check("x/", "b", shared), Err(MountTaken));
        }
        mounts.remove("x/", "b");
        mounts.remove("x/", "a");
        assert!(mounts.is_empty());

        mounts.insert("x/", &a, true);
        assert_eq!(mounts.check("x/", "b", false), Err(MountTaken));
        assert_eq!(mounts.check("x/", "b", true), Ok(()));
        mounts.insert("x/", &b, true);
        mounts.insert("x/", &b, true);
        assert_eq!(mounts.check("x/", "b", false), Ok(()));
        assert_eq!(mounts.check("x/", "c", false), Err(MountTaken));
        mounts.insert("x/", &c, true);
        let mut all = mounts.endpoints_at("x/");
        all.sort_unstable();
        assert_eq!(all, [a, b, c]);
        for endpoint in ["a", "c", "b"] {
            assert!(!mounts.is_empty());
            mounts.remove("x/", endpoint);
        }
        assert!(mounts.is_empty() && mounts.endpoints_at("x/").is_empty());
    }
}
