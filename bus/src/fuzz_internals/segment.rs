//! A whole foreign link segment, read by the port, the link and the dispatch of a real node.

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use super::{
    input::Input,
    types::{TYPES, Texts, open_any, walk},
    world::{self, World},
};
use crate::{
    message::{Received, Trust},
    session::{
        asks::{Outcome, Ticket},
        delivery::Deliveries,
        frame::Frame,
        link::{Link, NoSend, Parcel},
        opening::LinkOffer,
        peer::Session,
    },
    shm::{
        bell::Bell,
        cells::Cells,
        checked::sequence_of,
        descriptor::{BufferRef, Descriptor, SlotKind},
        inbound::ReleaseBatch,
        layout::{self, LOSSES_AT, MAGIC, RETURNS_AT, SLOT_WORDS, slots_at},
        segment::{Mapping, Segment, create_bell, words},
        sync::{AtomicU64, Ordering, lock},
    },
};

/// Bytes of each pool segment of the peer.
const POOL: usize = 4096;
/// Most steps of one input.
const STEPS: usize = 256;

/// What the peer may write, every word of it.
struct Peer {
    link: Arc<Segment>,
    words: Cells<AtomicU64>,
    pool: Arc<Segment>,
    pool_words: Cells<AtomicU64>,
    slots: u32,
    returns: u32,
    /// Where an honest sender would write next.
    tail: u64,
    /// Where an honest reader would write its next return.
    returned: u64,
}

impl Peer {
    fn new(slots: u32, returns: u32) -> Self {
        let link = Segment::create("fuzz", layout::link_bytes(slots, returns)).expect("a segment");
        let pool = Segment::create("fuzz", POOL).expect("a segment");
        let peer = Self {
            words: words(&link),
            pool_words: words(&pool),
            link,
            pool,
            slots,
            returns,
            tail: 0,
            returned: 0,
        };
        peer.store(0, MAGIC);
        peer.store(1, u64::from(slots) | u64::from(returns) << 32);
        peer
    }

    /// Relaxed: the node reads on this very thread.
    fn store(&self, at: usize, word: u64) {
        self.words[at % self.words.len()].store(word, Ordering::Relaxed);
    }

    fn descriptors(&self) -> Vec<OwnedFd> {
        let clone = |segment: &Segment| segment.fd().try_clone_to_owned().expect("a descriptor");
        let (word, _) = create_bell().expect("a segment");
        let bell = Bell::new().expect("an eventfd");
        let bell = bell.as_fd().try_clone_to_owned().expect("a descriptor");
        vec![clone(&self.link), clone(&word), bell]
    }

    /// A slot where the next one is expected, in order; everything else in it is the input's.
    fn send(&mut self, mut first: u64, rest: &[u64], spoil: u8) {
        let two = (first >> 48) as u8 > 40;
        for (at, position) in (self.tail..=self.tail + u64::from(two)).enumerate() {
            let slot =
                slots_at(self.returns) / 8 + SLOT_WORDS * (position & (u64::from(self.slots) - 1)) as usize;
            let sequence = u64::from(sequence_of(position, self.slots as usize));
            for (word, value) in rest.iter().skip(at * 7).take(7).enumerate() {
                self.store(slot + 1 + word, *value);
            }
            // Now and then one lap too many.
            let sequence = if usize::from(spoil) == 1 + at {
                sequence + 1
            } else {
                sequence
            };
            self.store(slot, (first & !0xffff_ffff) | sequence);
            first = 0;
        }
        self.tail += 1 + u64::from(two);
    }

    fn give_back(&mut self, value: u32, kind: u8) {
        let at = (self.returned & (u64::from(self.returns) - 1)) as usize;
        let lap = (self.returned / u64::from(self.returns)) as u16 + 1;
        let entry = u64::from(value) | u64::from(kind) << 32 | u64::from(lap) << 48;
        self.store(RETURNS_AT / 8 + at, entry);
        self.returned += 1;
    }
}

