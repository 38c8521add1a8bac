use std::{
    fs::Permissions,
    os::unix::fs::{PermissionsExt, symlink},
    sync::Barrier,
};

use tempfile::TempDir;

use super::*;

const SOON: Duration = Duration::from_secs(5);

/// A private runtime directory of this test.
fn dir() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn take(dir: &TempDir, node: &str) -> Result<Claim, JoinError> {
    Claim::take(Some(dir.path()), "bus", node, SOON, &Users::default())
}

/// Leaves a socket that nobody listens on, as a killed node does.
fn leave_dead_socket(dir: &TempDir, node: &str) -> PathBuf {
    let path = dir.path().join("bus").join(format!("{node}.sock"));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    drop(socket::listen_at(&path).unwrap());
    assert!(path.exists());
    path
}

fn problem_of(result: Result<Claim, JoinError>) -> String {
    match result.unwrap_err() {
        JoinError::DirUnsafe { problem, .. } => problem,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_directory_is_found_in_order() {
    let shmbus = ("SHMBUS_DIR", "/a");
    let xdg = ("XDG_RUNTIME_DIR", "/run/user/7");
    let with = |explicit: Option<&str>, vars: &[(&str, &str)]| {
        resolve_with(explicit.map(Path::new), |name| {
            vars.iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| value.into())
        })
    };
    assert_eq!(with(Some("/x"), &[shmbus, xdg]), Path::new("/x"));
    assert_eq!(with(None, &[shmbus, xdg]), Path::new("/a"));
    assert_eq!(with(None, &[xdg]), Path::new("/run/user/7/shmbus"));
    assert_eq!(
        with(None, &[("SHMBUS_DIR", ""), xdg]),
        Path::new("/run/user/7/shmbus")
    );
    assert_eq!(
        with(None, &[]),
        PathBuf::from(format!("/tmp/shmbus-{}", geteuid()))
    );
}

#[test]
fn what_is_made_is_private() {
    let parent = dir();
    let runtime = parent.path().join("runtime");
    let claim = Claim::take(Some(&runtime), "bus", "shop", SOON, &Users::default()).unwrap();
    for (path, mode) in [
        (&runtime, 0o700),
        (&runtime.join("bus"), 0o700),
        (&claim.path().into(), 0o600),
    ] {
        assert_eq!(
            fs::symlink_metadata(path).unwrap().mode() & 0o777,
            mode,
            "{path:?}"
        );
    }
    assert_eq!(claim.path(), runtime.join("bus/shop.sock"));
}

#[test]
fn a_live_name_is_taken_with_its_pid_and_free_after_drop() {
    let dir = dir();
    let claim = take(&dir, "shop").unwrap();
    match take(&dir, "shop").unwrap_err() {
        JoinError::NameTaken { name, pid, socket } => {
            assert_eq!(name, "shop");
            assert_eq!(pid, std::process::id() as i32);
            assert_eq!(socket, claim.path());
        }
        other => panic!("{other:?}"),
    }
    let path = claim.path().to_path_buf();
    drop(claim);
    assert!(!path.exists());
    take(&dir, "shop").unwrap();
}

#[test]
fn a_full_backlog_counts_as_alive() {
    let dir = dir();
    let path = leave_dead_socket(&dir, "shop");
    fs::remove_file(&path).unwrap();
    let listening = socket::listen_at(&path).unwrap();
    rustix::net::listen(&listening, 0).unwrap();
    // A backlog of 0 holds one connection.
    let _waiting = socket::connect_now(&path).unwrap();
    assert_eq!(
        socket::connect_now(&path).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );

    assert!(matches!(
        take(&dir, "shop").unwrap_err(),
        JoinError::NameTaken { pid: 0, .. }
    ));
    take(&dir, "other").unwrap();
    assert!(path.exists(), "swept although alive");
}

#[test]
fn dead_sockets_are_replaced_and_swept() {
    let dir = dir();
    let own = leave_dead_socket(&dir, "shop");
    let other = leave_dead_socket(&dir, "other");
    let alive = take(&dir, "alive").unwrap();
    assert!(!own.exists() && !other.exists());

    let own = leave_dead_socket(&dir, "shop");
    let claim = take(&dir, "shop").unwrap();
    assert!(own.exists() && alive.path().exists());
    assert_eq!(
        claim.others().unwrap(),
        [("alive".to_owned(), alive.path().to_path_buf())]
    );
    assert_eq!(
        alive.others().unwrap(),
        [("shop".to_owned(), claim.path().to_path_buf())]
    );
}

#[test]
fn what_is_no_socket_is_neither_removed_nor_listed() {
    let dir = dir();
    let folder = dir.path().join("bus");
    let dead = leave_dead_socket(&dir, "dead");
    // A dead socket outside, behind a link: it must not be removed, nor the link.
    let outside = dir.path().join("outside");
    fs::rename(&dead, &outside).unwrap();
    symlink(&outside, folder.join("link.sock")).unwrap();
    fs::write(folder.join("file.sock"), "mine").unwrap();
    fs::create_dir(folder.join("folder.sock")).unwrap();
    // Nor what no node can be called.
    for name in ["other-ending", "not a name.sock", "..sock"] {
        drop(socket::listen_at(&folder.join(name)).unwrap());
    }

    let claim = take(&dir, "shop").unwrap();
    assert_eq!(claim.others().unwrap(), []);
    for name in [
        "link.sock",
        "file.sock",
        "folder.sock",
        "other-ending",
        "not a name.sock",
        "..sock",
        "../outside",
    ] {
        assert!(folder.join(name).symlink_metadata().is_ok(), "{name} was removed");
    }
    for name in ["link", "file", "folder"] {
        let error = take(&dir, name).unwrap_err();
        assert!(
            matches!(&error, JoinError::Dir { source, .. } if source.kind() == ErrorKind::AlreadyExists),
            "{error}"
        );
    }
}

#[test]
fn one_of_many_racers_gets_the_name() {
    const RACERS: usize = 8;
    for round in 0..25 {
        let dir = dir();
        // The dangerous start: each racer finds the dead socket and wants to replace it.
        leave_dead_socket(&dir, "shop");
        let start = Barrier::new(RACERS);
        let results = thread::scope(|scope| {
            let racers: Vec<_> = (0..RACERS)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        take(&dir, "shop")
                    })
                })
                .collect();
            racers
                .into_iter()
                .map(|racer| racer.join().unwrap())
                .collect::<Vec<_>>()
        });
        assert_eq!(
            results.iter().filter(|result| result.is_ok()).count(),
            1,
            "round {round}"
        );
        for error in results.iter().filter_map(|result| result.as_ref().err()) {
            assert!(
                matches!(error, JoinError::NameTaken { .. }),
                "round {round}: {error}"
            );
        }
        let winner = results.iter().find_map(|result| result.as_ref().ok()).unwrap();
        socket::connect_now(winner.path()).expect("the winner's socket is the one in the folder");
    }
}

