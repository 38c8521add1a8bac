//! The hostile peer: a raw socket, and memory of which it writes every word.

use std::{
    fs::File,
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::FileExt,
    },
    path::Path,
    time::Instant,
};

use rustix::net::{
    self, AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sockopt,
};
use shmbus::fuzz::peer::{self, Heard, Kind, Memory};

use crate::support::PATIENCE;

/// Slots and returns of the hostile peer's half of a link.
pub const SLOTS: u32 = 16;
pub const RETURNS: u32 = 64;
/// Returns of the victim's half.
const VICTIM_RETURNS: u32 = 32;

/// How far a row's peer goes before it misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// A session.
    Session,
    /// A link on which it asks.
    Asking,
    /// A link on which it is told something.
    Answering,
    /// One on which it was also asked something.
    Asked,
}

/// A raw client of the victim's socket.
pub struct Connection {
    fd: OwnedFd,
    /// What the victim said in its hello.
    pub id: u64,
}

/// Two connected sockets, of which nobody waits.
pub fn pair(of: SocketType) -> (OwnedFd, OwnedFd) {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    net::socketpair(AddressFamily::UNIX, of, flags, None).unwrap()
}

/// One packet of the victim.
struct Packet {
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
}

impl Connection {
    /// Connects, and has said nothing.
    pub fn dial(path: &Path) -> Self {
        let fd = net::socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        );
        let fd = fd.unwrap();
        sockopt::set_socket_timeout(&fd, sockopt::Timeout::Recv, Some(PATIENCE)).unwrap();
        net::connect(&fd, &SocketAddrUnix::new(path).unwrap()).unwrap();
        Self { fd, id: 0 }
    }

    /// A session that the victim takes for one with a node of this id.
    pub fn open(path: &Path, id: u64) -> Self {
        Self::open_as(path, &format!("wild-{id}"), id)
    }

    /// The same, of this name.
    pub fn open_as(path: &Path, name: &str, id: u64) -> Self {
        let mut connection = Self::dial(path);
        connection.send(&peer::hello(name, id), &[]);
        let hello = connection.recv().expect("a hello");
        connection.id = peer::id_of(&hello.bytes).expect("a hello");
        connection.recv().expect("a verdict");
        connection.send(&peer::welcome(), &[]);
        connection
    }

    /// Sends a packet; the victim may have hung up already.
    pub fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
        let _ = self.try_send(bytes, fds, SendFlags::empty());
    }

    /// The same, and whether it went.
    pub fn try_send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>], flags: SendFlags) -> rustix::io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
        }
        let flags = flags | SendFlags::NOSIGNAL;
        net::sendmsg(&self.fd, &[IoSlice::new(bytes)], &mut control, flags).map(|_| ())
    }

    /// The next packet; `None` once the victim has hung up.
    fn recv(&self) -> Option<Packet> {
        let mut bytes = vec![0; 1 << 16];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = loop {
            let into = &mut [IoSliceMut::new(&mut bytes)];
            match net::recvmsg(&self.fd, into, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Ok(got) => break got.bytes,
                // Told once, before what is still to be read.
                Err(rustix::io::Errno::CONNRESET | rustix::io::Errno::INTR) => {}
                Err(error) => panic!("the victim neither answered nor hung up: {error}"),
            }
        };
        bytes.truncate(got);
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        (got > 0).then_some(Packet { bytes, fds })
    }

    /// What the victim says next, and the descriptors with it.
    fn hear(&self) -> Option<(Vec<Heard>, Vec<OwnedFd>)> {
        let packet = self.recv()?;
        let heard = peer::heard(&packet.bytes, packet.fds.len()).expect("the victim speaks in frames");
        Some((heard, packet.fds))
    }

    /// Reads on until something wanted comes.
    pub fn until<T>(
        &self,
        mut wanted: impl FnMut(Heard, &mut Vec<OwnedFd>) -> Option<T>,
    ) -> Result<T, String> {
        let mut reason = None;
        while let Some((heard, mut fds)) = self.hear() {
            for one in heard {
                if let Heard::Bye(why) = &one {
                    reason = Some(why.clone());
                }
                if let Some(found) = wanted(one, &mut fds) {
                    return Ok(found);
                }
            }
        }
        Err(format!("the session was closed: {reason:?}"))
    }

    /// Reads to the end: why the session was closed.
    pub fn end(&self) -> Result<Option<String>, String> {
        let mut reason = None;
        while let Some((heard, _)) = self.hear() {
            for one in heard {
                if let Heard::Bye(why) = one {
                    reason = Some(why);
                }
            }
        }
        Ok(reason)
    }

    /// After our hello: why the victim wants no session, if it says so.
    pub fn refusal(&self) -> Option<String> {
        self.recv()?;
        peer::refusal(&self.recv()?.bytes)
    }

    /// Waits until the victim hangs up, whatever it says before.
    pub fn hang_up_comes(&self) {
        while self.recv().is_some() {}
    }
}

