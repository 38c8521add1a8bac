//! The runtime directory: one folder per bus, in it one socket per node, and nothing else.
//!
//! A socket that refuses connections belongs to nobody alive, since only its listener could have
//! accepted and the kernel closes that with its process. So no lease, heartbeat or pid file is
//! needed to tell the dead from the living. What must not happen is that two nodes find the same
//! dead socket and each removes the other's new one: all removing and binding is done under an
//! exclusive lock on the bus folder itself. The lock goes with its holder's descriptor, so a killed holder
//! cannot leave it behind.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, ErrorKind},
    os::{
        fd::OwnedFd,
        unix::{
            ffi::OsStrExt,
            fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt},
        },
    },
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::{fcntl::OFlag, unistd::geteuid};

use super::{names, socket, users::Users};
use crate::error::JoinError;

/// How the sockets' file names end.
const SUFFIX: &str = ".sock";

/// The longest path that a socket address holds, in bytes: `sun_path` less its closing NUL.
const PATH_MAX: usize = 107;

/// Where the runtime directory is: `explicit`, else `$SHMBUS_DIR`, else `$XDG_RUNTIME_DIR/shmbus`,
/// else `/tmp/shmbus-<uid>`. Empty variables count as unset.
pub(crate) fn resolve(explicit: Option<&Path>) -> PathBuf {
    resolve_with(explicit, |variable| std::env::var_os(variable))
}

/// Whether somebody has said where it is.
fn is_given(explicit: Option<&Path>) -> bool {
    explicit.is_some() || std::env::var_os("SHMBUS_DIR").is_some_and(|value| !value.is_empty())
}

fn resolve_with(explicit: Option<&Path>, var: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    let set = |variable| var(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    explicit
        .map(Path::to_path_buf)
        .or_else(|| set("SHMBUS_DIR"))
        .or_else(|| Some(set("XDG_RUNTIME_DIR")?.join("shmbus")))
        .unwrap_or_else(|| format!("/tmp/shmbus-{}", geteuid()).into())
}

/// A node's name on a bus: its bound socket, until this is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    folder: PathBuf,
    path: PathBuf,
    /// Where our socket is changed and removed: `path`, or by way of `_opened`.
    at: PathBuf,
    /// The folder, where others may write: its path may name something else at any time.
    _opened: Option<File>,
    /// Device and inode of the socket that we bound: the path may name somebody else's by the time we leave.
    bound: (u64, u64),
    /// Whose sockets are of interest, where others may write: everybody could leave some. `None`: everybody's.
    known: Option<Vec<u32>>,
    /// Of the process that bound it: a forked child leaves it alone.
    pid: u32,
    /// Kept open until our path is removed: while it listens, nobody takes the name over, so
    /// looking at the path and removing it cannot be interleaved with a new owner.
    listening: OwnedFd,
}

impl Claim {
    /// Makes the directories, takes the name `node` on `bus`, and removes sockets of dead nodes.
    ///
    /// Blocks (file system, lock), but never longer than about `within`.
    ///
    /// # Errors
    /// [`JoinError::Name`], [`PathTooLong`](JoinError::PathTooLong) (both before anything is touched),
    /// [`DirUnsafe`](JoinError::DirUnsafe), [`Dir`](JoinError::Dir), [`NameTaken`](JoinError::NameTaken).
    pub(crate) fn take(
        dir: Option<&Path>,
        bus: &str,
        node: &str,
        within: Duration,
        users: &Users,
    ) -> Result<Self, JoinError> {
        names::check("bus", bus)?;
        names::check("node", node)?;
        let given = is_given(dir);
        let dir = resolve(dir);
        // A later change of the working directory must not make us remove something else on drop.
        let dir = std::path::absolute(&dir).map_err(failed(&dir, "find its absolute path"))?;
        let folder = dir.join(bus);
        let file_name = format!("{node}{SUFFIX}");
        let path = folder.join(&file_name);
        let len = path.as_os_str().as_bytes().len();
        if len > PATH_MAX {
            return Err(JoinError::PathTooLong {
                path,
                len,
                limit: PATH_MAX,
            });
        }

        let (guard, place) = if users.is_alone() {
            open_private(&dir)?;
            (open_private(&folder)?, folder.clone())
        } else {
            let opened = shared::open(&dir, bus, given, users)?;
            let place = socket::by_descriptor(&opened);
            (opened, place)
        };
        let guard = lock(&folder, guard, within)?;
        let at = place.join(&file_name);
        free(&folder, &path, &at, node)?;
        let listening = if users.is_alone() {
            socket::listen_at(&at)
        } else {
            shared::socket_mode(&guard).and_then(|mode| socket::listen_for_others_at(&at, mode))
        };
        let listening = listening.map_err(failed(&folder, "bind a socket in it"))?;
        let bound =
            fs::symlink_metadata(&at).map_err(failed(&folder, "look at the socket just bound in it"))?;
        let mut claim = Self {
            bound: (bound.dev(), bound.ino()),
            known: users.owners(),
            pid: std::process::id(),
            folder,
            path,
            at,
            _opened: None,
            listening,
        };
        claim.sweep();
        if users.is_alone() {
            drop(guard);
        } else {
            guard.unlock().map_err(failed(&claim.folder, "unlock it"))?;
            claim._opened = Some(guard);
        }
        Ok(claim)
    }

