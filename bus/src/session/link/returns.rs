//! Taking back what the peer has released, and telling those who wait for it.

use std::{sync::atomic::Ordering, task::Waker};

use super::{Link, books::Sending};
use crate::shm::{checked::Violation, sync::lock};

/// A payload from this size on looks for returns first: the buffer just released is still in the cache.
const COLLECT_FOR: usize = 16 << 10;

impl Link {
    /// Takes back what the peer has released. Returns how many messages that were.
    pub(super) fn take_returns(&self, sending: &mut Sending) -> Result<u32, Violation> {
        sending.since_collect = 0;
        let mut count = 0;
        let unhandled = sending.unhandled.len();
        let outcome = loop {
            match sending.returns.pop() {
                Ok(None) => break Ok(()),
                Ok(Some(what)) => match sending.settle(what) {
                    Ok(messages) => count += messages,
                    Err(violation) => break Err(violation),
                },
                Err(violation) => break Err(violation),
            }
        };
        sending.regained |= count > 0;
        if !sending.redeemed.is_empty() {
            self.pool.release(sending.redeemed.drain(..));
        }
        // Those of before have been told; told again and again, the first one's task would let no other run.
        if sending.unhandled.len() > unhandled {
            self.wake_groups();
        }
        outcome.map(|()| count)
    }

    /// Takes back what the peer has released; who waits for room is put on `wakers` if there is any.
    pub(crate) fn collect(&self, wakers: &mut Vec<Waker>) {
        let mut sending = lock(&self.sending);
        if sending.lost {
            return;
        }
        let outcome = self.take_returns(&mut sending).and_then(|_| {
            let head = sending.producer.peer_head()?;
            // Whoever sent meanwhile may have taken back what others wait for: all of it since they were told.
            let moved = std::mem::replace(&mut sending.told_head, head) != head;
            let progress = std::mem::take(&mut sending.regained) || moved;
            let lends_segments = sending.tokens.dedicated > 0;
            self.lends_segments.store(lends_segments, Ordering::SeqCst);
            if progress && !lends_segments {
                sending.waiting.unpark();
            }
            Ok(progress)
        });
        drop(sending);
        match outcome {
            Ok(true) => self.room.take_wakers(wakers),
            Ok(false) => {}
            Err(violation) => self.session.violated(violation),
        }
    }

    /// Takes returns before a large buffer is taken, so that the warm one is used again.
    pub(crate) fn warm(&self, bytes: usize) {
        if bytes < COLLECT_FOR {
            return;
        }
        let mut sending = lock(&self.sending);
        let outcome = if sending.lost {
            Ok(0)
        } else {
            self.take_returns(&mut sending)
        };
        drop(sending);
        if let Err(violation) = outcome {
            self.session.violated(violation);
        }
    }

    /// Registers a task that waits for room; it must try once more afterwards.
    pub(crate) fn wait(&self, waker: &Waker) {
        self.room.wait(waker);
        lock(&self.sending).waiting.park();
    }

    /// The port is about to sleep on the bell that the peer rings for those who wait for room. The peer may
    /// have rung already for something that was taken back before, and does not ring twice under one epoch.
    pub(crate) fn wait_on(&self) {
        let mut sending = lock(&self.sending);
        if sending.waiting.is_parked() {
            sending.waiting.park();
        }
    }
}