#[test]
fn racers_for_different_names_sweep_nobody_alive() {
    const RACERS: usize = 8;
    for _ in 0..10 {
        let dir = dir();
        let start = Barrier::new(RACERS);
        let claims = thread::scope(|scope| {
            let (start, dir) = (&start, &dir);
            let racers: Vec<_> = (0..RACERS)
                .map(|n| {
                    scope.spawn(move || {
                        start.wait();
                        take(dir, &format!("n{n}")).unwrap()
                    })
                })
                .collect();
            racers
                .into_iter()
                .map(|racer| racer.join().unwrap())
                .collect::<Vec<_>>()
        });
        for claim in &claims {
            assert_eq!(claim.others().unwrap().len(), RACERS - 1);
        }
    }
}

#[test]
fn a_lock_that_is_held_fails_by_name_within_the_bound() {
    let dir = dir();
    let folder = dir.path().join("bus");
    drop(take(&dir, "first").unwrap());
    let held = lock(&folder, open_private(&folder).unwrap(), SOON).unwrap();
    let error = Claim::take(
        Some(dir.path()),
        "bus",
        "shop",
        Duration::from_millis(20),
        &Users::default(),
    )
    .unwrap_err();
    match error {
        JoinError::Dir { dir, action, source } => {
            assert_eq!(
                (dir, action, source.kind()),
                (folder, "lock it", ErrorKind::TimedOut)
            );
        }
        other => panic!("{other:?}"),
    }
    drop(held);
    take(&dir, "shop").unwrap();
}

