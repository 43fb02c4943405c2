//! Where a service keeps what has to outlive it, if its configuration does not say.

use std::env;
use std::path::PathBuf;

use crate::system::effective_user;

/// The name of the directory, below those of all programs.
const NAME: &str = "lwm2m-gateway";

/// `$STATE_DIRECTORY`, which systemd makes for a service (`StateDirectory=`), else a directory below
/// `$XDG_STATE_HOME`, `/var/lib` for root, or `~/.local/state`.
pub(super) fn directory() -> Option<PathBuf> {
    choose(
        &|name| env::var_os(name).map(PathBuf::from),
        effective_user(),
    )
}

fn choose(get: &dyn Fn(&str) -> Option<PathBuf>, user: u32) -> Option<PathBuf> {
    let absolute = |name| get(name).filter(|path| path.is_absolute());
    // Several are separated by colons (systemd.exec(5)).
    let given = get("STATE_DIRECTORY").and_then(|all| {
        let all = all.into_os_string().into_string().ok()?;
        let first = PathBuf::from(all.split(':').next()?);
        first.is_absolute().then_some(first)
    });
    if given.is_some() {
        return given;
    }
    let state = absolute("XDG_STATE_HOME");
    let root = || (user == 0).then(|| PathBuf::from("/var/lib"));
    let home = || absolute("HOME").map(|home| home.join(".local/state"));
    state
        .or_else(root)
        .or_else(home)
        .map(|state| state.join(NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(variables: &[(&str, &str)], user: u32) -> Option<String> {
        let get = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| PathBuf::from(value))
        };
        choose(&get, user).map(|path| path.display().to_string())
    }

    #[test]
    fn the_first_that_is_known() {
        let all = [
            ("STATE_DIRECTORY", "/var/lib/a:/var/lib/b"),
            ("XDG_STATE_HOME", "/x"),
            ("HOME", "/h"),
        ];
        let expected = [
            "/var/lib/a",
            "/x/lwm2m-gateway",
            "/h/.local/state/lwm2m-gateway",
        ];
        for (skipped, expected) in expected.into_iter().enumerate() {
            assert_eq!(chosen(&all[skipped..], 1000).as_deref(), Some(expected));
        }
        let root = chosen(&all[2..], 0);
        assert_eq!(root.as_deref(), Some("/var/lib/lwm2m-gateway"));
        assert_eq!(chosen(&[("HOME", "h"), ("XDG_STATE_HOME", "")], 1000), None);
    }
}
