//! Places where a test makes its own process die or stop; only under `--cfg shmbus_faults`.
//!
//! Each place is marked by [`fault!`], which is nothing in every other build. A process arms one point by [`arm`]
//! and acts when it passes there for the nth time, at that instruction and on that thread: what a peer then
//! finds in memory is what a crash or a stop there leaves. `bus/tests/faults` runs every point against every role.

/// Marks a [`Point`](crate::shm::faults::Point).
macro_rules! fault {
    ($point:ident) => {
        #[cfg(shmbus_faults)]
        $crate::shm::faults::pass($crate::shm::faults::Point::$point);
    };
}
pub(crate) use fault;

#[cfg(shmbus_faults)]
pub use armed::{Action, Point, arm, pass};

#[cfg(shmbus_faults)]
mod armed {
    use std::sync::Mutex;

    use nix::sys::signal::{Signal, raise};

    macro_rules! points {
        ($($(#[doc = $doc:literal])* $point:ident = $name:literal,)*) => {
            /// A place in the life of a message, of memory or of a session.
            #[derive(Debug, Clone, Copy, PartialEq, Eq)]
            pub enum Point {
                $($(#[doc = $doc])* $point,)*
            }

            impl Point {
                /// All points.
                pub const ALL: &[Point] = &[$(Point::$point),*];

                /// Its name in reports and arguments.
                pub fn name(self) -> &'static str {
                    match self {
                        $(Point::$point => $name,)*
                    }
                }
            }
        };
    }

    points! {
        /// A buffer was taken from the pool; nothing is in it.
        Taken = "taken",
        /// What a message points to was archived, its root was not.
        Archiving = "archiving",
        /// A slot's words were written, its sequence was not.
        Claimed = "claimed",
        /// Slots were published; the receiver's doorbell word was not looked at.
        Published = "published",
        /// The doorbell word said that the receiver sleeps; its eventfd was not written.
        Ringing = "ringing",
        /// The pool has grown; the peer was not told of the segment.
        Growing = "growing",
        /// The peer was told of a segment; no slot names it.
        Announced = "announced",
        /// A message's lease was made; its handler has not run.
        Delivered = "delivered",
        /// Messages of a batch were handled, others not: it is the next one's turn.
        Unbatching = "unbatching",
        /// A message was released; its return entry was not written.
        Returning = "returning",
        /// A return entry was written; senders that wait were not told.
        Returned = "returned",
        /// The word of senders that wait for room was seen; their eventfd was not written.
        Waking = "waking",
        /// The port's word says that it sleeps, and it has looked once more.
        Parked = "parked",
        /// The dialler is connected and has said nothing.
        DialHello = "dial: hello",
        /// The dialler has heard the other's hello and not said its verdict.
        DialVerdict = "dial: verdict",
        /// The dialler has said its verdict and not heard the other's.
        DialEnd = "dial: end",
        /// The acceptor has heard a hello and said nothing.
        AcceptHello = "accept: hello",
        /// The acceptor has decided and not said its verdict.
        AcceptVerdict = "accept: verdict",
        /// The acceptor has said its verdict and not heard the other's.
        AcceptEnd = "accept: end",
        /// A link's half was made and not offered.
        LinkOffer = "link: offer",
        /// A link was offered; the answer was not heard.
        LinkOffered = "link: offered",
        /// A link's other half was heard of and mapped; there is no half of ours yet.
        LinkHeard = "link: heard",
        /// A link was offered and joined; the offerer was not told.
        LinkAnswer = "link: answer",
        /// The offerer was told of the other half; nothing came by the link.
        LinkAnswered = "link: answered",
        /// The answer to an offer was heard; the halves are not joined.
        LinkJoining = "link: joining",
        /// The offerer has joined both halves; nothing was sent by the link.
        LinkJoined = "link: joined",
        /// A link is to be refused; the offerer was not told.
        LinkRefusing = "link: refusing",
        /// The offerer of a link was told that it is refused.
        LinkRefused = "link: refused",
        /// A refusal was heard; who opens the link was not told.
        RefusalHeard = "refusal: heard",
        /// Who opens a link knows that it is refused.
        RefusalTold = "refusal: told",
        /// A link is to be ended while its session goes on; the other end was not told.
        Unlinking = "unlink: ending",
        /// The other end was told that a link ends; it still stands here.
        Unlinked = "unlink: ended",
        /// The other end of a link was heard to end; the link still stands here.
        UnlinkHeard = "unlink: heard",
        /// What came by a link that the other end has ended was read, and the link is gone.
        UnlinkDone = "unlink: done",
        /// A publisher sends one of the messages that waited for a subscription, its history among them.
        History = "history",
        /// A publisher took back what members of a group had, and did not give it to others.
        HandOver = "hand-over",
        /// A member of a group gives back what it has not handled; the return entry was not written.
        Refusing = "refusing",
    }

    /// What a process does to itself.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Action {
        /// SIGKILL.
        Kill,
        /// SIGSTOP; the process goes on there when somebody continues it.
        Stop,
    }

    static ARMED: Mutex<Option<(Point, u32, Action)>> = Mutex::new(None);

    /// Acts once, when this process passes `point` for the `nth` time from now (from 1 on).
    pub fn arm(point: Point, nth: u32, action: Action) {
        *ARMED.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some((point, nth, action));
    }

    /// This process is at `point`.
    #[doc(hidden)]
    pub fn pass(point: Point) {
        let mut armed = ARMED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let Some((_, left, action)) = armed.as_mut().filter(|(armed, ..)| *armed == point) else {
            return;
        };
        *left = left.saturating_sub(1);
        if *left > 0 {
            return;
        }
        let signal = match action {
            Action::Kill => Signal::SIGKILL,
            Action::Stop => Signal::SIGSTOP,
        };
        *armed = None;
        drop(armed);
        // To this thread: it runs no further instruction of the program before the signal takes effect.
        raise(signal).expect("a signal to itself");
    }
}
