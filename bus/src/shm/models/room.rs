//! Models of room on a link: places for replies, and who waits for what the peer gives back.

use std::{sync::Arc, task::Waker};

use loom::{sync::Condvar, thread};

use super::{Task, explore, returns, words};
use crate::shm::{
    doorbell::{Parker, Ringer},
    returns::{Return, ReturnReader},
    room::Room,
    sync::{AtomicU32, Mutex, Ordering, lock},
};

fn open(room: &Room) {
    Task::new().until(|waker| room.wait(waker), || room.open_ask().then_some(()));
}

#[test]
fn who_waits_for_a_replys_place_is_woken_when_one_is_free() {
    explore(6, || {
        let room = Arc::new(Room::new(1));
        assert!(room.open_ask());
        let other = thread::spawn({
            let room = room.clone();
            move || room.close_ask()
        });
        open(&room);
        other.join().unwrap();
        assert!(!room.open_ask(), "the place is taken");
    });
}

#[test]
fn two_that_give_places_up_at_once_wake_whoever_waits_for_both() {
    explore(3, || {
        let room = Arc::new(Room::new(2));
        let closing = [0, 1].map(|_| {
            assert!(room.open_ask());
            let room = room.clone();
            thread::spawn(move || room.close_ask())
        });
        open(&room);
        open(&room);
        for thread in closing {
            thread.join().unwrap();
        }
        assert!(!room.open_ask(), "both places are taken");
    });
}

#[test]
fn who_waits_for_several_places_is_woken_when_they_are_free_one_by_one() {
    explore(3, || {
        let room = Arc::new(Room::new(8));
        assert!((0..8).all(|_| room.open_ask()));
        let other = thread::spawn({
            let room = room.clone();
            move || {
                room.close_ask();
                room.close_ask();
            }
        });
        Task::new().until(|waker| room.wait(waker), || room.open_asks(2).then_some(()));
        other.join().unwrap();
        assert!(!room.open_ask(), "all are taken");
    });
}

#[test]
fn who_waits_for_a_place_is_woken_when_several_are_given_back_together() {
    explore(3, || {
        let room = Arc::new(Room::new(2));
        assert!(room.open_asks(2) && !room.open_asks(1));
        let other = thread::spawn({
            let room = room.clone();
            move || room.close_asks(2)
        });
        open(&room);
        other.join().unwrap();
        assert!(!room.open_asks(2), "one is taken");
    });
}

#[test]
fn asks_are_never_more_than_there_are_places_and_each_gets_one() {
    explore(2, || {
        let (room, at_once) = (Arc::new(Room::new(1)), Arc::new(AtomicU32::new(0)));
        let ask = |room: &Room, at_once: &AtomicU32| {
            open(room);
            assert_eq!(at_once.fetch_add(1, Ordering::Relaxed), 0, "two in one place");
            at_once.fetch_sub(1, Ordering::Relaxed);
            room.close_ask();
        };
        let askers = [0, 1].map(|_| {
            let (room, at_once) = (room.clone(), at_once.clone());
            thread::spawn(move || ask(&room, &at_once))
        });
        ask(&room, &at_once);
        for asker in askers {
            asker.join().unwrap();
        }
        assert!(room.open_ask(), "the place is free");
    });
}

/// The sending end of a link as far as waiting goes, with what `Link` does to it in the same order and under the same
/// lock, and the bell of its port.
struct Link {
    room: Room,
    sending: Mutex<Sending>,
    bell: Mutex<Rings>,
    edge: Condvar,
}

struct Rings {
    rung: bool,
    /// The model is over.
    over: bool,
}

struct Sending {
    returns: ReturnReader,
    waiting: Parker,
    /// Messages that the peer has not released.
    held: u32,
    window: u32,
    regained: bool,
}

impl Link {
    /// `Link::take_returns`.
    fn take_returns(sending: &mut Sending) {
        while let Some(what) = sending.returns.pop().unwrap() {
            assert_eq!(what, Return::Token(0));
            sending.held -= 1;
            sending.regained = true;
        }
    }

    /// `Link::send_request`.
    fn send(&self) -> Option<()> {
        let mut sending = lock(&self.sending);
        if sending.held == sending.window {
            Self::take_returns(&mut sending);
        }
        (sending.held < sending.window).then(|| sending.held += 1)
    }

    /// `Link::wait`.
    fn wait(&self, waker: &Waker) {
        self.room.wait(waker);
        lock(&self.sending).waiting.park();
    }

    /// `Link::collect`, and what `Port` does with the wakers.
    fn collect(&self) {
        let mut sending = lock(&self.sending);
        Self::take_returns(&mut sending);
        let progress = std::mem::take(&mut sending.regained);
        if progress {
            sending.waiting.unpark();
        }
        drop(sending);
        if progress {
            self.room.wake();
        }
    }

    /// `Link::wait_on`.
    fn wait_on(&self) {
        let mut sending = lock(&self.sending);
        if sending.waiting.is_parked() {
            sending.waiting.park();
        }
    }

    /// The port's task: `Port::park`, and a sleep.
    fn port(&self) {
        loop {
            if self.room.is_awaited() {
                self.wait_on();
            }
            if self.room.is_awaited() {
                self.collect();
            }
            let mut rings = lock(&self.bell);
            while !rings.rung {
                if rings.over {
                    return;
                }
                rings = self.edge.wait(rings).unwrap();
            }
            rings.rung = false;
        }
    }

    fn ring(&self) {
        lock(&self.bell).rung = true;
        self.edge.notify_one();
    }
}

/// Tasks that send a message each where the peer holds as many as it may, and gives back one after the other.
fn full_window(senders: u32) {
    let (mut writer, reader) = returns(4);
    let word = words(1);
    let ringer = Ringer::new(word.clone());
    let link = Arc::new(Link {
        room: Room::new(1),
        sending: Mutex::new(Sending {
            returns: reader,
            waiting: Parker::new(word),
            held: senders,
            window: senders,
            regained: false,
        }),
        bell: Mutex::new(Rings {
            rung: false,
            over: false,
        }),
        edge: Condvar::new(),
    });
    let port = thread::spawn({
        let link = link.clone();
        move || link.port()
    });
    let peer = thread::spawn({
        let link = link.clone();
        move || {
            for _ in 0..senders {
                writer.push(Return::Token(0));
                // `Inbound::kick`.
                if ringer.due() {
                    link.ring();
                }
            }
        }
    });
    let send = |link: &Link| Task::new().until(|waker| link.wait(waker), || link.send());
    let others: Vec<_> = (1..senders)
        .map(|_| {
            let link = link.clone();
            thread::spawn(move || send(&link))
        })
        .collect();
    send(&link);
    for thread in others {
        thread.join().unwrap();
    }
    peer.join().unwrap();
    lock(&link.bell).over = true;
    link.edge.notify_one();
    port.join().unwrap();
}

#[test]
fn who_waits_for_room_is_woken_by_what_the_peer_gives_back() {
    explore(3, || full_window(1));
}

#[test]
fn two_that_wait_for_room_are_both_woken_although_one_takes_back_what_the_other_waits_for() {
    explore(2, || full_window(2));
}