#[test]
fn unsafe_directories_are_refused() {
    let parent = dir();
    let at = |name: &str| {
        Claim::take(
            Some(&parent.path().join(name)),
            "bus",
            "shop",
            SOON,
            &Users::default(),
        )
    };

    fs::create_dir(parent.path().join("real")).unwrap();
    symlink(parent.path().join("real"), parent.path().join("link")).unwrap();
    assert_eq!(problem_of(at("link")), "is a symbolic link");
    symlink(parent.path().join("nowhere"), parent.path().join("dangling")).unwrap();
    assert_eq!(problem_of(at("dangling")), "is a symbolic link");
    fs::write(parent.path().join("file"), "").unwrap();
    assert_eq!(problem_of(at("file")), "is not a directory");

    for mode in [0o720, 0o702, 0o1777] {
        fs::create_dir(parent.path().join("open")).unwrap();
        fs::set_permissions(parent.path().join("open"), Permissions::from_mode(mode)).unwrap();
        assert_eq!(
            problem_of(at("open")),
            format!("may be written by others (mode {mode:04o}, should be 0700)")
        );
        fs::remove_dir(parent.path().join("open")).unwrap();
    }

    // The bus's folder is judged like the directory around it.
    symlink(parent.path().join("real"), parent.path().join("real/bus")).unwrap();
    assert_eq!(problem_of(at("real")), "is a symbolic link");
}

#[test]
fn a_directory_of_somebody_else_is_refused() {
    let parent = dir();
    let foreign = parent.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    if std::os::unix::fs::chown(&foreign, Some(12_345), None).is_err() {
        return; // Only root can give a directory away.
    }
    let problem = problem_of(Claim::take(
        Some(&foreign),
        "bus",
        "shop",
        SOON,
        &Users::default(),
    ));
    assert_eq!(problem, "belongs to uid 12345, not to uid 0 of this process");
}

/// Where everybody may leave sockets, those of strangers are neither dialled nor probed.
#[test]
fn in_a_shared_directory_sockets_of_strangers_are_passed_over() {
    let dir = dir();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o1777)).unwrap();
    let known = Users {
        uids: vec![12_345],
        ..Users::default()
    };
    let join = |node: &str, users: &Users| Claim::take(Some(dir.path()), "bus", node, SOON, users).unwrap();
    let us = join("us", &known);
    for (node, owner) in [("friend", 12_345), ("stranger", 54_321)] {
        let path = us.path().with_file_name(format!("{node}.sock"));
        // Nobody listens there any more.
        drop(socket::listen_at(&path).unwrap());
        if std::os::unix::fs::chown(&path, Some(owner), None).is_err() {
            return; // Only root can give a socket away.
        }
    }
    let ours = join("ours", &known);
    let names = |claim: &Claim| {
        claim
            .others()
            .unwrap()
            .into_iter()
            .map(|(name, _)| name)
            .collect::<Vec<_>>()
    };
    // The friend's was swept.
    assert_eq!(names(&ours), ["us"]);
    assert!(us.path().with_file_name("stranger.sock").exists());
    // Where a group is let in, anybody may be in it.
    let group = Users {
        gids: vec![12_345],
        ..known
    };
    let theirs = join("theirs", &group);
    assert_eq!(names(&theirs), ["ours", "us"]);
    assert!(!us.path().with_file_name("stranger.sock").exists());
}

