//! What a ring of the port's bell does.
//!
//! The port's task is woken, always: whoever else is woken may have something else to do first. A task that alone waits
//! here is woken before it, and looks by itself: to be woken by the port's task costs a turn of the runtime, and an
//! `epoll_wait`, between a message and who waits for it.

use std::{
    sync::{Arc, Weak},
    task::{Wake, Waker},
};

use super::{Port, State, Watcher};

/// Is woken by the runtime's driver when the bell rings.
struct Rung(Weak<Port>);

impl Wake for Rung {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(port) = self.0.upgrade() {
            port.rung();
        }
    }
}

impl Port {
    /// What is to be woken when the bell rings. `None`: the port's task itself. On a runtime of several threads its tasks
    /// do not run one after the other.
    pub(crate) fn on_ring(self: &Arc<Self>) -> Option<Waker> {
        (self.watcher == Watcher::Task).then(|| Arc::new(Rung(Arc::downgrade(self))).into())
    }

    fn rung(&self) {
        self.with(|state| {
            let State {
                asks,
                mailboxes,
                wakers,
                task,
                ..
            } = state;
            let alone = match (asks.open_count(), mailboxes.sole()) {
                (1, _) => asks.take_last_waker(),
                (0, Some(mailbox)) => mailbox.take_waker(),
                _ => None,
            };
            wakers.extend(alone);
            wakers.extend(task.clone());
        });
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Mutex,
        task::Context,
        time::{Duration, Instant},
    };

    use super::*;
    use crate::{
        config::Spin,
        session::{delivery::Deliveries, frame::Binding, mailbox::Mailbox, port::Watch},
        shm::sync::lock,
    };

    type Woken = Arc<Mutex<Vec<&'static str>>>;

    struct Tells(&'static str, Woken);

    impl Wake for Tells {
        fn wake(self: Arc<Self>) {
            lock(&self.1).push(self.0);
        }
    }

    /// Who is woken by the ring, in this order.
    fn ring(port: &Arc<Port>, woken: &Woken) -> Vec<&'static str> {
        lock(woken).clear();
        port.on_ring().expect("a task looks").wake();
        std::mem::take(&mut lock(woken))
    }

    fn mailbox(port: &Arc<Port>) -> Arc<Mailbox> {
        let binding = Binding {
            name: "name".into(),
            port: port.id,
            mailbox: port.reserve_mailbox(8).expect("there is room"),
            window: 1,
            kinds: Vec::new(),
        };
        let mailbox = Mailbox::new(binding, Vec::new(), port.clone(), None, Weak::new());
        port.add_mailbox(mailbox.clone());
        mailbox
    }

    #[test]
    fn who_waits_alone_is_woken_before_the_ports_task() {
        let port = Port::new(1, Spin::Never, Watcher::Task).unwrap();
        let woken = Woken::default();
        let waker = |name| Waker::from(Arc::new(Tells(name, woken.clone())));
        assert!(ring(&port, &woken).is_empty(), "nobody is there");
        port.round(&mut Watch::default(), &Context::from_waker(&waker("task")));
        assert_eq!(ring(&port, &woken), ["task"]);

        let (actor, other) = (mailbox(&port), mailbox(&port));
        let wait = |mailbox: &Mailbox, name| {
            let waker = waker(name);
            mailbox.take(&mut Deliveries::default(), Some(&Context::from_waker(&waker)))
        };
        wait(&actor, "actor");
        assert_eq!(ring(&port, &woken), ["task"], "it may be for the other one");
        port.remove_mailbox(other.binding.mailbox);
        assert_eq!(ring(&port, &woken), ["actor", "task"]);
        assert_eq!(ring(&port, &woken), ["task"], "once, until it waits again");

        wait(&actor, "actor");
        let ask = |name| {
            port.with(|state| {
                let ticket = state.asks.open(1);
                state.asks.limit(ticket, Instant::now() + Duration::from_secs(60));
                state.asks.poll(ticket, Some(&waker(name)));
                ticket
            })
        };
        let first = ask("first");
        assert_eq!(ring(&port, &woken), ["first", "task"]);
        port.with(|state| state.asks.poll(first, Some(&waker("first"))));
        let second = ask("second");
        assert_eq!(ring(&port, &woken), ["task"], "which of them is not known");
        for ticket in [first, second] {
            port.with(|state| state.asks.abandon(ticket));
        }
        assert_eq!(ring(&port, &woken), ["actor", "task"]);
        // It has the mailbox, which has it.
        port.close();
    }

    #[test]
    fn on_several_threads_the_bell_wakes_the_ports_task_itself() {
        let port = Port::new(1, Spin::Never, Watcher::Helpers).unwrap();
        assert!(port.on_ring().is_none());
    }
}