    /// Another descriptor of the listening socket, for [`Listener`](socket::Listener).
    ///
    /// # Errors
    /// At the limit of descriptors.
    pub(crate) fn listener(&self) -> io::Result<OwnedFd> {
        self.listening.try_clone()
    }

    /// Our socket's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The other nodes' names and sockets, sorted by name. Some may be dead by the time they are dialled.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub(crate) fn others(&self) -> io::Result<Vec<(String, PathBuf)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.at.parent().unwrap_or(&self.folder))? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(node) = name.to_str().and_then(|name| name.strip_suffix(SUFFIX)) else {
                continue;
            };
            // Links and ordinary files with this ending are none of ours: neither dialled nor removed.
            let is_socket = entry.file_type().is_ok_and(|kind| kind.is_socket());
            if let Some(known) = &self.known
                && !entry.metadata().is_ok_and(|found| known.contains(&found.uid()))
            {
                continue;
            }
            let path = self.folder.join(&name);
            if is_socket && names::check("node", node).is_ok() && path != self.path {
                found.push((node.to_owned(), path));
            }
        }
        found.sort();
        Ok(found)
    }

    /// Removes the sockets that refuse connections. Only under the lock: a socket between `bind` and
    /// `listen` refuses too. What cannot be removed is left to the next one who joins.
    fn sweep(&self) {
        let Ok(others) = self.others() else { return };
        for (node, path) in others {
            let path = self.at.with_file_name(path.file_name().unwrap_or_default());
            if matches!(probe(&path), Ok(Probed::Dead)) && fs::remove_file(&path).is_ok() {
                tracing::debug!(%node, "removed the socket of a dead node");
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let ours = || fs::symlink_metadata(&self.at).is_ok_and(|now| (now.dev(), now.ino()) == self.bound);
        if self.pid == std::process::id() && ours() {
            // A socket that stays behind is swept by whoever joins next.
            let _ = fs::remove_file(&self.at);
        }
    }
}

/// What answers at a socket's path.
enum Probed {
    /// A listener, of this process (0 if unknown).
    Alive(i32),
    /// A socket nobody listens on.
    Dead,
    /// Nothing is there.
    Absent,
    /// Something that is not a socket.
    Other,
}

/// Looks whether anybody listens at `path`, without waiting. The listener sees a connection that
/// closes without a word.
fn probe(path: &Path) -> io::Result<Probed> {
    // First, because connecting to an ordinary file is refused like connecting to a dead socket.
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return Ok(Probed::Other),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Probed::Absent),
        Err(error) => return Err(error),
    }
    match socket::connect_now(path) {
        Ok(fd) => Ok(Probed::Alive(socket::credentials(&fd)?.pid)),
        Err(error) => match error.kind() {
            ErrorKind::ConnectionRefused => Ok(Probed::Dead),
            ErrorKind::NotFound => Ok(Probed::Absent),
            // A full backlog is somebody's backlog.
            ErrorKind::WouldBlock => Ok(Probed::Alive(0)),
            // A node of another user that lets only its own in.
            ErrorKind::PermissionDenied => Ok(Probed::Alive(0)),
            _ => Err(error),
        },
    }
}

