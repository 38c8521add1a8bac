//! Setting up a link: each end makes a segment, sends it to the other, and maps the other's.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use tokio::sync::{OnceCell, oneshot};

use super::{
    frame::Frame,
    host::SessionHost,
    link::{Link, LinkPieces},
    node::Node,
    peer::Session,
    port::{Port, Receiving, most_asks},
};
use crate::{
    error::ResourceError,
    shm::{
        bell::Bell,
        cells::Cells,
        doorbell::{Parker, Ringer},
        faults::fault,
        inbound::Inbound,
        returns::{ReturnReader, ReturnWriter},
        ring::{Consumer, Producer},
        room::Room,
        segment::{LinkParts, Segment, import_bell},
        sync::{AtomicU64, lock},
    },
};

/// Why a link was not set up.
#[derive(Debug)]
pub(crate) enum OpenError {
    PeerLost,
    Refused(String),
    Resource(ResourceError),
}

/// The other end's half of a link, checked and mapped.
#[derive(Debug)]
pub(crate) struct LinkOffer {
    /// The peer's number for the link.
    link: u32,
    parts: LinkParts,
    word: Cells<AtomicU64>,
    bell: Bell,
}

impl LinkOffer {
    pub(crate) fn import(
        link: u32,
        ring_slots: u32,
        returns: u32,
        bytes: u64,
        fds: Vec<OwnedFd>,
        foreign: bool,
    ) -> io::Result<Self> {
        let [segment, word, bell] = <[OwnedFd; 3]>::try_from(fds)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a link comes with three descriptors"))?;
        Ok(Self {
            link,
            parts: LinkParts::import(&segment, bytes, ring_slots, returns)?,
            word: import_bell(&word)?,
            bell: if foreign {
                Bell::import_of_another_user(bell)?
            } else {
                Bell::import(bell)?
            },
        })
    }
}

/// This end's half.
struct Half {
    id: u32,
    segment: Arc<Segment>,
    parts: LinkParts,
}

impl Half {
    fn create(node: &Node) -> Result<Self, ResourceError> {
        let (segment, parts) = LinkParts::create(node.config.ring_slots, node.config.returns)?;
        Ok(Self {
            id: node.next_link(),
            segment,
            parts,
        })
    }
}

impl Session {
    fn send_half(&self, frame: &Frame, half: &Half, port: &Port, bell: &Bell) {
        self.send(frame, &[half.segment.fd(), port.segment().fd(), bell.as_fd()]);
    }

    /// Puts both halves together and begins to receive.
    fn join_halves(
        self: &Arc<Self>,
        half: Half,
        offer: LinkOffer,
        port: &Arc<Port>,
        asking: bool,
    ) -> Arc<Link> {
        let (own, peer) = (half.parts, offer.parts);
        let receiving_limit = own.returns.len() as u32;
        // A reply takes up to two slots of the answering end's ring, and its buffer an entry of our return ring.
        let asks = if asking {
            most_asks(peer.slots.len() as u32).min(receiving_limit)
        } else {
            receiving_limit
        };
        let room = Arc::new(Room::new(asks));
        let inbound = Inbound::new(
            ReturnWriter::new(own.returns),
            self.memory.clone(),
            Ringer::new(peer.waiting),
            offer.bell.clone(),
            self.message_limit,
            room.clone(),
            SessionHost::new(self, half.id),
        );
        let peer_slots = peer.slots.len() as u32;
        let link = Link::new(LinkPieces {
            id: half.id,
            asking,
            session: self.clone(),
            inbound,
            room,
            producer: Producer::new(own.slots, peer.head),
            sending_limit: peer.returns.len() as u32,
            returns: ReturnReader::new(peer.returns),
            receiving_limit,
            waiting: Parker::new(own.waiting),
            pool: self.pool.clone(),
            ringer: Ringer::new(offer.word),
            bell: offer.bell,
            losses: own.losses,
            peer_losses: peer.losses,
        });
        let ended = {
            let mut links = lock(&self.links);
            links
                .by_id
                .insert(link.id, (link.clone(), port.clone(), offer.link));
            links.ended
        };
        port.add_link(Receiving::new(
            link.clone(),
            Consumer::new(peer.slots, own.head),
            peer_slots,
        ));
        if ended {
            self.drop_link(|(ours, ..)| ours.id == link.id);
        }
        link
    }

