//! A runtime directory that several users share.
//!
//! It is made by an administrator, not by us. What must hold for it and for the bus's folder in it: nobody but its
//! owner (root, this user, or one who is let in) and the members of a group that is let in can remove or replace
//! a node's socket. Whoever can is able to hide nodes from each other; he cannot take a node's place for another
//! user, because both ends of a session look at the kernel's word.
//!
//! In such a directory a path may name something else from one moment to the next. So it is opened, looked at through
//! its descriptor, and reached by that.

use std::{
    fs::{DirBuilder, File, Permissions},
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, fchown},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use nix::unistd::geteuid;

use super::{failed, open_dir, socket::by_descriptor};
use crate::{error::JoinError, session::users::Users};

const STICKY: u32 = 0o1000;
/// How long the maker of a folder may take until others can enter it.
const MAKING: Duration = Duration::from_millis(500);

/// Opens the folder of `bus` in `dir`; makes it where `dir` is for everybody who is let in. `given`: somebody has chosen
/// the directory.
pub(super) fn open(dir: &Path, bus: &str, given: bool, users: &Users) -> Result<File, JoinError> {
    let unsafe_as = |dir: &Path, problem: String| JoinError::DirUnsafe {
        dir: dir.to_path_buf(),
        problem,
    };
    if !given {
        let problem = "is this user's own, while `Config::allow_uids` or `allow_gids` let others in";
        return Err(unsafe_as(dir, problem.into()));
    }
    let missing = |dir: &Path| {
        let problem = "does not exist, and must be made for those who share it: as root, \
                       `install -d -m 3770 -g GROUP` or `install -d -m 1777`";
        unsafe_as(dir, problem.into())
    };
    let top = open_dir(dir, dir).map_err(|error| match error {
        JoinError::Dir { source, .. } if source.kind() == ErrorKind::NotFound => missing(dir),
        error => error,
    })?;
    let found = top.metadata().map_err(failed(dir, "look at it"))?;
    let judged = Judged::of(&found, users).map_err(|problem| unsafe_as(dir, problem))?;
    judged.enter().map_err(|problem| unsafe_as(dir, problem))?;

    let folder = dir.join(bus);
    let at = by_descriptor(&top).join(bus);
    if judged.write().is_ok() {
        match DirBuilder::new().mode(0o700).create(&at) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(failed(&folder, "create it")(error));
            }
            _ => {}
        }
    }
    let until = Instant::now() + MAKING;
    loop {
        let error = match open_dir(&at, &folder) {
            Ok(opened) => {
                if judged.write().is_ok() {
                    share(&opened, &found).map_err(failed(&folder, "let others in"))?;
                }
                let found = opened.metadata().map_err(failed(&folder, "look at it"))?;
                match Judged::of(&found, users).and_then(|judged| judged.write()) {
                    Ok(()) => return Ok(opened),
                    Err(problem) => unsafe_as(&folder, problem),
                }
            }
            Err(JoinError::Dir { source, .. }) if source.kind() == ErrorKind::NotFound => {
                return Err(missing(&folder));
            }
            Err(error) => error,
        };
        // Another user may just have made it, and is about to let others in.
        if Instant::now() >= until {
            return Err(error);
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Lets those into a folder of ours who may write the directory around it.
fn share(folder: &File, around: &std::fs::Metadata) -> io::Result<()> {
    let found = folder.metadata()?;
    let (mode, wanted) = (found.mode() & 0o7777, around.mode() & 0o3777);
    if found.uid() != geteuid().as_raw() || mode == wanted {
        return Ok(());
    }
    if found.gid() != around.gid() && wanted & 0o002 == 0 {
        fchown(folder, None, Some(around.gid()))?;
    }
    folder.set_permissions(Permissions::from_mode(wanted))
}

/// The mode of a socket in this folder: for those who get that far.
pub(super) fn socket_mode(folder: &File) -> io::Result<u32> {
    // With the set-group-id bit the socket is of the folder's group.
    let mode = folder.metadata()?.mode();
    Ok(if mode & 0o003 == 0 && mode & 0o2000 != 0 {
        0o660
    } else {
        0o666
    })
}

/// A directory that nobody can do harm in who could not do it anyway.
struct Judged {
    mode: u32,
}

impl Judged {
    fn of(found: &std::fs::Metadata, users: &Users) -> Result<Self, String> {
        let (mode, uid, gid) = (found.mode() & 0o7777, found.uid(), found.gid());
        let us = geteuid().as_raw();
        if uid != 0 && uid != us && !users.uids.contains(&uid) {
            return Err(format!(
                "belongs to uid {uid}, who is not root, nor uid {us} of this process, nor named by `Config::allow_uids`"
            ));
        }
        if mode & STICKY == 0 && mode & 0o002 != 0 {
            return Err(format!(
                "may be written by everybody (mode {mode:04o}), who could remove the nodes' sockets: give it to a \
                 group (`chmod 3770`), or set the sticky bit (`chmod 1777`)"
            ));
        }
        if mode & STICKY == 0 && mode & 0o020 != 0 && !users.gids.contains(&gid) {
            return Err(format!(
                "may be written by group {gid} (mode {mode:04o}), whose members could remove the nodes' sockets: set the \
                 sticky bit (`chmod 3770`), or name that group by `Config::allow_gids`"
            ));
        }
        Ok(Self { mode })
    }

    fn lets(&self, bits: u32, what: &str) -> Result<(), String> {
        let mode = self.mode;
        if [bits << 3, bits].iter().any(|bits| mode & bits == *bits) {
            return Ok(());
        }
        Err(format!(
            "lets no other user {what} (mode {mode:04o}), while `Config::allow_uids` or `allow_gids` do: \
             `chmod 3770`, for their group, or `chmod 1777`"
        ))
    }

    fn enter(&self) -> Result<(), String> {
        self.lets(0o001, "in")
    }

    fn write(&self) -> Result<(), String> {
        self.lets(0o003, "join")
    }
}