/// Makes sure that nothing is at `path`, by removing a dead node's socket if need be. `at` is how it is reached.
fn free(folder: &Path, path: &Path, at: &Path, node: &str) -> Result<(), JoinError> {
    match probe(at).map_err(failed(folder, "see whether the node name is taken"))? {
        Probed::Absent => Ok(()),
        Probed::Alive(pid) => Err(JoinError::NameTaken {
            name: node.to_owned(),
            pid,
            socket: path.to_path_buf(),
        }),
        Probed::Dead => match fs::remove_file(at) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(io::Error::new(
                error.kind(),
                format!(
                    "{} was left by another user, who alone can remove it (or root, or the folder's owner); \
                     join under another name",
                    path.display()
                ),
            )),
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
        .map_err(failed(folder, "remove the socket of a dead node in it")),
        Probed::Other => Err(failed(folder, "bind a socket in it")(io::Error::new(
            ErrorKind::AlreadyExists,
            format!("{} exists and is not a socket", path.display()),
        ))),
    }
}

/// Makes `dir` if it is missing and opens it, if nobody else can have written there.
fn open_private(dir: &Path) -> Result<File, JoinError> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(failed(dir, "create it")(error));
        }
        _ => {}
    }
    let unsafe_as = |problem: String| JoinError::DirUnsafe {
        dir: dir.to_path_buf(),
        problem,
    };
    let opened = open_dir(dir, dir)?;
    let found = opened.metadata().map_err(failed(dir, "look at it"))?;
    let us = geteuid().as_raw();
    if found.uid() != us {
        return Err(unsafe_as(format!(
            "belongs to uid {}, not to uid {us} of this process",
            found.uid()
        )));
    }
    if found.mode() & 0o022 != 0 {
        return Err(unsafe_as(format!(
            "may be written by others (mode {:04o}, should be 0700)",
            found.mode() & 0o7777
        )));
    }
    Ok(opened)
}

/// Opens a directory that is no link; `dir` is its name for errors.
fn open_dir(at: &Path, dir: &Path) -> Result<File, JoinError> {
    // Opened first and looked at through the descriptor, so that what is checked is what is used.
    // O_DIRECTORY answers for a link as well, and before O_NOFOLLOW.
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    let opened = OpenOptions::new().read(true).custom_flags(flags.bits()).open(at);
    opened.map_err(|error| {
        let unsafe_as = |problem: &str| JoinError::DirUnsafe {
            dir: dir.to_path_buf(),
            problem: problem.to_owned(),
        };
        match fs::symlink_metadata(at) {
            Ok(found) if found.is_symlink() => unsafe_as("is a symbolic link"),
            Ok(found) if !found.is_dir() => unsafe_as("is not a directory"),
            _ => failed(dir, "open it")(error),
        }
    })
}

/// Locks the opened folder for this process alone; dropping the file unlocks it.
fn lock(folder: &Path, file: File, within: Duration) -> Result<File, JoinError> {
    let deadline = Instant::now() + within;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(1))
            }
            Err(TryLockError::WouldBlock) => {
                let waited = format!("another process held the lock for {within:?}");
                return Err(failed(folder, "lock it")(io::Error::new(
                    ErrorKind::TimedOut,
                    waited,
                )));
            }
            Err(TryLockError::Error(error)) => return Err(failed(folder, "lock it")(error)),
        }
    }
}

fn failed(dir: &Path, action: &'static str) -> impl FnOnce(io::Error) -> JoinError {
    move |source| JoinError::Dir {
        dir: dir.to_path_buf(),
        action,
        source: match source.kind() {
            kind @ (ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
                let what = format!("{source}; limit: space, inodes (`df -i`) or quota of its file system");
                io::Error::new(kind, what)
            }
            _ => source,
        },
    }
}

mod shared;
#[cfg(test)]
mod tests;