/// Sizes and header, then steps: what the peer writes, what the node does.
pub fn segment(data: &[u8]) {
    let mut input = Input(data);
    world::with(|world| {
        let sizes = input.byte();
        let mut peer = Peer::new(2 << (sizes & 3), 1 << (sizes >> 2 & 7));
        let (session, theirs) = world.session();
        let said = claims(sizes, &mut input, &peer);
        let link = if sizes & 0x40 == 0 {
            answering(world, &session, &peer, said)
        } else {
            asking(world, &session, &peer, said)
        };
        if let Some(link) = link {
            let mut asked = Vec::new();
            for _ in 0..STEPS {
                if input.is_empty() {
                    break;
                }
                step(world, &session, &link, &mut peer, &mut input, &mut asked);
            }
            for ticket in asked {
                world.port.with(|state| state.asks.abandon(ticket));
            }
        }
        drop(theirs);
        world.finish(&session);
        let open = world.port.with(|state| state.asks.open_count());
        assert_eq!(open, 0, "an ask is left");
        assert_eq!(world.node.pool.usage().0, 0, "a buffer is left");
    });
}

/// What the frame says of the segment: its slots, returns and bytes. True, unless the input wants otherwise.
fn claims(sizes: u8, input: &mut Input<'_>, peer: &Peer) -> (u32, u32, u64) {
    let bytes = peer.link.bytes() as u64;
    if sizes & 0x80 == 0 {
        return (peer.slots, peer.returns, bytes);
    }
    let (at, word) = (input.byte(), input.u64());
    peer.store(usize::from(at & 1), word);
    (
        input.u32(),
        input.u32(),
        if at & 2 == 0 { bytes } else { input.u64() },
    )
}

/// The peer asks.
fn answering(
    world: &World,
    session: &Arc<Session>,
    peer: &Peer,
    (slots, returns, bytes): (u32, u32, u64),
) -> Option<Arc<Link>> {
    let offer = LinkOffer::import(7, slots, returns, bytes, peer.descriptors(), false);
    session.accept_link(&world.node, world.port.id, 7, offer);
    lock(&session.links)
        .by_id
        .values()
        .next()
        .map(|(link, ..)| link.clone())
}

/// The node asks.
fn asking(
    world: &World,
    session: &Arc<Session>,
    peer: &Peer,
    (ring_slots, returns, bytes): (u32, u32, u64),
) -> Option<Arc<Link>> {
    world.block_on(async {
        let link = session.link(&world.node, &world.port, 3);
        tokio::pin!(link);
        // Far enough to offer it.
        let _ = one_poll(link.as_mut()).await;
        let offered = lock(&session.links).offers.keys().next().copied()?;
        let frame = Frame::Linked {
            link: 7,
            peer_link: offered,
            ring_slots,
            returns,
            bytes,
        };
        let packet = frame.encode().expect("a frame");
        session.receive(&packet, peer.descriptors());
        link.await.ok()
    })
}

