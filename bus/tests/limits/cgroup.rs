//! A memory cgroup: the kernel answers with a kill, so what others see is a death.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    party::{join, serve, skipped},
    support::{Child, Place, system},
};

/// Enough to start and join in, much less than a pool.
const BYTES: u64 = 48 << 20;

/// A memory cgroup of its own, removed when dropped.
struct Group(PathBuf);

impl Group {
    fn new() -> io::Result<Self> {
        let (root, limit) = if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            ("/sys/fs/cgroup", "memory.max")
        } else {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        };
        let dir = Path::new(root).join(format!("shmbus-test-{}", std::process::id()));
        fs::create_dir(&dir)?;
        let group = Self(dir);
        fs::write(group.0.join(limit), BYTES.to_string())?;
        // Where there is swap, it is not to be used; where there is none, the file may be missing.
        let _ = fs::write(group.0.join("memory.swap.max"), "0");
        let _ = fs::write(group.0.join("memory.swappiness"), "0");
        Ok(group)
    }

    fn take(&self, child: &Child) -> io::Result<()> {
        fs::write(self.0.join("cgroup.procs"), child.pid().to_string())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Empty by now: its members were killed and waited for.
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
#[ignore = "the kernel's reclaim before its kill can stall a small machine for a minute"]
fn who_is_killed_at_its_memory_cgroups_limit_is_lost_and_nobody_else_notices_more() {
    let test = "who_is_killed_at_its_memory_cgroups_limit";
    let group = match Group::new() {
        Ok(group) => group,
        Err(why) => return skipped(test, format_args!("no memory cgroup can be made: {why}")),
    };
    let place = Place::new();
    system(async {
        let mut server = serve(&place, &["server"]).await;
        let mut other = join(&place, &["other"]).await;
        other.expect_after("open server", "ok").await;
        let mut hog = place.ready("party::party", &["hog"]).await;
        if let Err(why) = group.take(&hog) {
            return skipped(test, format_args!("a process cannot be put into a cgroup: {why}"));
        }
        hog.expect_after("join", "ok").await;
        hog.expect_after("open server", "ok").await;
        hog.expect_after("blob server 1000", "true").await;
        // Its pool grows with what the server keeps.
        hog.say("fill server 1000000");
        let end = hog.hear_or_end().await;
        assert_eq!((end, hog.ended_by()), (None, Some(9)));
        server.until("peers", "other").await;
        // What it sent is there and whole, and has no hold on anybody.
        let kept: u64 = server.ask("kept").await.parse().unwrap();
        assert!(kept > 10, "{kept}");
        server.expect_after("right", "true").await;
        other.expect_after("blob server 100000", "true").await;
        server.expect_after("release", "ok").await;
        server.expect_after("stat violations", "0").await;
        // One of the same name and without the limit is met like any other.
        let mut again = join(&place, &["hog"]).await;
        again.expect_after("open server", "ok").await;
        again.expect_after("blob server 60000000", "true").await;
    });
}