/// A slot to be written, honest but for what a row changes.
#[derive(Debug, Clone, Copy)]
pub struct Slot {
    /// `None`: the right one.
    pub sequence: Option<u32>,
    pub kind: u8,
    pub flags: u8,
    pub len: u8,
    pub mailbox: u32,
    pub message: u16,
    pub route: u16,
    pub correlation: u64,
    pub payload: [u64; 5],
}

impl Slot {
    /// The payload stands in a buffer.
    pub fn buffer(mut self, segment: u32, token: u32, offset: u64, len: u64) -> Self {
        self.flags = 1;
        self.len = 0;
        self.payload = [0, 0, u64::from(segment) | u64::from(token) << 32, offset, len];
        self
    }
}

/// The victim's half of a link.
struct Victim {
    segment: File,
    /// The memory that says whether its port sleeps.
    sleeps: File,
    bell: OwnedFd,
}

/// A hostile peer's session, its half of a link, and what it has learned.
pub struct Rig {
    pub connection: Connection,
    slots: u32,
    pub memory: Memory,
    pub bell: Memory,
    /// What the victim rings: an eventfd, or between users a socket.
    pub eventfd: OwnedFd,
    /// The other end of that socket.
    _ear: Option<OwnedFd>,
    /// A pool segment.
    pub pool: Memory,
    pub port: u32,
    pub mailbox: u32,
    pub kind: Option<Kind>,
    pub subscription: Option<(u32, u32, Kind)>,
    pub topic: Option<(u32, Kind)>,
    /// The victim's number of the link.
    pub link: u32,
    victim: Option<Victim>,
    tail: u64,
    returned: u64,
    /// Of the ask that the victim has sent.
    pub correlation: u64,
}

impl Rig {
    pub fn new(connection: Connection) -> Self {
        Self::with_slots(connection, SLOTS)
    }

    /// One whose half of the link has so many slots.
    pub fn with_slots(connection: Connection, slots: u32) -> Self {
        Self {
            connection,
            slots,
            memory: Memory::link(slots, RETURNS),
            bell: Memory::new(4096),
            eventfd: peer::eventfd().unwrap(),
            _ear: None,
            pool: Memory::new(4096),
            port: 0,
            mailbox: 0,
            kind: None,
            subscription: None,
            topic: None,
            link: 0,
            victim: None,
            tail: 0,
            returned: 0,
            correlation: 0,
        }
    }

    /// As a peer of another user, whose bells are sockets.
    pub fn of_another_user(mut self) -> Self {
        let (bell, ear) = pair(SocketType::SEQPACKET);
        (self.eventfd, self._ear) = (bell, Some(ear));
        self
    }

    /// Hears what the victim has.
    pub fn introduce(&mut self) -> Result<(), String> {
        let Self {
            connection,
            port,
            mailbox,
            kind,
            subscription,
            topic,
            ..
        } = self;
        connection.send(&peer::names(false), &[]);
        connection.until(|heard, _| {
            match heard {
                Heard::Bound(name, at, number, of) if name == "actor" => {
                    (*port, *mailbox, *kind) = (at, number, Some(of));
                }
                Heard::Subscribed(port, mailbox, pattern, of) if pattern == "in.*" => {
                    *subscription = Some((port, mailbox, of));
                }
                Heard::Topic(id, name, of) if name == "out" => *topic = Some((id, of)),
                Heard::Introduced => return Some(()),
                _ => {}
            }
            None
        })
    }

    pub fn kind(&self) -> &Kind {
        self.kind.as_ref().expect("the victim has bound an actor")
    }

    pub fn frame(&self, packet: &[u8]) {
        self.connection.send(packet, &[]);
    }

    /// The three descriptors of a link.
    pub fn half(&self) -> [OwnedFd; 3] {
        [
            self.memory.fd(),
            self.bell.fd(),
            self.eventfd.try_clone().unwrap(),
        ]
    }

    pub fn send_with(&self, packet: &[u8], fds: &[OwnedFd]) {
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        self.connection.send(packet, &fds);
    }

    /// Sets a link up on which we ask.
    pub fn ask_victim(&mut self) -> Result<(), String> {
        let offer = peer::link(7, self.port, self.slots, RETURNS, self.memory.bytes());
        self.send_with(&offer, &self.half());
        self.take_half(|heard| match heard {
            Heard::Linked(link, _, _) => Some(link),
            _ => None,
        })
    }

    /// A name of ours that the victim can tell things to.
    pub fn say_bound(&self) {
        self.frame(&peer::bound("wild", 1, 1, self.kind()));
    }

    /// Answers the link that the victim opens.
    pub fn answer_victim(&mut self) -> Result<(), String> {
        self.take_half(|heard| match heard {
            Heard::Link(link, _, _) => Some(link),
            _ => None,
        })?;
        let answer = peer::linked(7, self.link, SLOTS, RETURNS, self.memory.bytes());
        self.send_with(&answer, &self.half());
        Ok(())
    }

