//! What a control frame of the peer does here.

use std::{os::fd::OwnedFd, sync::Arc};

use super::Session;
use crate::{
    session::{frame::Frame, opening::LinkOffer},
    shm::{faults::fault, sync::lock},
};

impl Session {
    pub(crate) fn receive(self: &Arc<Self>, bytes: &[u8], fds: Vec<OwnedFd>) {
        let frame = match Frame::decode(bytes, fds.len()) {
            Ok(frame) => frame,
            Err(error) => {
                self.counters.violations.add(1);
                return self.close(format!("protocol violation: {error}"));
            }
        };
        let Some(node) = self.node.upgrade() else {
            return self.close("this node leaves");
        };
        match frame {
            Frame::Names { bound, more } => {
                node.heard(self, bound);
                if !more {
                    self.introduced.send_replace(true);
                }
            }
            Frame::Bound(binding) => node.heard(self, vec![binding]),
            Frame::Unbound { name, port, mailbox } => {
                node.forgot(self, &name, port, mailbox);
                self.stop_routes(port, mailbox);
            }
            Frame::Describe { request, name, kind } => {
                let told = self
                    .rights
                    .as_ref()
                    .is_none_or(|rights| rights.may_ask_about(&name));
                let (schema, reply) = if told {
                    node.describe(&name, &kind)
                } else {
                    (None, None)
                };
                self.send(
                    &Frame::Described {
                        request,
                        schema,
                        reply,
                    },
                    &[],
                );
            }
            Frame::Described {
                request,
                schema,
                reply,
            } => {
                if let Some(asker) = lock(&self.links).questions.remove(&request) {
                    let _ = asker.send((schema, reply));
                }
            }
            Frame::Link {
                link,
                from_port: _,
                to_port,
                ring_slots,
                returns,
                bytes,
            } => {
                let offer = LinkOffer::import(link, ring_slots, returns, bytes, fds, self.is_foreign());
                self.accept_link(&node, to_port, link, offer);
            }
            Frame::Linked {
                link,
                peer_link,
                ring_slots,
                returns,
                bytes,
            } => {
                let offer = LinkOffer::import(link, ring_slots, returns, bytes, fds, self.is_foreign());
                match &offer {
                    // A limit of this process: the peer's half goes, the session and its other links live on.
                    Err(error) if error.kind() != std::io::ErrorKind::InvalidData => {
                        self.unlink(peer_link);
                    }
                    Err(error) => self.refused(format_args!("link {link}"), error),
                    Ok(_) => {}
                }
                if let Some(opener) = lock(&self.links).offers.remove(&peer_link) {
                    let _ = opener.send(offer.map_err(|error| error.to_string()));
                }
            }
            Frame::LinkRefused { link, reason } => {
                fault!(RefusalHeard);
                if let Some(opener) = lock(&self.links).offers.remove(&link) {
                    let _ = opener.send(Err(reason));
                }
            }
            Frame::Unlink { link } => {
                fault!(UnlinkHeard);
                self.drop_link(|(_, _, theirs)| *theirs == link);
                fault!(UnlinkDone);
            }
            Frame::Segment { id, bytes } => {
                for fd in fds {
                    match self.memory.import(&fd, bytes) {
                        Ok(mapping) => match self.memory.add(id, mapping) {
                            Ok(()) => self.poke_ports(),
                            Err(violation) => self.violated(violation),
                        },
                        Err(error) => self.refused(format_args!("segment {id}"), &error),
                    }
                }
            }
            Frame::Topic(topic) => node.heard_topic(self, topic),
            Frame::Subscribe(wanted) => node.heard_subscription(self, wanted),
            Frame::Unsubscribe { port, mailbox } => node.forgot_subscription(self, port, mailbox),
            Frame::Attached {
                port,
                mailbox,
                topic,
                link,
                route,
            } => {
                node.attached(self, port, mailbox, topic, link, route);
            }
            Frame::Untopic { id } => node.forgot_topic(self, id),
            Frame::Heard(what) => match self.unheard.remove(what) {
                Ok(()) => node.touch(),
                Err(violation) => self.violated(violation),
            },
            Frame::Denied { what, names } => node.heard_denial(self, what, names),
            Frame::Bye { reason } => {
                tracing::debug!(peer = %self.peer.name, %reason, "peer leaves");
                self.hung_up(format!("the peer ended it: {reason}"));
            }
        }
    }
}
