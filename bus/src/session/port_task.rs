//! The task that sleeps on a port's bell and looks after the port when nobody else does.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
};

use tokio::{
    io::Interest,
    time::{Instant, sleep_until},
};

use super::{
    node::Node,
    port::{Next, Port, Watch},
    socket::watched,
};
use crate::error::ResourceError;

/// Ends the port with its task, also when a runtime is shut down under it.
struct Gone(Weak<Node>, Arc<Port>);

impl Drop for Gone {
    fn drop(&mut self) {
        match self.0.upgrade() {
            Some(node) => node.port_gone(&self.1),
            None => self.1.close(),
        }
    }
}

/// Makes the task; must be called inside the runtime that will run it.
pub(crate) fn run(
    node: Weak<Node>,
    port: Arc<Port>,
) -> Result<impl Future<Output = ()> + Send + 'static, ResourceError> {
    let bell = watched(port.bell().clone(), Interest::READABLE | Interest::WRITABLE).map_err(|source| {
        ResourceError {
            action: "watch a port's eventfd".into(),
            limit: "fs.epoll.max_user_watches",
            source,
        }
    })?;
    let on_ring = port.on_ring();
    let gone = Gone(node, port);
    Ok(async move {
        let port = &gone.1;
        let mut watch = Watch::default();
        let mut deadline = pin!(sleep_until(Instant::now()));
        poll_fn(|cx| {
            let mut ring = Context::from_waker(on_ring.as_ref().unwrap_or(cx.waker()));
            loop {
                // The edge is enough: the counter is never read. Taken before the look at the rings, so that
                // a ring that comes during the look is another edge.
                // Where a peer reads the counter, or fills it, before the kernel has told of a ring, it tells of
                // the other direction only.
                if let Poll::Ready(Ok(mut ready)) = bell.poll_read_ready(&mut ring) {
                    ready.clear_ready();
                }
                if let Poll::Ready(Ok(mut ready)) = bell.poll_write_ready(&mut ring) {
                    ready.clear_ready();
                }
                match port.round(&mut watch, cx) {
                    Next::Closed => return Poll::Ready(()),
                    Next::Again => {
                        // Deferred until the runtime has looked at its other tasks and its driver: woken
                        // at once, this task would be polled dozens of times before a main future that is
                        // ready has its turn.
                        let _ = pin!(tokio::task::yield_now()).poll(cx);
                        return Poll::Pending;
                    }
                    Next::Sleep(until) => {
                        // Both are asked, so that each wakes this task.
                        if bell.poll_read_ready(&mut ring).is_ready()
                            | bell.poll_write_ready(&mut ring).is_ready()
                        {
                            continue;
                        }
                        if let Some(until) = until.map(Instant::from_std) {
                            if deadline.deadline() != until {
                                deadline.as_mut().reset(until);
                            }
                            if deadline.as_mut().poll(cx).is_ready() {
                                continue;
                            }
                        }
                        return Poll::Pending;
                    }
                }
            }
        })
        .await;
    })
}
