//! The session of a node with itself, by the same code as all others.

use std::sync::Arc;

use super::{Node, meeting::AGAIN};
use crate::{
    error::ResourceError,
    session::{handshake, peer::Session, socket::Socket},
    shm::sync::lock,
};

/// Both ends of it.
#[derive(Debug)]
pub(super) struct Own {
    /// The end that asks and publishes.
    calling: Arc<Session>,
    answering: Arc<Session>,
    /// Ends that are over.
    over: u8,
}

impl Node {
    /// The session with itself, begun if there is none. One that is ending is lost like any other.
    pub(crate) fn own_session(self: &Arc<Self>) -> Result<Arc<Session>, ResourceError> {
        let mut own = lock(&self.own);
        if let Some(own) = &*own {
            return Ok(own.calling.clone());
        }
        let (a, b) = Socket::pair().map_err(|source| ResourceError {
            action: "make a socket pair".into(),
            limit: "RLIMIT_NOFILE (`ulimit -n`)",
            source,
        })?;
        let peer = handshake::Peer {
            id: self.me.id,
            name: self.config.node.clone(),
            pid: std::process::id() as i32,
            uid: self.me.uid,
            gid: nix::unistd::getegid().as_raw(),
            features: self.me.features,
        };
        let [calling, answering] = [a, b].map(|socket| Session::new(self, socket, peer.clone(), true));
        for end in [&calling, &answering] {
            self.spawn(end.clone().run(self.closing.subscribe()));
        }
        *own = Some(Own {
            calling: calling.clone(),
            answering,
            over: 0,
        });
        Ok(calling)
    }

    pub(crate) fn own_session_now(&self) -> Option<Arc<Session>> {
        lock(&self.own).as_ref().map(|own| own.calling.clone())
    }

    /// Both ends: what this node answers itself is sent on the other one.
    pub(super) fn own_ends(&self) -> Vec<Arc<Session>> {
        let own = lock(&self.own);
        let ends = own.iter().flat_map(|own| [&own.calling, &own.answering]);
        ends.cloned().collect()
    }

    /// One end is over. When both are, and nothing of them is left, another session may begin; as with other peers, it does
    /// so after a pause, and brings the topics of this node together with its own subscriptions.
    pub(super) fn own_ended(self: &Arc<Self>, end: &Session) {
        {
            let mut own = lock(&self.own);
            if let Some(own) = &mut *own {
                own.over += 1;
            }
            if own.as_ref().is_none_or(|own| own.over < 2) {
                return;
            }
            *own = None;
        }
        if self.is_closed() {
            return;
        }
        tracing::warn!(node = %self.config.node, reason = end.reason(),
            "the session of this node with itself has ended, and begins again");
        let (node, mut closing) = (Arc::downgrade(self), self.closing.subscribe());
        self.spawn(async move {
            loop {
                tokio::select! {
                    _ = closing.wait_for(|closing| *closing) => return,
                    () = tokio::time::sleep(AGAIN) => {}
                }
                let Some(node) = node.upgrade() else { return };
                match node.own_session() {
                    Ok(session) => return node.attach_own(&session).await,
                    Err(error) => {
                        tracing::warn!(%error, "the session of this node with itself does not begin again")
                    }
                }
            }
        });
    }

    /// Brings the topics of this node together with its own subscriptions.
    async fn attach_own(self: &Arc<Self>, session: &Arc<Session>) {
        for (topic, wanted) in self.own_pairs() {
            self.attach(&topic, session, &wanted).await;
        }
    }
}
