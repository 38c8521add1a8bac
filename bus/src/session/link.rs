//! A link: two ports of two nodes, joined by one ring each way.
//!
//! The *asking* end (whose node opened an address) sends tells and asks and gets replies; the *answering*
//! end sends replies only, so a reply always has room: an ask is sent only while the answering end's ring has slots for the
//! replies to all that are open ([`most_asks`](super::port::most_asks)). Here is the sending half of either end.

mod books;
mod groups;
pub(crate) mod left;
mod returns;
mod routes;
mod send;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::Notify;

use self::books::{Sending, Tokens};
pub(crate) use self::{books::SentBuffer, groups::Unhandled, send::Request};
use super::peer::Session;
use crate::{
    error::Bound,
    shm::{
        bell::Bell,
        cells::Cells,
        descriptor::Inline,
        doorbell::{Parker, Ringer},
        inbound::Inbound,
        pool::{Buffer, Pool},
        returns::ReturnReader,
        ring::Producer,
        room::Room,
        sync::{AtomicU64, lock},
    },
};

/// Why nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoSend {
    Full(Bound),
    /// The peer, or this end's port, is gone.
    Lost,
    /// The mailbox was unbound.
    Stopped,
}

/// An archived message on its way out.
#[derive(Debug)]
pub(crate) enum Parcel {
    Inline(Inline),
    Buffer(Buffer, usize),
}

/// The route of a reply's buffer: no window counts it.
const NO_ROUTE: u16 = u16::MAX;
/// The route of a batch's buffer, which no window counts either: the messages in it are counted, and released, one by one.
const BATCH_ROUTE: u16 = NO_ROUTE - 1;

/// One end of a link.
#[derive(Debug)]
pub(crate) struct Link {
    /// This node's number for it.
    pub(crate) id: u32,
    /// Whether this end asks (and the other answers).
    pub(crate) asking: bool,
    pub(crate) session: Arc<Session>,
    pub(crate) inbound: Arc<Inbound>,
    pub(crate) room: Arc<Room>,
    /// Most messages of the peer that may be unreleased here: the entries of our return ring.
    pub(crate) receiving_limit: u32,
    sending: Mutex<Sending>,
    pool: Arc<Pool>,
    ringer: Ringer,
    bell: Bell,
    /// Our loss counters, by route.
    losses: Cells<AtomicU64>,
    /// The peer's.
    pub(crate) peer_losses: Cells<AtomicU64>,
    /// To be woken when something comes back unhandled: the topics with groups on this link.
    groups: Mutex<Vec<Weak<Notify>>>,
    lost: AtomicBool,
    /// The peer holds segments of large messages. They are freed when it releases them, and not when something is
    /// sent next.
    lends_segments: AtomicBool,
}

/// The pieces of a new link.
pub(crate) struct LinkPieces {
    pub(crate) id: u32,
    pub(crate) asking: bool,
    pub(crate) session: Arc<Session>,
    pub(crate) inbound: Arc<Inbound>,
    pub(crate) room: Arc<Room>,
    pub(crate) producer: Producer,
    pub(crate) returns: ReturnReader,
    /// Entries of the peer's return ring.
    pub(crate) sending_limit: u32,
    /// Entries of our return ring.
    pub(crate) receiving_limit: u32,
    pub(crate) waiting: Parker,
    pub(crate) pool: Arc<Pool>,
    pub(crate) ringer: Ringer,
    pub(crate) bell: Bell,
    pub(crate) losses: Cells<AtomicU64>,
    pub(crate) peer_losses: Cells<AtomicU64>,
}

impl Link {
    pub(crate) fn new(pieces: LinkPieces) -> Arc<Self> {
        let LinkPieces {
            id,
            asking,
            session,
            inbound,
            room,
            producer,
            returns,
            ..
        } = pieces;
        let share = session.budget.share();
        Arc::new(Self {
            id,
            asking,
            session,
            inbound,
            room,
            receiving_limit: pieces.receiving_limit,
            sending: Mutex::new(Sending {
                producer,
                returns,
                tokens: Tokens::default(),
                share,
                windows: Vec::new(),
                by_mailbox: HashMap::new(),
                unreturned: 0,
                returns_limit: pieces.sending_limit,
                waiting: pieces.waiting,
                since_collect: 0,
                redeemed: Vec::new(),
                regained: false,
                told_head: 0,
                unhandled: Vec::new(),
                reused_last: 0,
                shut: false,
                lost: false,
                sent: 0,
            }),
            pool: pieces.pool,
            ringer: pieces.ringer,
            bell: pieces.bell,
            losses: pieces.losses,
            peer_losses: pieces.peer_losses,
            groups: Mutex::default(),
            lost: AtomicBool::new(false),
            lends_segments: AtomicBool::new(false),
        })
    }

    /// Tells the peer how many messages of a route were dropped so far.
    pub(crate) fn tell_losses(&self, route: u16, lost: u64) {
        if let Some(word) = self.losses.get(usize::from(route)) {
            // Release: who reads the count sees what was sent before it.
            word.store(lost, Ordering::Release);
        }
    }

    /// What we tell the peer of losses: its view of them where the peer is this node itself.
    pub(crate) fn own_losses(&self) -> Cells<AtomicU64> {
        self.losses.clone()
    }

    /// Whether anything here is to be looked after when the peer releases something.
    pub(crate) fn is_awaited(&self) -> bool {
        self.room.is_awaited() || self.lends_segments.load(Ordering::SeqCst)
    }

    /// Nothing more is sent: the peer is about to be told that the link ends, and then reads what it finds and no further.
    pub(crate) fn shut(&self) {
        lock(&self.sending).shut = true;
    }

    /// The link ends: nothing more can be sent, and everything the peer held is ours again, at once if it is gone (see
    /// [`Left`]). Returns how many messages it had not released.
    pub(crate) fn lose(self: &Arc<Self>) -> u32 {
        let is_gone = self.session.is_hung_up();
        let mut sending = lock(&self.sending);
        if sending.lost {
            return 0;
        }
        // What it released before it died is not undelivered. A violation changes nothing any more.
        let _ = self.take_returns(&mut sending);
        (sending.shut, sending.lost) = (true, true);
        // Relaxed: read only to answer sooner what the lock decides.
        self.lost.store(true, Ordering::Relaxed);
        let undelivered = sending.unreleased();
        if is_gone {
            sending.abandon_tokens();
        } else {
            for shared in sending.share_tokens() {
                self.pool.retain(shared, 1);
            }
        }
        self.pool.release(sending.redeemed.drain(..));
        let keeps = sending.tokens.are_out();
        drop(sending);
        if keeps && let Some(node) = self.session.node.upgrade() {
            node.left.keep(self.clone());
        }
        self.wake_groups();
        self.room.wake();
        undelivered
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Messages sent on this end, and those of them that the peer has not released.
    pub(crate) fn counts(&self) -> (u64, u32) {
        let mut sending = lock(&self.sending);
        if !sending.lost
            && let Err(violation) = self.take_returns(&mut sending)
        {
            self.session.violated(violation);
        }
        (sending.sent, if sending.lost { 0 } else { sending.unreleased() })
    }
}
