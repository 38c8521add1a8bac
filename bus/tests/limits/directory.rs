//! A runtime directory whose file system is full: a socket needs an inode.

use std::{fs::File, process::Command};

use crate::{
    party::{join, serve, skipped},
    support::{Place, system},
};

/// A file system of a few inodes on a test's directory; unmounted when dropped.
struct Small<'a>(&'a Place);

impl<'a> Small<'a> {
    fn mount(place: &'a Place) -> Result<Self, String> {
        let mounted = Command::new("mount")
            .args([
                "-t",
                "tmpfs",
                "-o",
                "size=64k,nr_inodes=8,mode=700",
                "shmbus-test",
            ])
            .arg(place.dir())
            .output()
            .map_err(|error| error.to_string())?;
        if !mounted.status.success() {
            return Err(String::from_utf8_lossy(&mounted.stderr).trim().to_owned());
        }
        Ok(Self(place))
    }

    /// Takes all inodes that are left.
    fn fill(&self) {
        let file = |n| File::create_new(self.0.dir().join(format!("file-{n}")));
        let full = (0..100).find_map(|n| file(n).err()).expect("it is small");
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull, "{full}");
    }

    /// Gives them back.
    fn empty(&self) {
        for entry in std::fs::read_dir(self.0.dir()).unwrap().flatten() {
            if entry.file_name().to_string_lossy().starts_with("file-") {
                std::fs::remove_file(entry.path()).unwrap();
            }
        }
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        // Lazily: what is open in it does not matter any more.
        let _ = Command::new("umount").arg("-l").arg(self.0.dir()).status();
    }
}

#[test]
fn a_full_runtime_directory_is_named_and_joined_in_when_there_is_room() {
    let test = "a_full_runtime_directory";
    if !nix::unistd::geteuid().is_root() {
        return skipped(test, "only root can mount a small file system");
    }
    let place = Place::new();
    let small = match Small::mount(&place) {
        Ok(small) => small,
        Err(why) => return skipped(test, format_args!("a tmpfs cannot be mounted: {why}")),
    };
    system(async {
        let mut late = place.ready("party::party", &["late"]).await;
        let named = |said: &str| {
            assert!(said.contains("No space left on device"), "{said}");
            assert!(said.contains("inodes") && said.contains("SHMBUS_DIR"), "{said}");
            assert!(said.contains(place.dir().to_str().unwrap()), "{said}");
        };
        // No room for the bus's folder.
        small.fill();
        named(&late.ask("join").await);
        small.empty();
        let mut server = serve(&place, &["server"]).await;
        let mut client = join(&place, &["client"]).await;
        // No room for a socket; who is there needs none.
        small.fill();
        for _ in 0..3 {
            named(&late.ask("join").await);
        }
        client.expect_after("open server", "ok").await;
        client.expect_after("blob server 6000000", "true").await;
        // Who leaves makes room.
        client.expect_after("leave", "ok").await;
        late.expect_after("join", "ok").await;
        named(&client.ask("join").await);
        small.empty();
        client.expect_after("join", "ok").await;
        for node in [&mut late, &mut client] {
            node.expect_after("open server", "ok").await;
            node.expect_after("blob server 1000", "true").await;
        }
        server.expect_after("stat violations", "0").await;
    });
}
