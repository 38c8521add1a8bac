//! Many tells at once: small messages share a buffer, and all of a run one lock and one ring of the bell.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use super::{
    link::{NoSend, Parcel, Request},
    parcel,
    route::{Content, Route},
    tell::wait_for_room,
};
use crate::{
    error::{Bound, SendError, TellAllError},
    message::{ShmRoot, archive_into},
    shm::{
        batch::{self, Layout},
        descriptor::SlotKind,
        pool::Buffer,
    },
};

/// Messages archived before any of them is sent.
const RUN: usize = 128;

/// Fewer messages travel one by one: a batch costs a buffer, and its way back.
const FEW: usize = 8;

/// Sends messages in their order, each as soon as there is room. Dropped before it is done, it has sent some of
/// them and not the others.
#[must_use = "futures do nothing unless awaited"]
#[derive(Debug)]
pub(crate) struct TellAll<'a, 'm, T, I> {
    route: &'a Route,
    message: usize,
    messages: I,
    /// The next one, if there was no memory for it.
    next: Option<&'m T>,
    /// Archived, not sent.
    packed: VecDeque<Request>,
    /// Why no more are archived: told when those before have been sent.
    failed: Option<SendError>,
    ended: bool,
    /// Messages taken from `messages`.
    taken: usize,
    sent: usize,
    /// Most messages in a batch.
    batch_limit: u32,
}

impl<'a, 'm, T: ShmRoot, I: Iterator<Item = &'m T>> TellAll<'a, 'm, T, I> {
    pub(crate) fn new(route: &'a Route, message: usize, messages: I) -> Self {
        Self {
            route,
            message,
            messages,
            next: None,
            packed: VecDeque::new(),
            failed: None,
            ended: false,
            taken: 0,
            sent: 0,
            batch_limit: route.batch_limit(),
        }
    }

    /// The next message; the one that there was no memory for comes first.
    #[inline]
    fn take(&mut self) -> Option<&'m T> {
        let next = self.next.take().or_else(|| {
            self.taken += 1;
            self.messages.next()
        });
        self.ended = next.is_none();
        next
    }

    /// Whether so many messages are on their way that it pays to put them into one buffer.
    fn are_many(&self) -> bool {
        self.batch_limit as usize >= FEW && (self.taken >= FEW || self.messages.size_hint().0 >= FEW)
    }

    /// Archives the next messages. `Err`: there is no memory for the first of them.
    fn pack(&mut self) -> Result<(), Bound> {
        let mut count = self
            .packed
            .iter()
            .map(|request| request.messages as usize)
            .sum::<usize>();
        while count < RUN && !self.ended {
            let before = self.packed.len();
            if self.are_many() {
                self.pack_batch();
            }
            if self.packed.len() == before && !self.ended {
                match self.pack_one() {
                    Ok(()) => {}
                    Err(bound) if self.packed.is_empty() => return Err(bound),
                    Err(_) => return Ok(()),
                }
            }
            let added = self.packed.iter().skip(before);
            count += added.map(|request| request.messages as usize).sum::<usize>();
        }
        Ok(())
    }

    /// Archives one message that travels alone.
    fn pack_one(&mut self) -> Result<(), Bound> {
        let Some(mut message) = self.take() else {
            return Ok(());
        };
        let mut descriptor = self.route.descriptor(SlotKind::Tell, self.message, 0);
        let mut parcel = None;
        if !message.pack_inline(&mut descriptor) {
            match message.pack(self.route) {
                Ok(packed) => parcel = Some(packed),
                Err(SendError::Full { bound, .. }) => {
                    self.next = Some(message);
                    return Err(bound);
                }
                Err(error) => {
                    self.failed = Some(error);
                    self.ended = true;
                    return Ok(());
                }
            }
        }
        self.packed.push_back(Request {
            descriptor,
            parcel,
            messages: 1,
        });
        Ok(())
    }

    /// Archives as many small messages as one buffer takes; none if there is no memory, or the next one is not small.
    fn pack_batch(&mut self) {
        let Some(first) = self.take() else {
            return;
        };
        self.next = Some(first);
        let session = &self.route.link.session;
        if is_long(first) {
            return;
        }
        // As much as the messages take that are known to follow, if they are like the first one.
        let each = first.size_bound().unwrap_or(batch::LONGEST);
        let follow = match self.messages.size_hint().0 {
            0 => self.batch_limit as usize,
            count => count + 1,
        };
        let bytes = batch::bytes(each, follow).min(session.message_limit);
        let Ok(mut buffer) = parcel::buffer(&session.pool, bytes) else {
            return;
        };
        let mut layout = Layout::begin(buffer.bytes());
        while layout.count() < self.batch_limit
            && let Some(message) = self.take()
        {
            if is_long(message) || !self.put(message, &mut buffer, bytes, &mut layout) {
                // In the next batch, or alone, where what is wrong with it is found out again and told.
                self.next = Some(message);
                break;
            }
        }
        let count = layout.count();
        if count > 0 {
            self.packed.push_back(Request {
                descriptor: self.route.descriptor(SlotKind::Batch, self.message, count.into()),
                parcel: Some(Parcel::Buffer(buffer, layout.len())),
                messages: count,
            });
        }
    }

    /// Archives a message behind the others of its batch. `false`: there is no room for it, or it is not small.
    #[inline]
    fn put(&self, message: &T, buffer: &mut Buffer, bytes: usize, layout: &mut Layout) -> bool {
        let batch = &mut buffer.bytes_mut()[..bytes];
        let Some(room) = layout.room(bytes) else {
            return false;
        };
        let archived = archive_into(message, &mut batch[room]);
        if let Ok(len) = archived
            && len <= batch::LONGEST
        {
            layout.add(batch, len);
            return true;
        }
        false
    }

    /// Sends what there is room for. `Err`: there was none for the first. `Ok(true)`: all is done.
    fn attempt(&mut self) -> Result<bool, Bound> {
        self.pack()?;
        let (sent, outcome) = self.route.link.send_requests(&mut self.packed);
        self.sent += sent;
        match outcome {
            Ok(()) => {}
            Err(NoSend::Full(bound)) if sent == 0 => return Err(bound),
            Err(NoSend::Full(_)) => {}
            Err(why) => {
                self.packed.clear();
                self.failed = Some(self.route.refusal(why));
                self.ended = true;
            }
        }
        Ok(self.ended && self.packed.is_empty())
    }
}

