//! Meeting other nodes: a session begins and ends, and who is who.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use super::Node;
use super::dialling::dial;
use crate::{
    session::{handshake, peer::Session, socket::Socket},
    shm::sync::lock,
};

/// How long to wait before a peer is dialled again, at first.
pub(super) const AGAIN: Duration = Duration::from_millis(500);

impl Node {
    /// Dials everybody and waits until each has told its names, failed, or taken too long.
    pub(super) async fn meet(self: &Arc<Self>, others: Vec<(String, PathBuf)>) {
        let dials: Vec<_> = others
            .into_iter()
            .map(|(name, path)| {
                let (done, met) = tokio::sync::oneshot::channel::<()>();
                self.spawn(dial(
                    Arc::downgrade(self),
                    name,
                    path,
                    self.closing.subscribe(),
                    done,
                ));
                met
            })
            .collect();
        let all = async {
            for met in dials {
                let _ = met.await;
            }
        };
        let _ = tokio::time::timeout(self.config.handshake_deadline, all).await;
    }

    /// Begins the session with a peer that has been met. `None`: there is one already.
    pub(super) fn begin(self: &Arc<Self>, socket: Socket, peer: handshake::Peer) -> Option<Arc<Session>> {
        let session = Session::new(self, socket, self.known_as(peer), false);
        {
            // Under the registry's lock, so that each name is in the snapshot or announced after it.
            let registry = lock(&self.registry);
            match self.sessions.entry(session.peer.id) {
                dashmap::Entry::Occupied(_) => return None,
                dashmap::Entry::Vacant(place) => place.insert(session.clone()),
            };
            for frame in lock(&self.catalog).own_frames() {
                session.announce_topics(&frame);
            }
            session.introduce(registry.own());
        }
        tracing::debug!(peer = %session.peer.name, pid = session.peer.pid, uid = session.peer.uid,
            features = session.peer.features, "session begins");
        self.spawn(session.clone().run(self.closing.subscribe()));
        self.touch();
        Some(session)
    }

    /// A session has ended, and nothing of it is left here: now the peer may begin another.
    pub(crate) fn ended(self: &Arc<Self>, session: &Arc<Session>) {
        if session.is_self {
            return self.own_ended(session);
        }
        self.sessions
            .remove_if(&session.peer.id, |_, current| Arc::ptr_eq(current, session));
        tracing::debug!(peer = %session.peer.name, reason = session.reason(), "session ended");
        if session.ended_short() && !self.is_closed() {
            self.meet_again(&session.peer.name);
        }
        self.touch();
    }

    /// Dials a live peer whose session has ended at a limit of this process: nobody else would, until one of them joins
    /// again. After a pause, since the limit may still be there when its next message comes.
    pub(super) fn meet_again(self: &Arc<Self>, peer: &str) {
        // Of another user, it is known here as `name@uid`.
        let name = peer.split_once('@').map_or(peer, |(name, _)| name).to_owned();
        // Not looked up in the folder: that takes a descriptor, which may be what is lacking.
        let path = self.socket.with_file_name(format!("{name}.sock"));
        let (node, mut closing) = (Arc::downgrade(self), self.closing.subscribe());
        self.spawn(async move {
            tokio::select! {
                _ = closing.wait_for(|closing| *closing) => return,
                () = tokio::time::sleep(AGAIN) => {}
            }
            {
                let Some(this) = node.upgrade() else { return };
                if this.knows(&name, &path) {
                    return;
                }
                lock(&this.dialling).insert(name.clone());
            }
            dial(node, name, path, closing, tokio::sync::oneshot::channel().0).await;
        });
    }

    /// The id a peer has here. The one it gives itself may be that of a node of our own user, which it would keep out.
    pub(super) fn id_of(&self, peer: &handshake::Peer) -> u64 {
        if peer.uid == self.me.uid {
            return peer.id;
        }
        let mut hasher = DefaultHasher::new();
        (peer.id, peer.uid, self.me.id).hash(&mut hasher);
        hasher.finish()
    }

    /// A peer as this node calls it: of another user, its name says so.
    pub(super) fn known_as(&self, peer: handshake::Peer) -> handshake::Peer {
        if peer.uid == self.me.uid {
            return peer;
        }
        handshake::Peer {
            id: self.id_of(&peer),
            name: self.name_of(&peer),
            ..peer
        }
    }

    pub(super) fn name_of(&self, peer: &handshake::Peer) -> String {
        if peer.uid == self.me.uid {
            peer.name.clone()
        } else {
            format!("{}@{}", peer.name, peer.uid)
        }
    }
}
