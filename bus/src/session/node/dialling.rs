//! Dialling other nodes, and again while they do not answer.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Weak,
    time::Duration,
};

use tokio::sync::watch;

use super::Node;
use super::meeting::AGAIN;
use crate::{
    session::{
        handshake::{self, HandshakeError},
        hello::Code,
        socket::Socket,
    },
    shm::sync::lock,
};

/// Meets one node; retries while that node is there but does not answer. `done` is dropped at the first
/// outcome.
pub(super) async fn dial(
    node: Weak<Node>,
    name: String,
    path: PathBuf,
    mut closing: watch::Receiver<bool>,
    done: tokio::sync::oneshot::Sender<()>,
) {
    let mut done = Some(done);
    let mut pause = AGAIN;
    loop {
        let attempt = attempt(&node, &name, &path);
        let again = tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => return,
            again = attempt => again,
        };
        drop(done.take());
        if let Some(node) = node.upgrade() {
            lock(&node.dialling).remove(&name);
        }
        if !again {
            return;
        }
        // The node is stopped or overloaded: nothing tells when it is back, so it is asked now and then.
        tokio::select! {
            _ = closing.wait_for(|closing| *closing) => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(Duration::from_secs(30));
        let Some(node) = node.upgrade() else { return };
        if node.knows(&name, &path) {
            return;
        }
        lock(&node.dialling).insert(name.clone());
    }
}

impl Node {
    pub(super) fn knows(&self, node: &str, path: &Path) -> bool {
        let owner = owner_of(path);
        if self.sessions.iter().any(|session| session.is_node(node, owner)) {
            return true;
        }
        let name = match owner.filter(|owner| *owner != self.me.uid) {
            Some(owner) => format!("{node}@{owner}"),
            None => node.to_owned(),
        };
        lock(&self.accepting).iter().any(|(known, _)| *known == name)
    }
}

/// One dial. Returns whether another one later may succeed where this did not.
pub(super) async fn attempt(node: &Weak<Node>, name: &str, path: &Path) -> bool {
    let Some((me, within)) = node
        .upgrade()
        .map(|n| (n.me.clone(), n.config.handshake_deadline))
    else {
        return false;
    };
    let outcome = match Socket::connect(path, within).await {
        Ok(socket) => handshake::dial(&socket, &me, within)
            .await
            .map(|peer| (socket, peer)),
        // Nobody listens there any more; the next join sweeps it.
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::ConnectionRefused
                    | std::io::ErrorKind::NotFound
                    // Of another user, for its own only.
                    | std::io::ErrorKind::PermissionDenied
            ) =>
        {
            return false;
        }
        Err(error) => Err(HandshakeError::Socket(error)),
    };
    let Some(this) = node.upgrade() else { return false };
    match outcome {
        Ok((socket, peer)) => {
            let id = this.id_of(&peer);
            // If there is one already, which it began, that one is as good.
            let session = this
                .begin(socket, peer)
                .or_else(|| Some(this.sessions.get(&id)?.clone()));
            drop(this);
            if let Some(session) = session {
                let mut introduced = session.introduced.subscribe();
                let _ = tokio::time::timeout(within, introduced.wait_for(|done| *done)).await;
            }
            false
        }
        // It dials us: that session is as good.
        Err(HandshakeError::Refused {
            code: Code::Duplicate,
            ..
        }) => {
            let mut changed = this.changed.subscribe();
            drop(this);
            let owner = owner_of(path);
            let met = async {
                loop {
                    let Some(this) = node.upgrade() else { return };
                    let session = this
                        .sessions
                        .iter()
                        .find(|s| s.is_node(name, owner))
                        .map(|s| s.clone());
                    drop(this);
                    if let Some(session) = session {
                        let _ = session.introduced.subscribe().wait_for(|done| *done).await;
                        return;
                    }
                    if changed.changed().await.is_err() {
                        return;
                    }
                }
            };
            tokio::time::timeout(within, met).await.is_err()
        }
        Err(error) => {
            this.counters.handshakes_refused.add(1);
            tracing::warn!(peer = %name, %error, "no session with a node of this bus");
            matches!(
                error,
                HandshakeError::Timeout { .. }
                    | HandshakeError::Socket(_)
                    | HandshakeError::HungUp
                    // By a bound of its, which it may have room in later.
                    | HandshakeError::Refused { code: Code::Full, .. }
            )
        }
    }
}

/// Whose a node's socket is, if it is there.
pub(super) fn owner_of(socket: &Path) -> Option<u32> {
    std::fs::symlink_metadata(socket).ok().map(|found| found.uid())
}