    /// The peer wants to ask something of a port of ours.
    pub(crate) fn accept_link(
        self: &Arc<Self>,
        node: &Node,
        to_port: u32,
        link: u32,
        offer: io::Result<LinkOffer>,
    ) {
        let offer = match offer {
            Ok(offer) => offer,
            // A limit of this process: the peer is told which, and the session and its other links live on.
            Err(error) if error.kind() != io::ErrorKind::InvalidData => {
                return self.refuse_link(link, &error.to_string());
            }
            Err(error) => return self.refused(format_args!("link {link}"), &error),
        };
        fault!(LinkHeard);
        if self.rights.as_ref().is_some_and(|rights| !rights.may_send()) {
            self.counters.denied.add(1);
            let reason = "its `Config::permit` lets this user neither call nor publish anything";
            return self.refuse_link(link, reason);
        }
        // One link per pair of ports is all that a peer can use; this bounds what it can make us map.
        let limit = node.config.peer_links;
        if lock(&self.links).by_id.len() >= limit {
            let reason = format!("one peer may have {limit} links there (`Config::peer_links`)");
            return self.refuse_link(link, &reason);
        }
        let Some(port) = node.port(to_port) else {
            return self.refuse_link(link, "the port is closed");
        };
        let made = Half::create(node).and_then(|half| Ok((half, self.bell_of(node, &port)?)));
        let (half, bell) = match made {
            Ok(made) => made,
            Err(error) => return self.refuse_link(link, &error.to_string()),
        };
        let frame = Frame::Linked {
            link: half.id,
            peer_link: link,
            ring_slots: node.config.ring_slots,
            returns: node.config.returns,
            bytes: half.segment.bytes() as u64,
        };
        let descriptors = (half.segment.clone(), port.segment().clone());
        self.join_halves(half, offer, &port, false);
        fault!(LinkAnswer);
        self.send(&frame, &[descriptors.0.fd(), descriptors.1.fd(), bell.as_fd()]);
        fault!(LinkAnswered);
    }

    fn refuse_link(&self, link: u32, reason: &str) {
        fault!(LinkRefusing);
        self.send(&Frame::link_refused(link, reason), &[]);
        fault!(LinkRefused);
    }

    /// Tells the peer that nobody here uses this link any more.
    pub(super) fn unlink(&self, link: u32) {
        fault!(Unlinking);
        self.send(&Frame::Unlink { link }, &[]);
        fault!(Unlinked);
    }

    /// The link from `port` to a port of the peer; set up at the first call.
    pub(crate) async fn link(
        self: &Arc<Self>,
        node: &Arc<Node>,
        port: &Arc<Port>,
        to_port: u32,
    ) -> Result<Arc<Link>, OpenError> {
        let cell: Arc<OnceCell<Arc<Link>>> = {
            let mut links = lock(&self.links);
            if links.ended {
                return Err(OpenError::PeerLost);
            }
            // Ports are what the peer says they are: who subscribes with ever new ones gets no more links than who asks.
            let known = links.asked.contains_key(&(port.id, to_port));
            let limit = node.config.peer_links;
            if !known && links.asked.len() >= limit {
                let reason =
                    format!("no more than {limit} links to one peer are opened here (`Config::peer_links`)");
                return Err(OpenError::Refused(reason));
            }
            links.asked.entry((port.id, to_port)).or_default().clone()
        };
        cell.get_or_try_init(|| self.open_link(node, port, to_port))
            .await
            .cloned()
    }

    async fn open_link(
        self: &Arc<Self>,
        node: &Arc<Node>,
        port: &Arc<Port>,
        to_port: u32,
    ) -> Result<Arc<Link>, OpenError> {
        let half = Half::create(node).map_err(OpenError::Resource)?;
        let bell = self.bell_of(node, port).map_err(OpenError::Resource)?;
        let (answer, answered) = oneshot::channel();
        {
            let mut links = lock(&self.links);
            if links.ended {
                return Err(OpenError::PeerLost);
            }
            links.offers.insert(half.id, answer);
        }
        let frame = Frame::Link {
            link: half.id,
            from_port: port.id,
            to_port,
            ring_slots: node.config.ring_slots,
            returns: node.config.returns,
            bytes: half.segment.bytes() as u64,
        };
        fault!(LinkOffer);
        self.send_half(&frame, &half, port, &bell);
        fault!(LinkOffered);
        // Given up half-way, the peer's end is told that nobody uses it.
        let mut abandoned = Abandoned {
            session: self,
            link: half.id,
            done: false,
        };
        let answer = answered.await;
        abandoned.done = true;
        match answer {
            Ok(Ok(offer)) => {
                fault!(LinkJoining);
                let link = self.join_halves(half, offer, port, true);
                fault!(LinkJoined);
                Ok(link)
            }
            Ok(Err(reason)) => {
                fault!(RefusalTold);
                Err(OpenError::Refused(reason))
            }
            Err(_) => Err(OpenError::PeerLost),
        }
    }
}

struct Abandoned<'a> {
    session: &'a Session,
    link: u32,
    done: bool,
}

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        if !self.done {
            lock(&self.session.links).offers.remove(&self.link);
            self.session.unlink(self.link);
        }
    }
}