    fn take_half(&mut self, wanted: impl Fn(Heard) -> Option<u32>) -> Result<(), String> {
        let (link, fds) = self
            .connection
            .until(|heard, fds| wanted(heard).map(|link| (link, std::mem::take(fds))))?;
        let [segment, sleeps, bell] = <[OwnedFd; 3]>::try_from(fds).expect("the half of a link");
        self.link = link;
        self.victim = Some(Victim {
            segment: segment.into(),
            sleeps: sleeps.into(),
            bell,
        });
        Ok(())
    }

    /// Slots that the victim has not read yet, by its own word.
    pub fn unread(&self) -> u64 {
        self.tail - self.read(peer::HEAD_AT)
    }

    /// Rings the victim's bell, so that it looks.
    pub fn ring(&self) {
        if let Some(victim) = &self.victim {
            // The victim may have hung up.
            let _ = rustix::io::write(&victim.bell, &1u64.to_ne_bytes());
        }
    }

    /// What others ring too, if they are of the victim's user.
    pub fn victims_bell(&self) -> OwnedFd {
        self.victim.as_ref().expect("a link").bell.try_clone().unwrap()
    }

    /// Whether the victim's port has announced that it sleeps.
    pub fn victim_sleeps(&self) -> bool {
        let mut word = [0; 8];
        let victim = self.victim.as_ref().expect("a link");
        victim.sleeps.read_exact_at(&mut word, 0).unwrap();
        u64::from_ne_bytes(word) & 1 == 1
    }

    /// Says that our port sleeps: whoever sends to it rings.
    pub fn sleep(&self, epoch: u64) {
        self.bell.store(0, epoch << 1 | 1);
    }

    /// A word of the victim's half.
    fn read(&self, at: usize) -> u64 {
        let victim = self.victim.as_ref().expect("a link");
        let mut word = [0; 8];
        victim.segment.read_exact_at(&mut word, 8 * at as u64).unwrap();
        u64::from_ne_bytes(word)
    }

    /// Waits for the ask that follows the one tell before, and remembers its correlation.
    pub fn hear_ask(&mut self) {
        let at = peer::slots_at(VICTIM_RETURNS) + 8;
        let deadline = Instant::now() + PATIENCE;
        while self.read(at) as u32 != 1 {
            assert!(Instant::now() < deadline, "the victim asks nothing");
            std::thread::yield_now();
        }
        self.correlation = self.read(at + 2);
    }

    /// A message for the victim's actor as it should be.
    pub fn ping(&self) -> Slot {
        Slot {
            sequence: None,
            kind: 1,
            flags: 0,
            len: 8,
            mailbox: self.mailbox,
            message: 0,
            route: 0,
            correlation: 0,
            payload: [5, 0, 0, 0, 0],
        }
    }

    /// The answer to the victim's ask as it should be.
    pub fn reply(&self) -> Slot {
        Slot {
            kind: 3,
            mailbox: 0,
            correlation: self.correlation,
            ..self.ping()
        }
    }

    /// Writes the next slot.
    pub fn put(&mut self, slot: Slot) {
        let lap = (self.tail / u64::from(self.slots)) as u32 + 1;
        let at = peer::slots_at(RETURNS) + 8 * (self.tail % u64::from(self.slots)) as usize;
        let route = u64::from(slot.mailbox) | u64::from(slot.message) << 32 | u64::from(slot.route) << 48;
        let words = [route, slot.correlation];
        for (word, value) in words.iter().chain(&slot.payload).enumerate() {
            self.memory.store(at + 1 + word, *value);
        }
        let first = u64::from(slot.sequence.unwrap_or(lap))
            | u64::from(slot.kind) << 32
            | u64::from(slot.flags) << 40
            | u64::from(slot.len) << 48;
        self.memory.store(at, first);
        self.tail += 1;
    }

    /// The sequence word of the slot after the next one.
    pub fn memory_of_second_slot(&self) -> usize {
        peer::slots_at(RETURNS) + 8 * ((self.tail + 1) % u64::from(SLOTS)) as usize
    }

    /// Writes the next return entry, of the right lap unless said otherwise.
    pub fn give_back(&mut self, value: u32, kind: u8, lap: Option<u16>) {
        let right = (self.returned / u64::from(RETURNS)) as u16 + 1;
        let at = peer::RETURNS_AT + (self.returned % u64::from(RETURNS)) as usize;
        let lap = lap.unwrap_or(right);
        let entry = u64::from(value) | u64::from(kind) << 32 | u64::from(lap) << 48;
        self.memory.store(at, entry);
        self.returned += 1;
    }

    /// The session goes on: a question is answered.
    pub fn is_served(&self) -> Result<(), String> {
        self.frame(&peer::describe(77, "nobody"));
        self.connection
            .until(|heard, _| matches!(heard, Heard::Other("Described")).then_some(()))
    }
}