/// Whether it is known to be too long for a batch.
#[inline]
fn is_long<T: ShmRoot>(message: &T) -> bool {
    message.size_bound().is_some_and(|bound| bound > batch::LONGEST)
}

/// Nothing in it is pinned.
impl<T, I> Unpin for TellAll<'_, '_, T, I> {}

impl<'m, T: ShmRoot, I: Iterator<Item = &'m T>> Future for TellAll<'_, 'm, T, I> {
    type Output = Result<(), TellAllError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            if this.route.link.is_lost() {
                this.packed.clear();
                this.failed = Some(this.route.refusal(NoSend::Lost));
                return Poll::Ready(this.done());
            }
            // Other tasks of this thread have their turn, by batches.
            let turn = std::task::ready!(tokio::task::coop::poll_proceed(cx));
            let route = this.route;
            let attempted = match this.attempt() {
                Ok(done) => Poll::Ready(done),
                Err(_) => wait_for_room(route, cx, || this.attempt()),
            };
            let done = std::task::ready!(attempted);
            turn.made_progress();
            if done {
                return Poll::Ready(this.done());
            }
        }
    }
}

impl<T, I> TellAll<'_, '_, T, I> {
    fn done(&mut self) -> Result<(), TellAllError> {
        match self.failed.take() {
            None => Ok(()),
            Some(error) => Err(TellAllError {
                sent: self.sent,
                error,
            }),
        }
    }
}
