//! How much memory the machine, the cgroup and the process's own limits allow, and the account of
//! a gateway made from that.

use std::fs;
use std::path::{Path, PathBuf};

use tracing::{debug, warn};

use crate::config::Config;
use crate::memory::{DEFAULT_CEILING, Kind, LEAST_CEILING, Memory, Shares};

/// The part of what there is that a gateway takes by default: a broker lives beside it.
const DEFAULT_PART: usize = 4;

/// The least default ceiling, in bytes.
const LEAST_DEFAULT: usize = 64 << 20;

/// The account that `limits.memory` asks for; says at DEBUG where its ceiling comes from.
pub(super) fn account(config: &Config) -> Memory {
    Memory::new(shares(config))
}

/// The shares of the kinds under `limits.memory`, as [`account`].
pub(super) fn shares(config: &Config) -> Shares {
    let ceiling = ceiling(config.limits.memory, &Available::of_system(Path::new("/")));
    let mut dtls = config.listeners.dtls.values();
    let dtls = dtls.any(|listener| listener.common.enable);
    let limits = &config.limits;
    Shares::new(ceiling, dtls)
        .at_most(Kind::Duplicates, limits.dedup_bytes)
        .at_most(Kind::Blocks, limits.blockwise_bytes)
}

/// What bounds the memory of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Available {
    /// Of the machine, in bytes.
    physical: Option<usize>,
    /// The least limit of the process's cgroup and those above it, in bytes.
    cgroup: Option<usize>,
    /// `RLIMIT_AS` or `RLIMIT_DATA`, in bytes.
    process: Option<usize>,
}

fn ceiling(wanted: Option<usize>, available: &Available) -> usize {
    let limits = [
        (available.physical, "the machine's memory"),
        (available.cgroup, "the limit of the cgroup"),
        (available.process, "the limit of the process"),
    ];
    let least = limits
        .into_iter()
        .filter_map(|(limit, what)| Some((limit?, what)))
        .min();
    let Some((limit, what)) = least else {
        let ceiling = wanted.unwrap_or(DEFAULT_CEILING);
        debug!(
            bytes = ceiling,
            "memory ceiling (limits.memory); cannot find out how much memory there is"
        );
        return ceiling;
    };
    // The program, its stacks and its host need some of it.
    let most = (limit / 4 * 3).max(LEAST_CEILING);
    match wanted {
        Some(wanted) if wanted > most => {
            warn!(
                wanted,
                limit, "limits.memory is more than three quarters of {what}: lowered to that"
            );
            most
        }
        Some(wanted) => {
            debug!(bytes = wanted, "memory ceiling (limits.memory)");
            wanted
        }
        None => {
            let ceiling = (limit / DEFAULT_PART).max(LEAST_DEFAULT).min(most);
            debug!(
                bytes = ceiling,
                limit, "memory ceiling: a quarter of {what} (limits.memory)"
            );
            ceiling
        }
    }
}

impl Available {
    /// `root` is `/` but for tests.
    fn of_system(root: &Path) -> Self {
        let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        Self {
            physical: physical(&read("proc/meminfo")),
            cgroup: cgroup(root, &read("proc/self/cgroup")),
            process: process(&read("proc/self/limits")),
        }
    }
}

fn physical(meminfo: &str) -> Option<usize> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

fn process(limits: &str) -> Option<usize> {
    let soft = |name: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    ["Max address space", "Max data size"]
        .into_iter()
        .filter_map(soft)
        .min()
}

/// cgroup v2 (`0::/path`) and v1 (`N:memory:/path`). The path is that of the machine; within a
/// container only its end, or nothing of it, is mounted: whatever is found on the way up counts.
fn cgroup(root: &Path, groups: &str) -> Option<usize> {
    let limits = groups.lines().flat_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        let (mounts, file): (&[&str], _) = match controllers {
            "" => (&["sys/fs/cgroup", "sys/fs/cgroup/unified"], "memory.max"),
            _ if controllers.split(',').any(|it| it == "memory") => {
                (&["sys/fs/cgroup/memory"], "memory.limit_in_bytes")
            }
            _ => (&[], ""),
        };
        let ways = mounts.iter().map(|mount| root.join(mount));
        ways.flat_map(move |mount| limits_up(&mount, path, file))
            .collect::<Vec<_>>()
    });
    // v1 has no word for "none" but a number beyond every machine.
    limits.filter(|limit| *limit < 1 << 60).min()
}

fn limits_up(mount: &Path, path: &str, file: &str) -> Vec<usize> {
    let inner: PathBuf = path.trim_start_matches('/').into();
    let read = |group: &Path| {
        let text = fs::read_to_string(mount.join(group).join(file)).ok()?;
        text.trim().parse().ok()
    };
    inner.ancestors().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: usize = 1 << 20;

    #[test]
    fn a_quarter_of_the_least() {
        let available = Available {
            physical: Some(8192 * MB),
            cgroup: Some(1024 * MB),
            process: None,
        };
        assert_eq!(ceiling(None, &available), 256 * MB);
        assert_eq!(ceiling(Some(100 * MB), &available), 100 * MB);
        assert_eq!(ceiling(Some(2048 * MB), &available), 768 * MB);
        let small = Available {
            cgroup: Some(48 * MB),
            ..available
        };
        assert_eq!(ceiling(None, &small), 36 * MB);
        assert_eq!(ceiling(None, &Available::default()), DEFAULT_CEILING);
    }

    #[test]
    fn what_the_system_says() {
        let name = format!("lwm2m-gateway-memory-{}", std::process::id());
        let root = std::env::temp_dir().join(name);
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(Available::of_system(&root), Available::default());
        write("proc/meminfo", "MemTotal:       16000 kB\nMemFree: 1 kB\n");
        write(
            "proc/self/limits",
            "Limit                     Soft Limit           Hard Limit           Units     \n\
             Max data size             unlimited            unlimited            bytes     \n\
             Max address space         1073741824           unlimited            bytes     \n",
        );
        write("proc/self/cgroup", "0::/system.slice/broker.service\n");
        write(
            "sys/fs/cgroup/system.slice/broker.service/memory.max",
            "max\n",
        );
        write("sys/fs/cgroup/system.slice/memory.max", "5000000\n");
        let available = Available {
            physical: Some(16_000 * 1024),
            cgroup: Some(5_000_000),
            process: Some(1 << 30),
        };
        assert_eq!(Available::of_system(&root), available);
        write("proc/self/cgroup", "4:cpu,memory:/docker/0123\n0::/\n");
        let at = "sys/fs/cgroup/memory/memory.limit_in_bytes";
        write(at, "9223372036854771712\n");
        assert_eq!(Available::of_system(&root).cgroup, None);
        write(at, "7000000\n");
        assert_eq!(Available::of_system(&root).cgroup, Some(7_000_000));
        fs::remove_dir_all(&root).unwrap();
    }
}