#[test]
fn a_missing_parent_is_named() {
    let parent = dir();
    let missing = parent.path().join("no/such");
    match Claim::take(Some(&missing), "bus", "shop", SOON, &Users::default()).unwrap_err() {
        JoinError::Dir { dir, action, .. } => assert_eq!((dir, action), (missing, "create it")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_long_path_is_refused_before_anything_is_made() {
    let parent = dir();
    let runtime = parent.path().join("r");
    let room = PATH_MAX - runtime.as_os_str().len() - "/bus/".len() - SUFFIX.len();
    let fits = "n".repeat(room.min(64));
    let bus = "b".repeat(64);
    let node = "n".repeat(64);
    match Claim::take(Some(&runtime), &bus, &node, SOON, &Users::default()).unwrap_err() {
        JoinError::PathTooLong { path, len, limit } => {
            assert_eq!((path.as_os_str().len(), limit), (len, 107));
            assert!(len > 107);
        }
        other => panic!("{other:?}"),
    }
    assert!(!runtime.exists());
    Claim::take(Some(&runtime), "bus", &fits, SOON, &Users::default()).unwrap();
}

#[test]
fn a_path_of_exactly_the_limit_works() {
    let parent = dir();
    let fixed = parent.path().as_os_str().len() + "//bus/n.sock".len();
    let runtime = parent.path().join("r".repeat(PATH_MAX - fixed));
    let claim = Claim::take(Some(&runtime), "bus", "n", SOON, &Users::default()).unwrap();
    assert_eq!(claim.path().as_os_str().len(), PATH_MAX);
    socket::connect_now(claim.path()).unwrap();
    assert!(matches!(
        Claim::take(Some(&runtime), "bus", "nn", SOON, &Users::default()).unwrap_err(),
        JoinError::PathTooLong { len: 108, .. }
    ));
}

#[test]
fn names_are_checked_first() {
    let parent = dir();
    let runtime = parent.path().join("r");
    for (bus, node, what) in [("a/b", "n", "bus"), ("b", "..", "node")] {
        match Claim::take(Some(&runtime), bus, node, SOON, &Users::default()).unwrap_err() {
            JoinError::Name(error) => assert_eq!(error.what, what),
            other => panic!("{other:?}"),
        }
    }
    assert!(!runtime.exists());
}

#[test]
fn a_forked_childs_drop_removes_nothing() {
    let dir = dir();
    let mut claim = take(&dir, "node").unwrap();
    let path = claim.path().to_owned();
    claim.pid += 1;
    drop(claim);
    assert!(path.exists());
}

#[test]
fn drop_removes_only_its_own_socket() {
    let dir = dir();
    let claim = take(&dir, "shop").unwrap();
    // Somebody cleaned up by hand, and another node took the name.
    fs::remove_file(claim.path()).unwrap();
    let newer = take(&dir, "shop").unwrap();
    drop(claim);
    assert!(newer.path().exists());
}

#[test]
fn a_killed_lock_holder_blocks_nobody() {
    let dir = dir();
    let folder = dir.path().join("bus");
    drop(take(&dir, "first").unwrap());
    // `flock` from util-linux holds the lock in another process until that is killed.
    let Ok(mut holder) = std::process::Command::new("flock")
        .arg(&folder)
        .args(["sh", "-c", "echo held; exec cat"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
    else {
        return; // No such tool here.
    };
    let mut said = [0; 5];
    io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut said).unwrap();
    assert!(Claim::take(Some(dir.path()), "bus", "shop", Duration::ZERO, &Users::default()).is_err());
    // Its child holds the lock as well, and ends with its input.
    holder.kill().unwrap();
    drop(holder.stdin.take());
    holder.wait().unwrap();
    take(&dir, "shop").unwrap();
}