/// One poll.
async fn one_poll<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    std::future::poll_fn(|cx| {
        std::task::Poll::Ready(match std::pin::Pin::new(&mut future).poll(cx) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

fn step(
    world: &World,
    session: &Arc<Session>,
    link: &Arc<Link>,
    peer: &mut Peer,
    input: &mut Input<'_>,
    asked: &mut Vec<Ticket>,
) {
    match input.byte() % 16 {
        // Anything anywhere.
        0 => {
            let (at, word) = (input.u16(), input.u64());
            peer.store(at.into(), word);
        }
        // A message, in order.
        1 | 2 => {
            let spoil = input.byte();
            let words: [u64; 8] = std::array::from_fn(|_| input.u64());
            peer.send(words[0], &words[1..], spoil);
        }
        // One for a mailbox there is, inline.
        3 => {
            let (what, len) = (input.byte(), input.byte());
            let (kind, mailbox, message) = match what & 3 {
                0 => (SlotKind::Tell, &world.actor, 0),
                1 => (SlotKind::Ask, &world.actor, 1),
                2 => (SlotKind::Publish, &world.subscription, 0),
                _ => (SlotKind::Tell, &world.actor, 1),
            };
            let mailbox = mailbox.binding.mailbox;
            let mut descriptor = Descriptor::new(kind, mailbox, message, 1, input.u64());
            let payload = input.take(usize::from(len).min(96));
            descriptor.inline_mut()[..payload.len()].copy_from_slice(payload);
            // Whatever is claimed.
            descriptor.head.0[0] |= u64::from(len) << 48;
            send(peer, &descriptor);
        }
        // The same in a buffer.
        4 => {
            let what = input.byte();
            let (kind, mailbox) = match what & 3 {
                0 => (SlotKind::Tell, &world.actor),
                1 if what & 8 == 0 => (SlotKind::Ask, &world.actor),
                1 => (SlotKind::AskBatch, &world.actor),
                3 => (SlotKind::Batch, &world.actor),
                _ => (SlotKind::Publish, &world.subscription),
            };
            let message = u16::from(what >> 2 & 1);
            let mut descriptor = Descriptor::new(kind, mailbox.binding.mailbox, message, 1, input.u64());
            let (segment, token) = (u32::from(what >> 4 & 3) | u32::from(what >> 7) << 31, input.u32());
            descriptor.set_buffer(BufferRef {
                segment,
                token,
                offset: input.u16().into(),
                len: input.u16().into(),
            });
            send(peer, &descriptor);
        }
        // An answer to something that was asked.
        5 => {
            let what = input.byte();
            let ticket = asked.get(usize::from(what >> 4) % asked.len().max(1));
            let correlation = ticket.map_or(0, |ticket| ticket.correlation());
            let number = input.byte();
            let (kind, correlation) = match what & 3 {
                1 => (SlotKind::Fail, correlation),
                // So many replies, the first of which is to this ask, mostly.
                3 => {
                    // Relaxed: one thread.
                    peer.pool_words[1].store(correlation, Ordering::Relaxed);
                    (SlotKind::ReplyBatch, u64::from(number % 4))
                }
                _ => (SlotKind::Reply, correlation),
            };
            let mut descriptor = Descriptor::new(kind, number.into(), 0, 0, correlation);
            if what & 2 == 0 {
                let payload = input.packet();
                let payload = &payload[..payload.len().min(96)];
                descriptor.inline_mut()[..payload.len()].copy_from_slice(payload);
                descriptor.set_inline_len(payload.len());
            } else {
                descriptor.set_buffer(BufferRef {
                    segment: (what >> 2 & 3).into(),
                    token: input.u32(),
                    offset: input.u16().into(),
                    len: input.u16().into(),
                });
            }
            send(peer, &descriptor);
        }
        6 => {
            let (value, kind) = (input.u32(), input.byte());
            peer.give_back(value, kind);
        }
        // What an honest reader says.
        7 => peer.store(8, u64::from(input.byte())),
        8 => peer.store(16, input.u64()),
        9 => {
            let (at, word) = (input.byte(), input.u64());
            peer.store(LOSSES_AT / 8 + usize::from(at), word);
            let subscription = world.subscription.subscription.as_ref();
            let _ = subscription.map(|own| (own.lost(), own.losses().len()));
        }
        // A segment, perhaps one it has announced before.
        10 => {
            let number = input.byte();
            let number = u32::from(number & 3) | u32::from(number >> 7) << 31;
            let fd = peer.pool.fd().try_clone_to_owned().expect("a descriptor");
            let mapping = Mapping::import(&fd, POOL as u64).expect("a mapping");
            let _ = session.memory.add(number, mapping);
        }
        11 => {
            let at = usize::from(input.byte());
            for (word, bytes) in input.packet().chunks(8).enumerate() {
                let cell = &peer.pool_words[(at + word) % peer.pool_words.len()];
                // Relaxed: one thread.
                cell.store(Input(bytes).u64(), Ordering::Relaxed);
            }
        }
        12 => take(world, input.byte()),
        13 => request(world, link, input, asked),
        14 => {
            link.collect(&mut Vec::new());
            let _ = (link.holds(0), link.counts(), link.has_groups());
        }
        _ => {
            let Some(ticket) = asked.pop() else { return };
            let outcome = world.port.with(|state| state.asks.poll(ticket, None));
            match outcome {
                Some(Outcome::Reply(lease)) => {
                    let _ = Received::<super::types::Nested>::new(lease, Trust::Checked)
                        .map(|received| super::types::walk(&received));
                }
                Some(_) => {}
                None => asked.push(ticket),
            }
        }
    }
    // As the port's task and the helpers do.
    world.port.catch_up();
}

fn send(peer: &mut Peer, descriptor: &Descriptor) {
    let head = descriptor.head.0;
    let words: Vec<u64> = (0..12).map(|at| descriptor.word(at)).collect();
    let rest: Vec<u64> = head[1..].iter().copied().chain(words).collect();
    peer.send(head[0], &rest, 0);
}

/// Takes messages out, as a dispatch does. Of a type that may be another than the sender's.
fn take(world: &World, how: u8) {
    let batch = (how & 0x80 != 0).then(ReleaseBatch::begin).flatten();
    let mailbox = if how & 1 == 0 {
        &world.actor
    } else {
        &world.subscription
    };
    if how >> 3 & 3 == 3 {
        let mut taken = Deliveries::default();
        mailbox.take(&mut taken, None);
        while let Some(mut message) = taken.front() {
            let responder = message.responder();
            message.open(Trust::Checked, |message: Received<Texts>| walk(&message));
            drop(responder);
            taken.pass();
        }
    }
    for _ in 0..1 + (how >> 1 & 3) {
        let Some(mut delivery) = mailbox.pop() else { break };
        match how >> 3 & 3 {
            0 => drop(delivery),
            1 => delivery.refuse(),
            _ => {
                let responder = delivery.responder();
                let descriptor = delivery.descriptor;
                if let Some(inbound) = delivery.inbound.take() {
                    open_any(how % TYPES, inbound, &descriptor);
                }
                if let Some(responder) = responder {
                    responder.reply(&mut u64::from(how));
                }
            }
        }
    }
    drop(batch);
}

/// Sends something to the peer.
fn request(world: &World, link: &Arc<Link>, input: &mut Input<'_>, asked: &mut Vec<Ticket>) {
    let what = input.byte();
    let Some(route) = link.route(u32::from(what & 3), 4) else {
        return;
    };
    let (ask, len) = (link.asking && what & 4 != 0, if what & 8 == 0 { 16 } else { 500 });
    let mut parcel = None;
    let ticket = ask.then(|| world.port.with(|state| state.asks.open(link.id)));
    let (kind, correlation) = match ticket {
        Some(ticket) => (SlotKind::Ask, ticket.correlation()),
        None => (SlotKind::Tell, 0),
    };
    let mut descriptor = Descriptor::new(kind, u32::from(what & 3), 0, route, correlation);
    if len == 16 {
        descriptor.set_inline_len(len);
    } else if let Ok(buffer) = world.node.pool.take(len) {
        parcel = Some(Parcel::Buffer(buffer, len));
    }
    let Some(ticket) = ticket else {
        let _: Result<(), NoSend> = link.send_request(&mut descriptor, &mut parcel);
        return;
    };
    let sent = link.room.open_ask() && {
        world.port.with(|state| state.asks.sent(ticket, true));
        let sent = link.send_request(&mut descriptor, &mut parcel).is_ok();
        if !sent {
            world.port.with(|state| state.asks.sent(ticket, false));
            link.room.close_ask();
        }
        sent
    };
    if sent {
        asked.push(ticket);
    } else {
        world.port.with(|state| state.asks.abandon(ticket));
    }
}
