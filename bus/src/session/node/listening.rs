//! Nodes that dial us: handshakes beside each other, and who gets a session.

use std::sync::{Arc, Weak};

use tokio::sync::watch;

use super::Node;
use crate::{
    session::{
        handshake::{self, HandshakeError},
        hello::{Code, Verdict},
        socket::{Listener, Socket},
    },
    shm::sync::lock,
};

/// Accepts, until the node closes. Handshakes run beside each other, at most so many.
pub(super) async fn listen(node: Weak<Node>, listener: Listener, mut closing: watch::Receiver<bool>) {
    let Some(limit) = node.upgrade().map(|node| node.config.handshakes) else {
        return;
    };
    let running = Arc::new(tokio::sync::Semaphore::new(limit));
    loop {
        let next = async {
            let place = running.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => return,
            next = next => next,
        };
        let Some(this) = node.upgrade() else { return };
        match accepted {
            Ok(socket) => {
                let task = welcome(node.clone(), socket, this.closing.subscribe());
                this.spawn(async move {
                    task.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::error!(%error, "this node accepts no more peers");
                return;
            }
        }
    }
}

pub(super) async fn welcome(node: Weak<Node>, socket: Socket, mut closing: watch::Receiver<bool>) {
    let Some((me, within)) = node
        .upgrade()
        .map(|n| (n.me.clone(), n.config.handshake_deadline))
    else {
        return;
    };
    let Some(pending) = Pending::begin(&node, &socket) else {
        return;
    };
    let mut welcomed = None;
    let met = {
        let decide = |peer: &handshake::Peer| {
            let Some(node) = node.upgrade() else {
                return Verdict::refuse(Code::Shutdown, "leaving");
            };
            let verdict = node.decide(peer);
            if verdict == Verdict::Welcome {
                welcomed = Some((node.name_of(peer), peer.uid));
            }
            verdict
        };
        tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => return,
            met = handshake::accept(&socket, &me, within, decide) => met,
        }
    };
    drop(pending);
    let Some(node) = node.upgrade() else { return };
    match met {
        Ok(Some(peer)) => {
            node.begin(socket, peer);
        }
        // A probe.
        Ok(None) => {}
        Err(error) => {
            if !matches!(
                error,
                HandshakeError::Declined {
                    code: Code::Duplicate,
                    ..
                }
            ) {
                node.counters.handshakes_refused.add(1);
                tracing::warn!(%error, "no session with a peer that connected");
            }
        }
    }
    if let Some(welcomed) = welcomed {
        let mut accepting = lock(&node.accepting);
        if let Some(at) = accepting.iter().position(|known| *known == welcomed) {
            accepting.swap_remove(at);
        }
    }
}

/// A handshake that a peer has begun; of another user's so many at a time.
struct Pending {
    node: Weak<Node>,
    /// `None`: our own.
    uid: Option<u32>,
}

impl Pending {
    pub(super) fn begin(node: &Weak<Node>, socket: &Socket) -> Option<Self> {
        let this = node.upgrade()?;
        let uid = socket.credentials().ok()?.uid;
        let node = node.clone();
        if uid == this.me.uid {
            return Some(Self { node, uid: None });
        }
        let limit = (this.config.handshakes / 4).max(1);
        let mut pending = lock(&this.pending);
        let count = pending.entry(uid).or_default();
        if *count < limit {
            *count += 1;
            return Some(Self { node, uid: Some(uid) });
        }
        drop(pending);
        this.counters.handshakes_refused.add(1);
        let why = format!("uid {uid} has {limit} handshakes under way (a quarter of `Config::handshakes`)");
        let _ = socket.try_send(&Verdict::refuse(Code::Full, &why).encode(), &[]);
        None
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let (Some(node), Some(uid)) = (self.node.upgrade(), self.uid) else {
            return;
        };
        let mut pending = lock(&node.pending);
        if let Some(count) = pending.get_mut(&uid) {
            *count -= 1;
            if *count == 0 {
                pending.remove(&uid);
            }
        }
    }
}

impl Node {
    /// Whether a peer that fits gets a session. Of two nodes that dial each other, the lower id's dial wins.
    pub(super) fn decide(&self, peer: &handshake::Peer) -> Verdict {
        let dialling = lock(&self.dialling);
        let mut accepting = lock(&self.accepting);
        if self.is_closed() {
            Verdict::refuse(Code::Shutdown, "the node is leaving")
        } else if self.sessions.contains_key(&self.id_of(peer)) {
            Verdict::refuse(Code::Duplicate, "there is a session already")
        } else if self.me.id < peer.id && dialling.contains(&peer.name) {
            Verdict::refuse(Code::Duplicate, "this node dials itself, and has the lower id")
        } else if self.sessions.len() + accepting.len() >= self.config.peers {
            Verdict::refuse(
                Code::Full,
                "the node has as many peers as it may (`Config::peers`)",
            )
        } else if peer.uid != self.me.uid
            && self
                .sessions
                .iter()
                .map(|known| known.peer.uid)
                .chain(accepting.iter().map(|(_, uid)| *uid))
                .filter(|uid| *uid == peer.uid)
                .count()
                >= self.config.user_peers
        {
            Verdict::refuse(
                Code::Full,
                "the node has as many peers of this user as it may (`Config::user_peers`)",
            )
        } else {
            accepting.push((self.name_of(peer), peer.uid));
            Verdict::Welcome
        }
    }
}
