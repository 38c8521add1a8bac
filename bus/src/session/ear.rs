//! How a node of another user wakes a port of ours.
//!
//! An eventfd is one open file for everybody who rings it. Whoever has it can make it blocking and fill its counter,
//! and then stop everybody else who rings. So another user gets no eventfd of ours, and we ring none of theirs: the bell
//! between users is one end of a socket pair, into which a byte is sent by a call that never waits, whatever the
//! other side does to the file. A task listens at the other end and passes the ring on.

use std::{
    os::fd::{AsRawFd, OwnedFd},
    sync::{Arc, Weak},
};

use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, recv},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::watch,
};

use super::{node::Node, peer::Session, port::Port, socket::watched};
use crate::{
    error::ResourceError,
    shm::{bell::Bell, sync::lock},
};

/// Most rings that are read before they are passed on: a peer that rings without pause gets no more than that.
const RINGS: usize = 64;

impl Session {
    /// What the peer rings to wake `port`.
    pub(super) fn bell_of(&self, node: &Node, port: &Arc<Port>) -> Result<Bell, ResourceError> {
        if !self.is_foreign() {
            return Ok(port.bell().clone());
        }
        let mut ears = lock(&self.ears);
        if let Some(bell) = ears.get(&port.id) {
            return Ok(bell.clone());
        }
        let (bell, ear) = Bell::for_another_user()?;
        node.spawn(listen(ear, Arc::downgrade(port), self.over.subscribe()));
        ears.insert(port.id, bell.clone());
        Ok(bell)
    }
}

/// Passes rings on until the session or the port is over, or the peer has closed its end.
async fn listen(ear: OwnedFd, port: Weak<Port>, mut over: watch::Receiver<bool>) {
    let Ok(ear) = watched(ear, Interest::READABLE) else {
        return;
    };
    let rings = async {
        while hear(&ear).await {
            // After the rings were read, so that one that comes now is another edge.
            match port.upgrade() {
                Some(port) => port.poke(),
                None => return,
            }
            tokio::task::consume_budget().await;
        }
    };
    tokio::select! {
        _ = over.wait_for(|over| *over) => {}
        () = rings => {}
    }
}

/// Waits for a ring and reads what there is. `false`: there will be none.
async fn hear(ear: &AsyncFd<OwnedFd>) -> bool {
    let Ok(mut ready) = ear.readable().await else {
        return false;
    };
    let mut byte = [0];
    for _ in 0..RINGS {
        match recv(ear.get_ref().as_raw_fd(), &mut byte, MsgFlags::MSG_DONTWAIT) {
            // The end, or an empty packet, which is no ring.
            Ok(0) => return false,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                ready.clear_ready();
                return true;
            }
            Err(_) => return false,
        }
    }
    ready.retain_ready();
    true
}

#[cfg(test)]
mod tests {
    use std::{
        os::fd::AsFd,
        sync::{
            Barrier,
            atomic::{AtomicU32, Ordering},
        },
        task::Poll,
        thread,
        time::Duration,
    };

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;
    use crate::{config::Spin, session::port::Watcher};

    const ROUNDS: u32 = 1_000;

    /// A bell that was rung so often and the descriptor at whose end that is heard.
    fn rung(times: usize) -> (Bell, OwnedFd) {
        let (bell, ear) = Bell::for_another_user().unwrap();
        (0..times).for_each(|_| bell.ring());
        (bell, ear)
    }

    /// Rings that nobody has read.
    fn unread(ear: &OwnedFd) -> usize {
        let read = || recv(ear.as_raw_fd(), &mut [0], MsgFlags::MSG_DONTWAIT);
        std::iter::from_fn(|| read().ok()).count()
    }

    #[tokio::test]
    async fn so_many_rings_are_read_before_they_are_passed_on() {
        let (_bell, ear) = rung(RINGS + 10);
        let other_end = ear.try_clone().unwrap();
        let ear = watched(ear, Interest::READABLE).unwrap();
        assert!(hear(&ear).await);
        assert_eq!(unread(&other_end), 10);
    }

    /// Others of the thread have their turn.
    #[tokio::test]
    async fn a_listener_that_is_rung_without_end_gives_way() {
        let port = Port::new(0, Spin::Never, Watcher::Task).unwrap();
        let (_bell, ear) = rung(4 * RINGS);
        let (_over, is_over) = watch::channel(false);
        let mut listening = std::pin::pin!(listen(ear, Arc::downgrade(&port), is_over));
        let used_up = std::future::poll_fn(|cx| {
            let mut step = || std::pin::pin!(tokio::task::consume_budget()).poll(cx).is_ready();
            Poll::Ready(std::iter::from_fn(|| step().then_some(())).count())
        });
        let budget = used_up.await;
        let mut pokes = [0; 8];
        while u64::from_ne_bytes(pokes) == 0 {
            tokio::task::yield_now().await;
            // Of what a task may do in one turn, two rounds are left: it gives way after the third.
            for _ in 2..budget {
                tokio::task::consume_budget().await;
            }
            let turn = std::future::poll_fn(|cx| Poll::Ready(listening.as_mut().poll(cx)));
            assert!(turn.await.is_pending());
            let _ = nix::unistd::read(port.bell(), &mut pokes);
        }
        let rounds = u64::from_ne_bytes(pokes);
        assert!(rounds <= 3, "it has read on for {rounds} rounds");
    }

    #[tokio::test]
    async fn nobody_listens_where_nobody_can_ring_any_more() {
        let port = Port::new(0, Spin::Never, Watcher::Task).unwrap();
        let (_over, is_over) = watch::channel(false);
        let listen = async |ear, port, over| {
            let listening = tokio::time::timeout(Duration::from_secs(30), listen(ear, port, over));
            listening.await.expect("it ends");
        };
        let (bell, ear) = rung(1);
        drop(bell);
        listen(ear, Arc::downgrade(&port), is_over.clone()).await;
        // Nor for a port that has gone.
        let (_bell, ear) = rung(1);
        let gone = Arc::downgrade(&port);
        drop(port);
        listen(ear, gone, is_over).await;
    }

    /// In each round two threads publish something and ring, at the same moment: both must be found by who looks
    /// when the port is poked, and only then.
    #[test]
    fn no_ring_is_lost_between_those_that_are_read_and_the_poke() {
        let port = Port::new(0, Spin::Never, Watcher::Task).unwrap();
        let (bell, ear) = Bell::for_another_user().unwrap();
        let (over, is_over) = watch::channel(false);
        let (turn, published) = (Barrier::new(3), AtomicU32::new(0));
        thread::scope(|scope| {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
                runtime
                    .unwrap()
                    .block_on(listen(ear, Arc::downgrade(&port), is_over));
            });
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..ROUNDS {
                        turn.wait();
                        published.fetch_add(1, Ordering::SeqCst);
                        bell.ring();
                    }
                });
            }
            let mut lost = None;
            for round in 1..=ROUNDS {
                turn.wait();
                while lost.is_none() && published.load(Ordering::SeqCst) != 2 * round {
                    let mut poked = [PollFd::new(port.bell().as_fd(), PollFlags::POLLIN)];
                    if poll(&mut poked, PollTimeout::from(10_000u16)).unwrap() == 0 {
                        lost = Some(round);
                    }
                    let mut counter = [0; 8];
                    let _ = nix::unistd::read(port.bell(), &mut counter);
                }
            }
            over.send_replace(true);
            assert_eq!(lost, None, "nobody was poked");
        });
    }
}
